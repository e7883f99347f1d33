//! Content of a container's cgroup files in, figures out. Pure; never panics on any input.

use cloudpulse_common::exposition::{Labels, Number};

use crate::collector::devices::Devices;
use crate::parse::{Malformed, integer, lines, words};

/// What the files of one container say; `None` is what its kernel does not have.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Figures {
    /// Seconds of all its tasks, and those in and outside the kernel.
    pub(super) cpu_usage: Option<Number>,
    pub(super) cpu_user: Option<Number>,
    pub(super) cpu_system: Option<Number>,
    pub(super) periods: Option<u64>,
    pub(super) throttled_periods: Option<u64>,
    /// Seconds.
    pub(super) throttled: Option<Number>,
    /// Microseconds of CPU in each period; `None` without a quota too.
    pub(super) quota: Option<u64>,
    /// Microseconds.
    pub(super) period: Option<u64>,
    pub(super) shares: Option<u64>,
    /// Bytes, as everything of memory.
    pub(super) memory_usage: Option<u64>,
    pub(super) memory_max_usage: Option<u64>,
    pub(super) memory_failures: Option<u64>,
    /// 0 without a limit, as cAdvisor writes it.
    pub(super) memory_limit: Option<u64>,
    pub(super) inactive_file: Option<u64>,
    pub(super) rss: Option<u64>,
    pub(super) cache: Option<u64>,
    pub(super) swap: Option<u64>,
    pub(super) threads: Option<u64>,
    /// Microseconds that some tasks and that all tasks waited for CPU, memory and I/O.
    pub(super) pressure: [[Option<u64>; 2]; 3],
}

impl Figures {
    /// Returns the memory that cannot be taken back without harm: all but what of the page cache was not used for long, and
    /// 0 where a reading is of another moment than the other.
    pub(super) fn working_set(&self) -> Option<u64> {
        Some(self.memory_usage?.saturating_sub(self.inactive_file?))
    }
}

/// What one container did to one block device.
#[derive(Debug, Default)]
pub(super) struct Io {
    /// Made when the device has a name.
    pub(super) labels: Option<Labels>,
    /// By [`READ_BYTES`] and so on.
    pub(super) counts: [Option<u64>; 4],
}

pub(super) const READ_BYTES: usize = 0;
pub(super) const WRITTEN_BYTES: usize = 1;
pub(super) const READS: usize = 2;
pub(super) const WRITES: usize = 3;

/// What is filled from the files of one container.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) figures: Figures,
    /// By `major:minor`.
    pub(super) io: Devices<Io>,
}

type Parsed = Result<(), Malformed>;

/// Hundredths of a second on every architecture that is still sold (`USER_HZ`).
const TICKS: u32 = 2;
const MICRO: u32 = 6;
const NANO: u32 = 9;
/// The kernel has no "unlimited": what is that large is meant to be.
const UNLIMITED: u64 = 1 << 62;

// Version 1, a file per figure.

pub(super) fn cpuacct_usage(content: &[u8], reading: &mut Reading) -> Parsed {
    reading.figures.cpu_usage = Some(seconds(value(content)?, NANO));
    Ok(())
}

pub(super) fn cpuacct_stat(content: &[u8], Reading { figures, .. }: &mut Reading) -> Parsed {
    keyed(content, |key, value| match key {
        b"user" => figures.cpu_user = Some(seconds(value, TICKS)),
        b"system" => figures.cpu_system = Some(seconds(value, TICKS)),
        _ => {}
    })
}

pub(super) fn cpu_shares(content: &[u8], reading: &mut Reading) -> Parsed {
    reading.figures.shares = Some(value(content)?);
    Ok(())
}

pub(super) fn cfs_quota(content: &[u8], reading: &mut Reading) -> Parsed {
    // -1 without a quota.
    reading.figures.quota = if content.starts_with(b"-") { None } else { Some(value(content)?) };
    Ok(())
}

pub(super) fn cfs_period(content: &[u8], reading: &mut Reading) -> Parsed {
    reading.figures.period = Some(value(content)?);
    Ok(())
}

pub(super) fn memory_failures(content: &[u8], reading: &mut Reading) -> Parsed {
    reading.figures.memory_failures = Some(value(content)?);
    Ok(())
}

pub(super) fn memory_stat_v1(content: &[u8], Reading { figures, .. }: &mut Reading) -> Parsed {
    keyed(content, |key, value| match key {
        b"total_cache" => figures.cache = Some(value),
        b"total_rss" => figures.rss = Some(value),
        b"total_swap" => figures.swap = Some(value),
        b"total_inactive_file" => figures.inactive_file = Some(value),
        _ => {}
    })
}

pub(super) fn blkio_bytes(content: &[u8], reading: &mut Reading) -> Parsed {
    blkio(content, reading, READ_BYTES, WRITTEN_BYTES)
}

pub(super) fn blkio_operations(content: &[u8], reading: &mut Reading) -> Parsed {
    blkio(content, reading, READS, WRITES)
}

/// `254:0 Read 4096`, and at the end `Total 8192`.
fn blkio(content: &[u8], reading: &mut Reading, read: usize, written: usize) -> Parsed {
    for line in lines(content) {
        let fail = || Malformed::new("device, operation and count in blkio", line);
        let mut words = words(line);
        let (Some(device), Some(operation), Some(count)) = (words.next(), words.next(), words.next()) else { continue };
        let column = match operation {
            b"Read" => read,
            b"Write" => written,
            _ => continue,
        };
        let device = device_number(device).ok_or_else(fail)?;
        reading.io.entry(device, |_| Io::default()).counts[column] = Some(integer(count).ok_or_else(fail)?);
    }
    Ok(())
}

// Both versions.

pub(super) fn memory_usage(content: &[u8], reading: &mut Reading) -> Parsed {
    reading.figures.memory_usage = Some(value(content)?);
    Ok(())
}

pub(super) fn memory_max_usage(content: &[u8], reading: &mut Reading) -> Parsed {
    reading.figures.memory_max_usage = Some(value(content)?);
    Ok(())
}

pub(super) fn memory_limit(content: &[u8], reading: &mut Reading) -> Parsed {
    let limit = if content.trim_ascii() == b"max" { u64::MAX } else { value(content)? };
    reading.figures.memory_limit = Some(if limit >= UNLIMITED { 0 } else { limit });
    Ok(())
}

pub(super) fn threads(content: &[u8], reading: &mut Reading) -> Parsed {
    reading.figures.threads = Some(value(content)?);
    Ok(())
}

/// `cpu.stat`: of version 1 only throttling, of version 2 the times too.
pub(super) fn cpu_stat(content: &[u8], Reading { figures, .. }: &mut Reading) -> Parsed {
    keyed(content, |key, value| match key {
        b"usage_usec" => figures.cpu_usage = Some(seconds(value, MICRO)),
        b"user_usec" => figures.cpu_user = Some(seconds(value, MICRO)),
        b"system_usec" => figures.cpu_system = Some(seconds(value, MICRO)),
        b"nr_periods" => figures.periods = Some(value),
        b"nr_throttled" => figures.throttled_periods = Some(value),
        b"throttled_usec" => figures.throttled = Some(seconds(value, MICRO)),
        b"throttled_time" => figures.throttled = Some(seconds(value, NANO)),
        _ => {}
    })
}

// Version 2.

/// Quota, which is `max` without one, and period.
pub(super) fn cpu_max(content: &[u8], reading: &mut Reading) -> Parsed {
    let fail = || Malformed::new("quota and period in cpu.max", content);
    let mut words = words(content.trim_ascii_end());
    let (quota, period) = (words.next().ok_or_else(fail)?, words.next().ok_or_else(fail)?);
    reading.figures.quota = if quota == b"max" { None } else { Some(integer(quota).ok_or_else(fail)?) };
    reading.figures.period = Some(integer(period).ok_or_else(fail)?);
    Ok(())
}

/// The weight as shares of version 1, by the line that cAdvisor draws from 1…10000 to 2…262144.
pub(super) fn cpu_weight(content: &[u8], reading: &mut Reading) -> Parsed {
    let weight = value(content)?;
    if !(1..=10_000).contains(&weight) {
        return Err(Malformed::new("a weight from 1 to 10000 in cpu.weight", content));
    }
    reading.figures.shares = Some(2 + (weight - 1) * 262_142 / 9_999);
    Ok(())
}

pub(super) fn memory_stat_v2(content: &[u8], Reading { figures, .. }: &mut Reading) -> Parsed {
    keyed(content, |key, value| match key {
        b"anon" => figures.rss = Some(value),
        b"file" => figures.cache = Some(value),
        b"inactive_file" => figures.inactive_file = Some(value),
        _ => {}
    })
}

pub(super) fn memory_swap(content: &[u8], reading: &mut Reading) -> Parsed {
    reading.figures.swap = Some(value(content)?);
    Ok(())
}

/// `254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`. A device that nothing was asked of may stand alone.
pub(super) fn io_stat(content: &[u8], reading: &mut Reading) -> Parsed {
    for line in lines(content) {
        let fail = || Malformed::new("a device and its counts in io.stat", line);
        let mut words = words(line);
        let Some(device) = words.next() else { continue };
        let device = device_number(device).ok_or_else(fail)?;
        for word in words {
            let (column, count) = match memchr::memchr(b'=', word).map(|at| (&word[..at], &word[at + 1..])) {
                Some((b"rbytes", count)) => (READ_BYTES, count),
                Some((b"wbytes", count)) => (WRITTEN_BYTES, count),
                Some((b"rios", count)) => (READS, count),
                Some((b"wios", count)) => (WRITES, count),
                _ => continue,
            };
            reading.io.entry(device, |_| Io::default()).counts[column] = Some(integer(count).ok_or_else(fail)?);
        }
    }
    Ok(())
}

pub(super) fn cpu_pressure(content: &[u8], reading: &mut Reading) -> Parsed {
    pressure(content, &mut reading.figures.pressure[0])
}

pub(super) fn memory_pressure(content: &[u8], reading: &mut Reading) -> Parsed {
    pressure(content, &mut reading.figures.pressure[1])
}

pub(super) fn io_pressure(content: &[u8], reading: &mut Reading) -> Parsed {
    pressure(content, &mut reading.figures.pressure[2])
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=5`, and a line `full`, which of CPU came with Linux 5.13.
fn pressure(content: &[u8], totals: &mut [Option<u64>; 2]) -> Parsed {
    for line in lines(content) {
        let mut words = words(line);
        let total = match words.next() {
            Some(b"some") => &mut totals[0],
            Some(b"full") => &mut totals[1],
            _ => continue,
        };
        let count = words.find_map(|word| word.strip_prefix(b"total=")).and_then(integer);
        *total = Some(count.ok_or_else(|| Malformed::new("a total of pressure", line))?);
    }
    Ok(())
}

// Outside the cgroup.

/// Returns the first process ids of `cgroup.procs`, at most as many as `ids` has room for. A process of another namespace
/// of processes is listed as 0, which is no id.
pub(super) fn first_processes(content: &[u8], most: usize) -> impl Iterator<Item = u64> {
    lines(content).filter_map(integer).filter(|id| *id != 0).take(most)
}

/// Returns the hundredths of a second from the start of the machine to that of the process of a `/proc/<pid>/stat`.
pub(super) fn start_ticks(stat: &[u8]) -> Option<u64> {
    // The name is in parentheses and may hold any byte, a parenthesis too.
    let after_name = memchr::memrchr(b')', stat)? + 1;
    words(&stat[after_name..]).nth(19).and_then(integer)
}

fn seconds(digits: u64, places: u32) -> Number {
    Number::Decimal { digits, places }
}

fn value(content: &[u8]) -> Result<u64, Malformed> {
    integer(content.trim_ascii()).ok_or_else(|| Malformed::new("a count of a cgroup", content))
}

/// Calls `take` with each key and its value. What has another form is not for us.
fn keyed(content: &[u8], mut take: impl FnMut(&[u8], u64)) -> Parsed {
    let mut any = false;
    for line in lines(content) {
        let Some(at) = memchr::memchr(b' ', line) else { continue };
        let Some(value) = integer(line[at + 1..].trim_ascii_end()) else { continue };
        take(&line[..at], value);
        any = true;
    }
    if any { Ok(()) } else { Err(Malformed::new("names and counts of a cgroup", content)) }
}

/// Returns the word if it is `major:minor`.
fn device_number(word: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', word)?;
    integer(&word[..colon])?;
    integer(&word[colon + 1..])?;
    Some(word)
}

#[cfg(test)]
mod tests;
