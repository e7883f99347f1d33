//! `/sys/class/infiniband` → `node_infiniband_*` per port of an InfiniBand or RoCE adapter.

use std::path::{Path, PathBuf};

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

use super::class::text;
use super::devices::Devices;
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::{Attributes, LONGEST, names};
use crate::config::Filters;
use crate::filter::Filter;
use crate::host::Host;
use crate::parse::{Scale, integer, scaled};

pub(super) const ENTRY: Entry = Entry {
    name: "infiniband",
    about: "Traffic and errors of InfiniBand adapters",
    by_default: true,
    new: |host, filters: &Filters| {
        Box::new(Infiniband {
            folder: host.roots().sysfs.join("class/infiniband"),
            filter: filters.infiniband_devices.clone(),
            adapters: Devices::new(),
        })
    },
};

/// Adapters, and ports of each.
const MOST: usize = 256;

/// Files of an adapter, each a label.
const LABELS: [(&str, &str); 3] = [("board_id", "board_id"), ("fw_ver", "firmware_version"), ("hca_type", "hca_type")];
/// Gauges of a port: file, and what its family is called behind `node_infiniband_`.
const GAUGES: [(&str, &str); 4] = [
    ("state", "state_id"),
    ("phys_state", "physical_state_id"),
    ("rate", "rate_bytes_per_second"),
    ("hw_counters/lifespan", "lifespan_seconds"),
];
/// Counters of a port.
#[rustfmt::skip]
const COUNTERS: [(&str, &str); 59] = [
    ("counters_ext/port_multicast_rcv_packets", "legacy_multicast_packets_received_total"),
    ("counters_ext/port_multicast_xmit_packets", "legacy_multicast_packets_transmitted_total"),
    ("counters_ext/port_rcv_data_64", "legacy_data_received_bytes_total"),
    ("counters_ext/port_rcv_packets_64", "legacy_packets_received_total"),
    ("counters_ext/port_unicast_rcv_packets", "legacy_unicast_packets_received_total"),
    ("counters_ext/port_unicast_xmit_packets", "legacy_unicast_packets_transmitted_total"),
    ("counters_ext/port_xmit_data_64", "legacy_data_transmitted_bytes_total"),
    ("counters_ext/port_xmit_packets_64", "legacy_packets_transmitted_total"),
    ("counters/excessive_buffer_overrun_errors", "excessive_buffer_overrun_errors_total"),
    ("counters/link_downed", "link_downed_total"),
    ("counters/link_error_recovery", "link_error_recovery_total"),
    ("counters/local_link_integrity_errors", "local_link_integrity_errors_total"),
    ("counters/multicast_rcv_packets", "multicast_packets_received_total"),
    ("counters/multicast_xmit_packets", "multicast_packets_transmitted_total"),
    ("counters/port_rcv_constraint_errors", "port_constraint_errors_received_total"),
    ("counters/port_xmit_constraint_errors", "port_constraint_errors_transmitted_total"),
    ("counters/port_rcv_data", "port_data_received_bytes_total"),
    ("counters/port_xmit_data", "port_data_transmitted_bytes_total"),
    ("counters/port_rcv_discards", "port_discards_received_total"),
    ("counters/port_xmit_discards", "port_discards_transmitted_total"),
    ("counters/port_rcv_errors", "port_errors_received_total"),
    ("counters/port_rcv_packets", "port_packets_received_total"),
    ("counters/port_xmit_packets", "port_packets_transmitted_total"),
    ("counters/port_xmit_wait", "port_transmit_wait_total"),
    ("counters/unicast_rcv_packets", "unicast_packets_received_total"),
    ("counters/unicast_xmit_packets", "unicast_packets_transmitted_total"),
    ("counters/port_rcv_remote_physical_errors", "port_receive_remote_physical_errors_total"),
    ("counters/port_rcv_switch_relay_errors", "port_receive_switch_relay_errors_total"),
    ("counters/symbol_error", "symbol_error_total"),
    ("counters/VL15_dropped", "vl15_dropped_total"),
    ("hw_counters/duplicate_request", "duplicate_requests_packets_total"),
    ("hw_counters/implied_nak_seq_err", "implied_nak_seq_errors_total"),
    ("hw_counters/local_ack_timeout_err", "local_ack_timeout_errors_total"),
    ("hw_counters/np_cnp_sent", "np_cnp_packets_sent_total"),
    ("hw_counters/np_ecn_marked_roce_packets", "np_ecn_marked_roce_packets_received_total"),
    ("hw_counters/out_of_buffer", "out_of_buffer_drops_total"),
    ("hw_counters/out_of_sequence", "out_of_sequence_packets_received_total"),
    ("hw_counters/packet_seq_err", "packet_sequence_errors_total"),
    ("hw_counters/req_cqe_error", "req_cqes_errors_total"),
    ("hw_counters/req_cqe_flush_error", "req_cqes_flush_errors_total"),
    ("hw_counters/req_remote_access_errors", "req_remote_access_errors_total"),
    ("hw_counters/req_remote_invalid_request", "req_remote_invalid_request_errors_total"),
    ("hw_counters/resp_cqe_error", "resp_cqes_errors_total"),
    ("hw_counters/resp_cqe_flush_error", "resp_cqes_flush_errors_total"),
    ("hw_counters/resp_local_length_error", "resp_local_length_errors_total"),
    ("hw_counters/resp_remote_access_errors", "resp_remote_access_errors_total"),
    ("hw_counters/rnr_nak_retry_err", "rnr_nak_retry_packets_received_total"),
    ("hw_counters/roce_adp_retrans", "roce_adp_retransmits_total"),
    ("hw_counters/roce_adp_retrans_to", "roce_adp_retransmits_timeout_total"),
    ("hw_counters/roce_slow_restart", "roce_slow_restart_used_total"),
    ("hw_counters/roce_slow_restart_cnps", "roce_slow_restart_cnps_total"),
    ("hw_counters/roce_slow_restart_trans", "roce_slow_restart_total"),
    ("hw_counters/rp_cnp_handled", "rp_cnp_packets_handled_total"),
    ("hw_counters/rp_cnp_ignored", "rp_cnp_ignored_packets_received_total"),
    ("hw_counters/rx_atomic_requests", "rx_atomic_requests_total"),
    ("hw_counters/rx_dct_connect", "rx_dct_connect_requests_total"),
    ("hw_counters/rx_read_requests", "rx_read_requests_total"),
    ("hw_counters/rx_write_requests", "rx_write_requests_total"),
    ("hw_counters/rx_icrc_encapsulated", "rx_icrc_encapsulated_errors_total"),
];

#[derive(Debug)]
struct Infiniband {
    folder: PathBuf,
    filter: Filter,
    adapters: Devices<Adapter>,
}

#[derive(Debug)]
struct Adapter {
    info: Labels,
    /// Fixed, as an adapter is.
    ports: Vec<Port>,
}

#[derive(Debug)]
struct Port {
    labels: Labels,
    files: Attributes,
}

impl Collector for Infiniband {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let Self { folder, filter, adapters } = self;
        let list = names(folder, MOST, |name| filter.accepts(name))?;
        adapters.begin();
        for name in &list {
            adapters.entry(name.as_bytes(), |name| Adapter::new(name, &folder.join(name)));
        }
        adapters.finish();
        let mut info = Family::gauge("node_infiniband_info", "Always 1; what the adapter is.");
        for adapter in adapters.iter() {
            info.labelled(page, &adapter.info, Number::Integer(1));
        }
        let gauges = GAUGES.iter().map(|row| (row, Kind::Gauge));
        let counters = COUNTERS.iter().map(|row| (row, Kind::Counter));
        let mut buffer = [0; LONGEST];
        for (at, ((file, name), kind)) in gauges.chain(counters).enumerate() {
            let (name, help) = (format!("node_infiniband_{name}"), format!("File {file} of the port, in base units."));
            let mut family = Family::new(&name, &help, kind);
            for port in adapters.iter_mut().flat_map(|adapter| &mut adapter.ports) {
                if let Some(value) = port.files.read(at, file, &mut buffer).and_then(|content| value(file, content)) {
                    family.labelled(page, &port.labels, value);
                }
            }
        }
        Ok(())
    }
}

impl Adapter {
    fn new(name: &str, folder: &Path) -> Self {
        let mut buffer = [0; LONGEST];
        let mut files = Attributes::new(folder.to_owned(), LABELS.len());
        let mut at = 0;
        let values = LABELS.map(|(file, _)| {
            at += 1;
            text(files.read(at - 1, file, &mut buffer))
        });
        let labels = LABELS.iter().zip(&values).map(|((_, label), value)| (*label, value.as_str()));
        let labels: Vec<(&str, &str)> = std::iter::once(("device", name)).chain(labels).collect();
        let ports = folder.join("ports");
        let port = |number: &String| Port {
            labels: Labels::new(&[("device", name), ("port", number)]),
            files: Attributes::new(ports.join(number), GAUGES.len() + COUNTERS.len()),
        };
        let is_port = |name: &str| integer(name.as_bytes()).is_some();
        let list = names(&ports, MOST, is_port).unwrap_or_default();
        Self { info: Labels::new(&labels), ports: list.iter().map(port).collect() }
    }
}

/// Returns the value of a file in base units; `None` where an adapter says that it does not count this.
fn value(file: &str, content: &[u8]) -> Option<Number> {
    match file {
        // `4: ACTIVE`
        "state" | "phys_state" => scaled(content.split(|byte| *byte == b':').next()?, Scale::WHOLE),
        // `2.5 Gb/sec (1X SDR)`
        "rate" => {
            let gigabits = std::str::from_utf8(content.split(|byte| *byte == b' ').next()?).ok()?;
            Some(Number::Float(gigabits.parse::<f64>().ok()? * 125e6))
        }
        "hw_counters/lifespan" => scaled(content, Scale::MILLI),
        // In units of four bytes, whatever the width of the link.
        "counters/port_rcv_data"
        | "counters/port_xmit_data"
        | "counters_ext/port_rcv_data_64"
        | "counters_ext/port_xmit_data_64" => scaled(content, Scale::times(4)),
        _ => scaled(content, Scale::WHOLE),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn ports_are_shown_in_base_units() {
        let at = "sys/class/infiniband/mlx5_0";
        let files = [
            (format!("{at}/fw_ver"), "2.31.5050\n"),
            (format!("{at}/board_id"), "SM_1141000001000\n"),
            (format!("{at}/ports/1/state"), "4: ACTIVE\n"),
            (format!("{at}/ports/1/phys_state"), "5: LinkUp\n"),
            (format!("{at}/ports/1/rate"), "2.5 Gb/sec (1X SDR)\n"),
            (format!("{at}/ports/1/counters/port_rcv_data"), "10\n"),
            (format!("{at}/ports/1/counters/link_downed"), "N/A (no PMA)\n"),
            (format!("{at}/ports/1/hw_counters/lifespan"), "10\n"),
            ("sys/class/infiniband/other/fw_ver".to_owned(), "1\n"),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, content)| (path.as_str(), *content)).collect();
        let only = regex_lite::Regex::new("^mlx").unwrap();
        let filters =
            Filters { infiniband_devices: Filter { include: Some(only), exclude: None }, ..Filters::default() };
        let mut fixture = Fixture::with_filters(&ENTRY, &files, &filters);
        let port = "device=\"mlx5_0\",port=\"1\"";
        let expected = [
            "node_infiniband_info{device=\"mlx5_0\",board_id=\"SM_1141000001000\",firmware_version=\"2.31.5050\"} 1"
                .to_owned(),
            format!("node_infiniband_state_id{{{port}}} 4"),
            format!("node_infiniband_physical_state_id{{{port}}} 5"),
            format!("node_infiniband_rate_bytes_per_second{{{port}}} 312500000"),
            format!("node_infiniband_lifespan_seconds{{{port}}} 0.01"),
            format!("node_infiniband_port_data_received_bytes_total{{{port}}} 40"),
        ];
        for _ in 0..2 {
            assert_eq!(fixture.samples().unwrap(), expected);
        }
        assert!(matches!(Fixture::new(&ENTRY, &[]).page(), Err(CollectError::NoData(_))));
    }
}
