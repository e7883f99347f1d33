//! `/proc/net/ip_vs_stats`, `/proc/net/ip_vs` → `node_ipvs_*`: the kernel's load balancer and the servers behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cloudpulse_common::exposition::Kind::{Counter, Gauge};
use cloudpulse_common::exposition::{Number, Page};

use super::family::{Described, Family, Gathered};
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, hexadecimal, integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "ipvs",
    about: "The kernel's load balancer and the servers behind it",
    by_default: true,
    new: |host, filters: &Filters| {
        Box::new(Ipvs {
            stats: host.own_proc_file("net/ip_vs_stats", Shape::Whole),
            table: host.own_proc_file("net/ip_vs", Shape::Records { longest: 256 }),
            labels: LABELS
                .map(|label| filters.ipvs_labels.as_ref().is_none_or(|chosen| chosen.iter().any(|c| c == label))),
        })
    },
};

/// All labels of a server, in node_exporter's order.
const LABELS: [&str; 6] = ["local_address", "local_port", "remote_address", "remote_port", "proto", "local_mark"];

/// Counts of the third line of the statistics.
const TOTALS: [Described; 5] = [
    ("node_ipvs_connections_total", "Connections.", Counter),
    ("node_ipvs_incoming_packets_total", "Packets received.", Counter),
    ("node_ipvs_outgoing_packets_total", "Packets sent.", Counter),
    ("node_ipvs_incoming_bytes_total", "Bytes received.", Counter),
    ("node_ipvs_outgoing_bytes_total", "Bytes sent.", Counter),
];
/// Columns of the table, from the fourth.
const COLUMNS: [Described; 3] = [
    ("node_ipvs_backend_weight", "Weight of the server.", Gauge),
    ("node_ipvs_backend_connections_active", "Active connections to the server.", Gauge),
    ("node_ipvs_backend_connections_inactive", "Inactive connections to the server.", Gauge),
];

#[derive(Debug)]
struct Ipvs {
    stats: KeptFile,
    table: KeptFile,
    /// Which of all labels are shown. What then has the same labels is added up.
    labels: [bool; LABELS.len()],
}

/// A server behind a service, or several that are told apart by no label.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    labels: [String; LABELS.len()],
    counts: [u64; COLUMNS.len()],
}

impl Collector for Ipvs {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let stats = host.read_alone(&mut self.stats)?;
        let totals = lines(stats).nth(2).unwrap_or_default();
        for ((name, help, kind), total) in TOTALS.into_iter().zip(words(totals)) {
            let total = hexadecimal(total).ok_or_else(|| Malformed::new("a line of ip_vs_stats", totals))?;
            Family::new(name, help, kind).single(page, Number::Integer(total));
        }
        let servers = parse(host.read_alone(&mut self.table)?, self.labels)?;
        let mut gathered = Gathered::new(&COLUMNS);
        for server in &servers {
            let labels: [(&str, &str); LABELS.len()] =
                std::array::from_fn(|at| (LABELS[at], server.labels[at].as_str()));
            for (at, count) in server.counts.into_iter().enumerate() {
                gathered.push(at, &labels, Number::Integer(count));
            }
        }
        gathered.write(page);
        Ok(())
    }
}

/// Returns the servers; labels that are not `shown` are empty.
fn parse(table: &[u8], shown: [bool; LABELS.len()]) -> Result<Vec<Server>, Malformed> {
    let mut servers: Vec<Server> = Vec::new();
    // Address, port, protocol and mark of the service whose servers follow.
    let mut service = [const { String::new() }; 4];
    for line in lines(table) {
        let malformed = || Malformed::new("a line of ip_vs", line);
        let mut words = words(line);
        match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
            (_, b"RemoteAddress:Port") => {}
            (protocol @ (b"TCP" | b"UDP" | b"SCTP"), address) => {
                let (address, port) = parse_address(address).ok_or_else(malformed)?;
                service = [address, port, String::from_utf8_lossy(protocol).into_owned(), String::new()];
            }
            (b"FWM", mark) => {
                let mark = String::from_utf8_lossy(mark).into_owned();
                service = [String::new(), "0".to_owned(), "FWM".to_owned(), mark];
            }
            (b"->", address) => {
                let (remote, remote_port) = parse_address(address).ok_or_else(malformed)?;
                let [local, local_port, protocol, mark] = service.clone();
                let mut labels = [local, local_port, remote, remote_port, protocol, mark];
                for (label, shown) in labels.iter_mut().zip(shown) {
                    if !shown {
                        label.clear();
                    }
                }
                let mut columns = words.skip(1).map(integer);
                let mut column = || columns.next().flatten().ok_or_else(malformed);
                let counts = [column()?, column()?, column()?];
                match servers.iter_mut().find(|server| server.labels == labels) {
                    Some(server) => {
                        for (sum, count) in server.counts.iter_mut().zip(counts) {
                            *sum = sum.saturating_add(count);
                        }
                    }
                    None => servers.push(Server { labels, counts }),
                }
            }
            // The heading.
            _ => {}
        }
    }
    Ok(servers)
}

/// Returns address and port of `C0A80016:0CEA` or `[fe80:0000:…:0001]:0CEA`.
fn parse_address(word: &[u8]) -> Option<(String, String)> {
    let (address, port) = std::str::from_utf8(word).ok()?.rsplit_once(':')?;
    let port = hexadecimal(port.as_bytes())?;
    let address = match address.strip_prefix('[') {
        Some(address) => IpAddr::from(address.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?),
        None => Ipv4Addr::from(u32::try_from(hexadecimal(address.as_bytes())?).ok()?).into(),
    };
    Some((address.to_string(), port.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const STATS: &str = "   Total Incoming Outgoing         Incoming         Outgoing\n   Conns  Packets  Packets            Bytes            Bytes\n \
                         16AA370 E33656E5        0     51D8C8883AB3                0\n\n";
    const TABLE: &str = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n\
                         \x20 -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
                         TCP  C0A80016:0CEA wlc  \n  -> C0A85216:0CEA      Tunnel  100    248        2\n\
                         UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 rr\n\
                         \x20 -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0035      Route   1 2 3\n\
                         FWM  10001000 wlc   \n  -> C0A8321A:0CEA      Tunnel  20     64         1\n";

    fn files() -> [(&'static str, &'static str); 2] {
        [("proc/net/ip_vs_stats", STATS), ("proc/net/ip_vs", TABLE)]
    }

    #[test]
    fn totals_and_servers_are_shown() {
        let samples = Fixture::new(&ENTRY, &files()).samples().unwrap();
        assert_eq!(samples[0], "node_ipvs_connections_total 23765872");
        assert_eq!(
            samples[5..8],
            [
                "node_ipvs_backend_weight{local_address=\"192.168.0.22\",local_port=\"3306\",\
                 remote_address=\"192.168.82.22\",remote_port=\"3306\",proto=\"TCP\"} 100",
                "node_ipvs_backend_weight{local_address=\"2001:db8::1\",local_port=\"53\",\
                 remote_address=\"2001:db8::2\",remote_port=\"53\",proto=\"UDP\"} 1",
                "node_ipvs_backend_weight{local_port=\"0\",remote_address=\"192.168.50.26\",remote_port=\"3306\",\
                 proto=\"FWM\",local_mark=\"10001000\"} 20",
            ]
        );
        assert_eq!(samples.len(), 5 + 9);
        assert!(matches!(Fixture::new(&ENTRY, &[]).page(), Err(CollectError::NoData(_))));
    }

    #[test]
    fn servers_that_no_label_tells_apart_are_added_up() {
        let filters = Filters { ipvs_labels: Some(vec!["remote_port".to_owned()]), ..Filters::default() };
        let samples = Fixture::with_filters(&ENTRY, &files(), &filters).samples().unwrap();
        assert_eq!(
            samples[5..7],
            ["node_ipvs_backend_weight{remote_port=\"3306\"} 120", "node_ipvs_backend_weight{remote_port=\"53\"} 1"]
        );
    }

    proptest! {
        #[test]
        fn any_table_is_read_or_refused(table: Vec<u8>, text in "((TCP|->|FWM)  ?[0-9A-F:\\[\\]]{0,20}( [0-9]{1,4}){0,4}\n)*") {
            let _ = (parse(&table, [true; 6]), parse(text.as_bytes(), [false; 6]));
        }
    }
}
