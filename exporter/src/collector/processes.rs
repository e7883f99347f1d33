//! `/proc/*/stat` → processes and threads, and how many are in each state. Off by default: it costs three system calls a
//! process.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::family::Family;
use super::{CollectError, Collector, Entry};
use crate::attributes::names;
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};
use crate::parse::{Malformed, integer, words};

pub(super) const ENTRY: Entry = Entry {
    name: "processes",
    about: "Processes and threads, and their states",
    by_default: false,
    new: |host, _: &Filters| {
        Box::new(Processes {
            threads_max: host.own_proc_file("sys/kernel/threads-max", Shape::Value),
            pid_max: host.own_proc_file("sys/kernel/pid_max", Shape::Value),
        })
    },
};

/// The kernel has no more.
const MOST: usize = 4 << 20;

#[derive(Debug)]
struct Processes {
    threads_max: KeptFile,
    pid_max: KeptFile,
}

impl Collector for Processes {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let mut limit = |file: &mut KeptFile| -> Result<u64, CollectError> {
            let content = host.read_alone(file)?;
            Ok(integer(content.trim_ascii()).ok_or_else(|| Malformed::new("a limit in /proc/sys/kernel", content))?)
        };
        let (threads_max, pid_max) = (limit(&mut self.threads_max)?, limit(&mut self.pid_max)?);
        let procfs = &host.roots().procfs;
        let (mut count, mut threads) = (0, 0);
        // By the byte of the state.
        let mut states = [0_u64; 128];
        let mut buffer = [0; 512];
        for name in names(procfs, MOST, |name| name.bytes().all(|byte| byte.is_ascii_digit()))? {
            // A process may end at any moment.
            let file = File::open(procfs.join(name).join("stat"));
            let Ok(length) = file.and_then(|file| file.read_at(&mut buffer, 0)) else { continue };
            let Some((state, of_process)) = parse(&buffer[..length]) else { continue };
            count += 1;
            threads += of_process;
            states[usize::from(state & 127)] += 1;
        }
        for (name, help, value) in [
            ("node_processes_max_processes", "Processes that there can be.", pid_max),
            ("node_processes_max_threads", "Threads that there can be.", threads_max),
            ("node_processes_pids", "Processes.", count),
            ("node_processes_threads", "Threads of all processes.", threads),
        ] {
            Family::gauge(name, help).single(page, Number::Integer(value));
        }
        let mut family = Family::gauge("node_processes_state", "Processes in each state.");
        for (state, processes) in (0_u8..).zip(states).filter(|(_, processes)| *processes > 0) {
            let labels = Labels::new(&[("state", char::from(state).encode_utf8(&mut [0; 4]))]);
            family.labelled(page, &labels, Number::Integer(processes));
        }
        Ok(())
    }
}

/// Returns state and threads of a process.
fn parse(stat: &[u8]) -> Option<(u8, u64)> {
    // The name before it may hold anything, brackets too.
    let mut words = words(&stat[memchr::memrchr(b')', stat)? + 1..]);
    let state = *words.next()?.first().filter(|state| state.is_ascii_alphabetic())?;
    Some((state, words.nth(16).and_then(integer)?))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = " 1 1 1 0 -1 0 1 0 0 0 0 0 0 0 20 0 THREADS 0 12345 1 1\n";

    #[test]
    fn processes_threads_and_states_are_counted() {
        let stat = |name: &str, state: char, threads: u32| {
            format!("1 ({name}) {state}{}", STAT.replace("THREADS", &threads.to_string()))
        };
        let (one, two, three) = (stat("a b) Z (", 'S', 4), stat("x", 'S', 1), stat("y", 'R', 2));
        let files = [
            ("proc/1/stat", one.as_str()),
            ("proc/20/stat", &two),
            ("proc/3/stat", &three),
            ("proc/4/stat", "broken"),
            ("proc/self/stat", &three),
            ("proc/sys/kernel/threads-max", "1000\n"),
            ("proc/sys/kernel/pid_max", "32768\n"),
        ];
        assert_eq!(
            Fixture::new(&ENTRY, &files).samples().unwrap(),
            [
                "node_processes_max_processes 32768",
                "node_processes_max_threads 1000",
                "node_processes_pids 3",
                "node_processes_threads 7",
                "node_processes_state{state=\"R\"} 1",
                "node_processes_state{state=\"S\"} 2",
            ]
        );
    }

    proptest! {
        #[test]
        fn any_content_is_read_or_refused(content: Vec<u8>) {
            let _ = parse(&content);
        }
    }
}
