//! `/proc/net/sockstat` and `sockstat6` → gauges `node_sockstat_<protocol>_<state>`.

use cloudpulse_common::exposition::{Kind, Number, Page};

use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, integer, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "sockstat",
    about: "Sockets in use by protocol",
    by_default: true,
    new: |host, _: &Filters| {
        let file = |path| host.own_proc_file(path, Shape::Whole);
        Box::new(Sockstat {
            files: [file("net/sockstat"), file("net/sockstat6")],
            page_size: rustix::param::page_size(),
        })
    },
};

/// What is shown of a protocol.
const STATES: [&str; 6] = ["inuse", "orphan", "tw", "alloc", "mem", "memory"];

#[derive(Debug)]
struct Sockstat {
    files: [KeptFile; 2],
    page_size: usize,
}

impl Collector for Sockstat {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let mut absent = None;
        let mut found = false;
        for file in &mut self.files {
            match host.read_alone(file) {
                Ok(content) => write(content, self.page_size as u64, page)?,
                Err(error @ CollectError::NoData(_)) => {
                    absent.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            }
            found = true;
        }
        absent.filter(|_| !found).map_or(Ok(()), Err)
    }
}

fn write(content: &[u8], page_size: u64, page: &mut Page<'_>) -> Result<(), Malformed> {
    let mut gauge = |name: &str, help: &str, value: u64| {
        page.family(name, help, Kind::Gauge);
        page.unlabelled(name, Number::Integer(value));
    };
    for line in lines(content) {
        let fail = || Malformed::new("a line `protocol: state count ...` in /proc/net/sockstat", line);
        let mut words = words(line);
        let protocol = words.next().and_then(|word| word.strip_suffix(b":")).ok_or_else(fail)?;
        let protocol = std::str::from_utf8(protocol).map_err(|_| fail())?;
        if protocol.is_empty() || !protocol.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(fail());
        }
        while let Some(state) = words.next() {
            let count = words.next().and_then(integer).ok_or_else(fail)?;
            if (protocol, state) == ("sockets", b"used") {
                gauge("node_sockstat_sockets_used", "Sockets in use.", count);
                continue;
            }
            let Some(state) = STATES.into_iter().find(|known| known.as_bytes() == state) else { continue };
            let name = format!("node_sockstat_{protocol}_{state}");
            gauge(&name, &format!("{protocol} sockets in state {state}."), count);
            if state == "mem" {
                let bytes = count.checked_mul(page_size).ok_or_else(fail)?;
                gauge(&format!("{name}_bytes"), &format!("{protocol} sockets in state mem_bytes."), bytes);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use cloudpulse_common::exposition::Format;
    use proptest::prelude::*;

    const SOCKSTAT: &str = "sockets: used 229\nTCP: inuse 4 orphan 0 tw 4 alloc 17 mem 1\nUDPLITE: inuse 0\nFRAG: inuse 0 \
                            memory 5\n";

    #[test]
    fn both_families_of_addresses_are_written() {
        let files = [("proc/net/sockstat", SOCKSTAT), ("proc/net/sockstat6", "TCP6: inuse 17\nFRAG6: inuse 1 new 2\n")];
        let bytes = format!("node_sockstat_TCP_mem_bytes {}", rustix::param::page_size());
        assert_eq!(
            Fixture::new(&ENTRY, &files).samples().unwrap(),
            [
                "node_sockstat_sockets_used 229",
                "node_sockstat_TCP_inuse 4",
                "node_sockstat_TCP_orphan 0",
                "node_sockstat_TCP_tw 4",
                "node_sockstat_TCP_alloc 17",
                "node_sockstat_TCP_mem 1",
                &bytes,
                "node_sockstat_UDPLITE_inuse 0",
                "node_sockstat_FRAG_inuse 0",
                "node_sockstat_FRAG_memory 5",
                "node_sockstat_TCP6_inuse 17",
                "node_sockstat_FRAG6_inuse 1",
            ]
        );
    }

    #[test]
    fn broken_lines_are_errors_and_no_file_is_no_data() {
        for content in ["TCP inuse 4\n", "TCP: inuse\n", "TCP: inuse x\n", "T-P: inuse 1\n", ": inuse 1\n"] {
            assert!(Fixture::new(&ENTRY, &[("proc/net/sockstat", content)]).samples().is_err(), "{content}");
        }
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
    }

    proptest! {
        #[test]
        fn any_content_is_read_or_refused(content: Vec<u8>, text in "([A-Z]{0,3}:?( mem [0-9]{0,20})*\n)*") {
            for content in [&content, text.as_bytes()] {
                let _ = write(content, 4096, &mut Page::new(&mut Vec::new(), Format::Text));
            }
        }
    }
}
