//! `/proc/vmstat` → an untyped `node_vmstat_<field>` per chosen line.

use cloudpulse_common::exposition::Page;

use super::selection::{Field, Selection};
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{lines, words};

pub(super) const ENTRY: Entry = Entry {
    name: "vmstat",
    about: "Paging, swapping and killing for want of memory",
    by_default: true,
    new: |host, filters: &Filters| {
        Box::new(Vmstat {
            file: host.own_proc_file("vmstat", Shape::Records { longest: 128 }),
            fields: Selection::new(filters.vmstat_fields.as_ref(), is_default),
        })
    },
};

/// Returns what `^(oom_kill|pgpg|pswp|pg.*fault).*` does, node_exporter's default.
fn is_default(name: &str) -> bool {
    let is_fault = |name: &str| name.strip_prefix("pg").is_some_and(|rest| rest.contains("fault"));
    ["oom_kill", "pgpg", "pswp"].iter().any(|prefix| name.starts_with(prefix)) || is_fault(name)
}

#[derive(Debug)]
struct Vmstat {
    file: KeptFile,
    fields: Selection,
}

impl Collector for Vmstat {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let help = |_: &str, name: &str| format!("Field {name} of /proc/vmstat.");
        self.fields.write(fields(host.read_alone(&mut self.file)?), "node_vmstat_", help, page);
        Ok(())
    }
}

fn fields(content: &[u8]) -> impl Iterator<Item = Field<'_>> + Clone {
    lines(content).filter_map(|line| {
        let mut words = words(line);
        Some(Field { group: b"", name: words.next()?, value: words.next()? })
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;
    use regex_lite::Regex;

    const VMSTAT: &str = "nr_free_pages 2757142\npgpgin 4191872\npgpgout 5127528\npswpin 0\npswpout 3\npgfault 9\n\
                          pgmajfault 8\noom_kill 1\nnuma_hit 7\n";

    #[test]
    fn the_default_fields_are_those_of_node_exporter() {
        let mut fixture = Fixture::new(&ENTRY, &[("proc/vmstat", VMSTAT)]);
        let expected = [
            "node_vmstat_pgpgin 4191872",
            "node_vmstat_pgpgout 5127528",
            "node_vmstat_pswpin 0",
            "node_vmstat_pswpout 3",
            "node_vmstat_pgfault 9",
            "node_vmstat_pgmajfault 8",
            "node_vmstat_oom_kill 1",
        ];
        for _ in 0..2 {
            assert_eq!(fixture.samples().unwrap(), expected);
        }
        assert!(fixture.page().unwrap().contains("\n# TYPE node_vmstat_oom_kill untyped\n"));
    }

    #[test]
    fn another_layout_is_chosen_from_anew() {
        let mut fixture = Fixture::new(&ENTRY, &[("proc/vmstat", VMSTAT)]);
        fixture.samples().unwrap();
        for (content, expected) in [
            ("a 1\npswpin 2\npgpgin 3\n", &["node_vmstat_pswpin 2", "node_vmstat_pgpgin 3"][..]),
            ("a 1\npgpgin 3\n", &["node_vmstat_pgpgin 3"]),
            ("a 1\npgpgin x\n", &[]),
            ("a 1\npgpgin 4\noom_kill 5\n", &["node_vmstat_pgpgin 4", "node_vmstat_oom_kill 5"]),
        ] {
            fixture.write("proc/vmstat", content);
            assert_eq!(fixture.samples().unwrap(), expected, "{content}");
        }
    }

    #[test]
    fn other_fields_are_chosen_by_the_filter() {
        let filters = Filters { vmstat_fields: Regex::new("^n").ok(), ..Filters::default() };
        let samples = Fixture::with_filters(&ENTRY, &[("proc/vmstat", VMSTAT)], &filters).samples().unwrap();
        assert_eq!(samples, ["node_vmstat_nr_free_pages 2757142", "node_vmstat_numa_hit 7"]);
    }

    proptest! {
        #[test]
        fn the_default_is_the_pattern_of_node_exporter(name in "(oom_kill|pgpg|pswp|pg|fault|maj|in|_|x){0,4}") {
            let pattern = Regex::new("^(oom_kill|pgpg|pswp|pg.*fault).*").unwrap();
            prop_assert_eq!(is_default(&name), pattern.is_match(&name));
        }

        #[test]
        fn any_content_is_read(content: Vec<u8>) {
            let _ = fields(&content).count();
        }
    }
}
