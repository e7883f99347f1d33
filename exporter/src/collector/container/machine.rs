//! What cAdvisor says of the machine that its containers share.

use cloudpulse_common::exposition::{Number, Page};

use crate::collector::family::Family;
use crate::parse::{integer, lines, words};

/// Writes the number of cores, by which dashboards divide, from `/proc/stat`.
pub(super) fn write_cores(page: &mut Page<'_>, stat: &[u8]) {
    let cores = cores(stat);
    if cores > 0 {
        Family::gauge("machine_cpu_cores", "CPUs that are online.").single(page, Number::Integer(cores));
    }
}

/// Writes the memory, from `/proc/meminfo`.
pub(super) fn write_memory(page: &mut Page<'_>, meminfo: &[u8]) {
    if let Some(bytes) = memory(meminfo) {
        Family::gauge("machine_memory_bytes", "Memory of the machine.").single(page, Number::Integer(bytes));
    }
}

/// Counts the lines `cpu0`, `cpu1` and so on.
fn cores(stat: &[u8]) -> u64 {
    let is_cpu =
        |line: &&[u8]| line.strip_prefix(b"cpu").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit));
    lines(stat).take_while(|line| line.starts_with(b"cpu")).filter(is_cpu).count() as u64
}

/// Returns the value of `MemTotal:  1000 kB`.
fn memory(meminfo: &[u8]) -> Option<u64> {
    let line = lines(meminfo).find_map(|line| line.strip_prefix(b"MemTotal:"))?;
    integer(words(line).next()?)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_and_memory_are_counted() {
        assert_eq!(cores(b"cpu  1 2\ncpu0 1\ncpu1 1\nintr 5\ncpu2 1\n"), 2);
        assert_eq!(memory(b"MemFree: 1 kB\nMemTotal:    16 kB\n"), Some(16_384));
        assert_eq!((cores(b""), memory(b"MemTotal: x kB\n"), memory(b"")), (0, None, None));
    }
}
