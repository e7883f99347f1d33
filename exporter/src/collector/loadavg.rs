//! `/proc/loadavg` → `node_load1`, `node_load5`, `node_load15`.

use cloudpulse_common::exposition::{Kind, Number, Page};

use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, ProcFile, Shape};
use crate::parse::{Malformed, decimal, words};

pub(super) const ENTRY: Entry = Entry {
    name: "loadavg",
    about: "Load averages over 1, 5 and 15 minutes",
    by_default: true,
    new: |host, _: &Filters| Box::new(LoadAverage { loadavg: host.proc_file("loadavg", Shape::Whole) }),
};

const FAMILIES: [(&str, &str); 3] = [
    ("node_load1", "Load average over 1 minute."),
    ("node_load5", "Load average over 5 minutes."),
    ("node_load15", "Load average over 15 minutes."),
];

#[derive(Debug)]
struct LoadAverage {
    loadavg: ProcFile,
}

impl Collector for LoadAverage {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        for ((name, help), load) in FAMILIES.into_iter().zip(parse(host.read(self.loadavg)?)?) {
            page.family(name, help, Kind::Gauge);
            page.unlabelled(name, load);
        }
        Ok(())
    }
}

fn parse(content: &[u8]) -> Result<[Number; 3], Malformed> {
    let mut words = words(content);
    let mut loads = [Number::Integer(0); 3];
    for load in &mut loads {
        *load =
            words.next().and_then(decimal).ok_or_else(|| Malformed::new("three loads in /proc/loadavg", content))?;
    }
    Ok(loads)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_loads_are_written() {
        assert_eq!(
            Fixture::new(&ENTRY, &[("proc/loadavg", "0.21 10.37 0.00 1/719 19737\n")]).samples().unwrap(),
            ["node_load1 0.21", "node_load5 10.37", "node_load15 0"]
        );
    }

    #[test]
    fn anything_else_is_an_error() {
        for content in ["", "0.1 0.2", "0.1 x 0.2 1/2 3", "-0.1 0.2 0.3 1/2 3"] {
            assert!(Fixture::new(&ENTRY, &[("proc/loadavg", content)]).samples().is_err(), "{content}");
        }
    }

    proptest! {
        #[test]
        fn any_content_is_read_or_refused(content: Vec<u8>) {
            let _ = parse(&content);
        }
    }
}
