//! `/sys/class/fc_host` → `node_fibrechannel_*` per port of a Fibre Channel adapter.

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::class::{Attribute, Class, text};
use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::LONGEST;
use crate::config::Filters;
use crate::host::Host;
use crate::parse::hexadecimal;

pub(super) const ENTRY: Entry = Entry {
    name: "fibrechannel",
    about: "Traffic and errors of Fibre Channel adapters",
    by_default: true,
    new: |host, _: &Filters| {
        Box::new(Hosts { class: Class::new(host.roots().sysfs.join("class/fc_host"), &ATTRIBUTES) })
    },
};

const MOST: usize = 1024;

#[rustfmt::skip]
const ATTRIBUTES: [Attribute; 14] = [
    Attribute::counter("statistics/dumped_frames", "node_fibrechannel_dumped_frames_total", "Frames that were dropped."),
    Attribute::counter("statistics/error_frames", "node_fibrechannel_error_frames_total", "Frames with errors."),
    Attribute::counter("statistics/invalid_crc_count", "node_fibrechannel_invalid_crc_total", "Frames with a wrong checksum."),
    Attribute::counter("statistics/rx_frames", "node_fibrechannel_rx_frames_total", "Frames received."),
    Attribute::counter("statistics/rx_words", "node_fibrechannel_rx_words_total", "Words received."),
    Attribute::counter("statistics/tx_frames", "node_fibrechannel_tx_frames_total", "Frames sent."),
    Attribute::counter("statistics/tx_words", "node_fibrechannel_tx_words_total", "Words sent."),
    Attribute::counter("statistics/seconds_since_last_reset", "node_fibrechannel_seconds_since_last_reset_total", "Time since the port was reset."),
    Attribute::counter("statistics/invalid_tx_word_count", "node_fibrechannel_invalid_tx_words_total", "Invalid words sent."),
    Attribute::counter("statistics/link_failure_count", "node_fibrechannel_link_failure_total", "How often the link failed."),
    Attribute::counter("statistics/loss_of_sync_count", "node_fibrechannel_loss_of_sync_total", "How often synchronisation was lost."),
    Attribute::counter("statistics/loss_of_signal_count", "node_fibrechannel_loss_of_signal_total", "How often the signal was lost."),
    Attribute::counter("statistics/nos_count", "node_fibrechannel_nos_total", "How often the port was told that the link does not work."),
    Attribute::counter("statistics/fcp_packet_aborts", "node_fibrechannel_fcp_packet_aborts_total", "Packets that were given up."),
];
/// Further files, each a label; those of numbers lose their `0x`.
const LABELS: [(&str, bool); 10] = [
    ("speed", false),
    ("port_state", false),
    ("port_type", false),
    ("port_id", true),
    ("port_name", true),
    ("fabric_name", true),
    ("symbolic_name", false),
    ("supported_classes", false),
    ("supported_speeds", false),
    ("dev_loss_tmo", false),
];

#[derive(Debug)]
struct Hosts {
    class: Class,
}

impl Collector for Hosts {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        self.class.list(MOST, LABELS.len(), |name, _| Some(Labels::new(&[("fc_host", name)])))?;
        let mut buffer = [0; LONGEST];
        let mut info = Family::gauge("node_fibrechannel_info", "Always 1; what the port is.");
        for device in self.class.devices() {
            let mut at = ATTRIBUTES.len();
            let values = LABELS.map(|(file, is_number)| {
                let value = text(device.files.read(at, file, &mut buffer));
                at += 1;
                let shown = if is_number { value.strip_prefix("0x").unwrap_or(&value) } else { &value };
                shown.to_owned()
            });
            let labels = LABELS.iter().zip(&values).map(|((label, _), value)| (*label, value.as_str()));
            let labels: Vec<(&str, &str)> = std::iter::once(("fc_host", &*device.name)).chain(labels).collect();
            info.info(page, &labels);
        }
        for (at, attribute) in ATTRIBUTES.iter().enumerate() {
            let mut family = Family::new(attribute.family, attribute.help, attribute.kind);
            for device in self.class.devices() {
                let count = device.files.read(at, attribute.file, &mut buffer);
                // The largest number stands for what the adapter does not count.
                let count = count.and_then(|count| hexadecimal(count.strip_prefix(b"0x")?));
                if let Some(count) = count.filter(|count| *count != u64::MAX) {
                    family.labelled(page, &device.labels, Number::Integer(count));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn what_a_port_counts_is_shown() {
        let files = [
            ("sys/class/fc_host/host0/speed", "16 Gbit\n"),
            ("sys/class/fc_host/host0/port_id", "0x000002\n"),
            ("sys/class/fc_host/host0/statistics/rx_frames", "0x3\n"),
            ("sys/class/fc_host/host0/statistics/tx_words", "0x10\n"),
            ("sys/class/fc_host/host0/statistics/nos_count", "0xffffffffffffffff\n"),
            ("sys/class/fc_host/host0/statistics/dumped_frames", "x\n"),
        ];
        let mut fixture = Fixture::new(&ENTRY, &files);
        for _ in 0..2 {
            assert_eq!(
                fixture.samples().unwrap(),
                [
                    "node_fibrechannel_info{fc_host=\"host0\",speed=\"16 Gbit\",port_id=\"000002\"} 1",
                    "node_fibrechannel_rx_frames_total{fc_host=\"host0\"} 3",
                    "node_fibrechannel_tx_words_total{fc_host=\"host0\"} 16",
                ]
            );
        }
        assert!(matches!(Fixture::new(&ENTRY, &[]).page(), Err(CollectError::NoData(_))));
    }
}
