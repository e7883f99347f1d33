//! `/proc/net/netstat`, `/proc/net/snmp`, `/proc/net/snmp6` → an untyped `node_netstat_<protocol>_<field>` per chosen field.

use cloudpulse_common::exposition::Page;

use super::selection::{Field, Selection};
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "netstat",
    about: "Counters of IP, ICMP, TCP and UDP",
    by_default: true,
    new: |host, filters: &Filters| {
        let file = |path: &str, shape, fields| {
            let selection = Selection::new(filters.netstat_fields.as_ref(), is_default);
            Source { file: host.own_proc_file(path, shape), fields, selection }
        };
        Box::new(Netstat {
            sources: [
                file("net/netstat", Shape::Whole, Layout::Pairs),
                file("net/snmp", Shape::Whole, Layout::Pairs),
                file("net/snmp6", Shape::Whole, Layout::Lines),
            ],
        })
    },
};

/// Returns what node_exporter's default pattern does; a test has that pattern.
fn is_default(key: &str) -> bool {
    let Some((protocol, name)) = key.split_once('_') else { return false };
    let has = |names: &[&str]| names.contains(&name);
    key.ends_with("_InErrors")
        || key.ends_with("_InErrs")
        || match protocol {
            "Ip" => name == "Forwarding",
            "Ip6" | "IpExt" => has(&["InOctets", "OutOctets"]),
            "Icmp" | "Icmp6" => has(&["InMsgs", "OutMsgs"]),
            "TcpExt" => {
                name.starts_with("Listen")
                    || name.starts_with("Syncookies")
                    || has(&["TCPSynRetrans", "TCPTimeouts", "TCPOFOQueue", "TCPRcvQDrop"])
            }
            "Tcp" => has(&["ActiveOpens", "InSegs", "OutSegs", "OutRsts", "PassiveOpens", "RetransSegs", "CurrEstab"]),
            "Udp" | "Udp6" => has(&["InDatagrams", "OutDatagrams", "NoPorts", "RcvbufErrors", "SndbufErrors"]),
            _ => false,
        }
}

#[derive(Debug)]
struct Netstat {
    sources: [Source; 3],
}

#[derive(Debug)]
struct Source {
    file: KeptFile,
    fields: Layout,
    selection: Selection,
}

#[derive(Debug, Clone, Copy)]
enum Layout {
    /// A line of names, then one of values; the protocol before both.
    Pairs,
    /// A name and a value on each line; the protocol ends with a 6.
    Lines,
}

impl Collector for Netstat {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let help = |protocol: &str, name: &str| format!("Statistic {protocol}{name}.");
        let mut absent = None;
        let mut found = false;
        for Source { file, fields, selection } in &mut self.sources {
            // A machine without IPv6 does not have the last.
            let content = match host.read_alone(file) {
                Ok(content) => content,
                Err(error @ CollectError::NoData(_)) => {
                    absent.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            found = true;
            match fields {
                Layout::Pairs => selection.write(pairs(content), "node_netstat_", help, page),
                Layout::Lines => selection.write(singles(content), "node_netstat_", help, page),
            }
        }
        absent.filter(|_| !found).map_or(Ok(()), Err)
    }
}

fn pairs(content: &[u8]) -> impl Iterator<Item = Field<'_>> + Clone {
    // Of two lines with another protocol or number of words, those fields are taken that both have.
    let heads = lines(content).step_by(2).zip(lines(content).skip(1).step_by(2));
    heads.flat_map(|(names, values)| {
        let mut names = words(names);
        let group = names.next().unwrap_or_default();
        let group = group.strip_suffix(b":").unwrap_or(group);
        names.zip(words(values).skip(1)).map(move |(name, value)| Field { group, name, value })
    })
}

fn singles(content: &[u8]) -> impl Iterator<Item = Field<'_>> + Clone {
    lines(content).filter_map(|line| {
        let mut words = words(line);
        let (name, value) = (words.next()?, words.next()?);
        let six = memchr::memchr(b'6', name)?;
        Some(Field { group: &name[..=six], name: &name[six + 1..], value })
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;
    use regex_lite::Regex;

    /// Of its newest version.
    const DEFAULT: &str = "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|\
        Icmp6?_(InMsgs|OutMsgs)|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|\
        Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|\
        Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$";

    /// Every field that this kernel has, and every protocol with every name of the pattern.
    #[test]
    fn the_default_is_the_pattern_of_node_exporter() {
        let pattern = Regex::new(DEFAULT).unwrap();
        let words =
            |text: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect::<Vec<_>>();
        let files = ["netstat", "snmp", "snmp6"].map(|file| std::fs::read_to_string(format!("/proc/net/{file}")));
        let names = words(DEFAULT).into_iter().chain(files.iter().flatten().flat_map(|text| words(text)));
        let mut chosen = 0;
        for name in names {
            for protocol in ["Ip", "Ip6", "IpExt", "Icmp", "Icmp6", "Tcp", "TcpExt", "Udp", "Udp6", "UdpLite", ""] {
                for key in [format!("{protocol}_{name}"), format!("{protocol}{name}"), format!("{protocol}_a_{name}")] {
                    assert_eq!(is_default(&key), pattern.is_match(&key), "{key}");
                    chosen += usize::from(is_default(&key));
                }
            }
        }
        assert!(chosen > 40, "{chosen}");
    }

    #[test]
    fn other_fields_are_chosen_by_the_filter() {
        let filters = Filters { netstat_fields: Regex::new("^Ip_D").ok(), ..Filters::default() };
        let samples = Fixture::with_filters(&ENTRY, &[("proc/net/snmp", SNMP)], &filters).samples().unwrap();
        assert_eq!(samples, ["node_netstat_Ip_DefaultTTL 64"]);
    }

    const NETSTAT: &str =
        "TcpExt: SyncookiesSent ListenDrops TW\nTcpExt: 1 2 3\nIpExt: InNoRoutes InOctets\nIpExt: 4 5\n";
    const SNMP: &str = "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: MaxConn InErrs\nTcp: -1 6\n";
    const SNMP6: &str =
        "Ip6InReceives                   \t7\nIp6InOctets    \t8\nUdpLite6InErrors\t9\nIcmp6OutMsgs\t10\n";

    #[test]
    fn the_default_fields_of_all_three_are_written() {
        let files = [("proc/net/netstat", NETSTAT), ("proc/net/snmp", SNMP), ("proc/net/snmp6", SNMP6)];
        let mut fixture = Fixture::new(&ENTRY, &files);
        for _ in 0..2 {
            assert_eq!(
                fixture.samples().unwrap(),
                [
                    "node_netstat_TcpExt_SyncookiesSent 1",
                    "node_netstat_TcpExt_ListenDrops 2",
                    "node_netstat_IpExt_InOctets 5",
                    "node_netstat_Ip_Forwarding 1",
                    "node_netstat_Tcp_InErrs 6",
                    "node_netstat_Ip6_InOctets 8",
                    "node_netstat_UdpLite6_InErrors 9",
                    "node_netstat_Icmp6_OutMsgs 10",
                ]
            );
        }
    }

    #[test]
    fn a_machine_without_ipv6_has_the_others_and_one_without_any_has_no_data() {
        let mut fixture = Fixture::new(&ENTRY, &[("proc/net/snmp", SNMP)]);
        assert_eq!(fixture.samples().unwrap().len(), 2);
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
    }

    proptest! {
        #[test]
        fn any_content_is_read(content: Vec<u8>, text in "([A-Z]+6?[a-z]*:?[ \t0-9-]*\n?)*") {
            for content in [&content, text.as_bytes()] {
                let _ = (pairs(content).count(), singles(content).count());
            }
        }
    }
}
