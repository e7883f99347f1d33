//! `/proc/net/udp` and `udp6` → bytes that wait in the queues of UDP sockets.

use cloudpulse_common::exposition::{Kind, Page};

use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, hexadecimal, lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "udp_queues",
    about: "Bytes in the queues of UDP sockets",
    by_default: true,
    new: |host, _: &Filters| {
        let file = |path| host.own_proc_file(path, Shape::Records { longest: 256 });
        Box::new(UdpQueues { files: [("v4", file("net/udp")), ("v6", file("net/udp6"))] })
    },
};

const FAMILY: &str = "node_udp_queues";

#[derive(Debug)]
struct UdpQueues {
    files: [(&'static str, KeptFile); 2],
}

impl Collector for UdpQueues {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let mut absent = None;
        let mut found = false;
        for (ip, file) in &mut self.files {
            let (sent, received) = match host.read_alone(file) {
                Ok(content) => parse(content)?,
                Err(error @ CollectError::NoData(_)) => {
                    absent.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !found {
                page.family(FAMILY, "Bytes in the queues of all UDP sockets.", Kind::Gauge);
            }
            found = true;
            for (queue, bytes) in [("tx", sent), ("rx", received)] {
                page.sample(FAMILY, &[("ip", ip), ("queue", queue)], bytes as f64);
            }
        }
        absent.filter(|_| !found).map_or(Ok(()), Err)
    }
}

/// Returns the bytes to be sent and those received, over all sockets.
fn parse(content: &[u8]) -> Result<(u64, u64), Malformed> {
    let (mut sent, mut received) = (0_u64, 0_u64);
    // A line of headings.
    for line in lines(content).skip(1) {
        let fail = || Malformed::new("a socket with its queues in /proc/net/udp", line);
        let queues = words(line).nth(4).ok_or_else(fail)?;
        let colon = memchr::memchr(b':', queues).ok_or_else(fail)?;
        let bytes = |word| hexadecimal(word).ok_or_else(fail);
        sent = sent.saturating_add(bytes(&queues[..colon])?);
        received = received.saturating_add(bytes(&queues[colon + 1..])?);
    }
    Ok((sent, received))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const UDP: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                       \x20 0: 00000000:0016 00000000:0000 0A 00000015:00000000 00:00000000 00000000     0        0 2740\n\
                       \x20 1: 0100007F:0019 00000000:0000 0A 00000001:00000002 00:00000000 00000000     0        0 2741\n";

    #[test]
    fn bytes_are_summed_over_the_sockets() {
        let heading = UDP.lines().next().unwrap();
        assert_eq!(
            Fixture::new(&ENTRY, &[("proc/net/udp", UDP), ("proc/net/udp6", heading)]).samples().unwrap(),
            [
                "node_udp_queues{ip=\"v4\",queue=\"tx\"} 22",
                "node_udp_queues{ip=\"v4\",queue=\"rx\"} 2",
                "node_udp_queues{ip=\"v6\",queue=\"tx\"} 0",
                "node_udp_queues{ip=\"v6\",queue=\"rx\"} 0",
            ]
        );
        assert_eq!(Fixture::new(&ENTRY, &[("proc/net/udp6", UDP)]).samples().unwrap().len(), 2);
        assert!(matches!(Fixture::new(&ENTRY, &[]).samples(), Err(CollectError::NoData(_))));
    }

    #[test]
    fn broken_lines_are_errors() {
        for line in ["0: a b 0A", "0: a b 0A 00", "0: a b 0A x:0", "0: a b 0A 0:"] {
            assert!(parse(format!("heading\n{line}\n").as_bytes()).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_content_is_read_or_refused(content: Vec<u8>, text in "h\n([0-9a-f: ]*\n)*") {
            let _ = (parse(&content), parse(text.as_bytes()));
        }
    }
}
