//! What is known of all containers → their families, under cAdvisor's names.

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

use super::Container;
use super::parse::{Figures, READ_BYTES, READS, WRITES, WRITTEN_BYTES};

/// A family with one sample per container.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    value: fn(&Figures) -> Option<Number>,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Figures) -> Option<Number>) -> Family {
    Family { name, help, kind: Kind::Counter, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Figures) -> Option<Number>) -> Family {
    Family { name, help, kind: Kind::Gauge, value }
}

fn whole(value: Option<u64>) -> Option<Number> {
    value.map(Number::Integer)
}

fn microseconds(value: Option<u64>) -> Option<Number> {
    value.map(|digits| Number::Decimal { digits, places: 6 })
}

/// Throttling of a container that has no quota is none, and left out as in cAdvisor.
fn if_limited(figures: &Figures, value: Option<Number>) -> Option<Number> {
    figures.quota.and(value)
}

/// The one family with a label of its own: `cpu="total"`, in place of the many of each CPU.
const CPU_USAGE: &str = "container_cpu_usage_seconds_total";

const FAMILIES: [Family; 23] = [
    counter("container_cpu_user_seconds_total", "Seconds of CPU in user mode.", |figures| figures.cpu_user),
    counter("container_cpu_system_seconds_total", "Seconds of CPU in the kernel.", |figures| figures.cpu_system),
    counter("container_cpu_cfs_periods_total", "Periods in which the CPU quota was at work.", |figures| {
        if_limited(figures, whole(figures.periods))
    }),
    counter("container_cpu_cfs_throttled_periods_total", "Periods in which the CPU quota ran out.", |figures| {
        if_limited(figures, whole(figures.throttled_periods))
    }),
    counter("container_cpu_cfs_throttled_seconds_total", "Seconds for which the CPU quota held it up.", |figures| {
        if_limited(figures, figures.throttled)
    }),
    gauge("container_memory_usage_bytes", "Memory in use, with all of the page cache.", |f| whole(f.memory_usage)),
    gauge(
        "container_memory_working_set_bytes",
        "Memory in use without the page cache that was not used for long.",
        |figures| whole(figures.working_set()),
    ),
    gauge("container_memory_rss", "Anonymous memory in bytes.", |figures| whole(figures.rss)),
    gauge("container_memory_cache", "Page cache in bytes.", |figures| whole(figures.cache)),
    gauge("container_memory_swap", "Swap in use in bytes.", |figures| whole(figures.swap)),
    gauge("container_memory_max_usage_bytes", "Highest memory in use so far.", |figures| {
        whole(figures.memory_max_usage)
    }),
    counter("container_memory_failcnt", "Times that memory reached its limit.", |figures| {
        whole(figures.memory_failures)
    }),
    gauge("container_spec_memory_limit_bytes", "Limit of memory, 0 for none.", |figures| whole(figures.memory_limit)),
    gauge(
        "container_spec_cpu_quota",
        "Microseconds of CPU allowed in each period, absent without a limit.",
        |figures| whole(figures.quota),
    ),
    gauge("container_spec_cpu_period", "Period of the CPU quota in microseconds.", |figures| whole(figures.period)),
    gauge("container_spec_cpu_shares", "Weight against others when the CPUs are busy.", |figures| {
        whole(figures.shares)
    }),
    gauge("container_threads", "Threads that there are.", |figures| whole(figures.threads)),
    counter("container_pressure_cpu_waiting_seconds_total", "Seconds in which a task waited for CPU.", |figures| {
        microseconds(figures.pressure[0][0])
    }),
    counter("container_pressure_cpu_stalled_seconds_total", "Seconds in which all tasks waited for CPU.", |figures| {
        microseconds(figures.pressure[0][1])
    }),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Seconds in which a task waited for memory.",
        |figures| microseconds(figures.pressure[1][0]),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Seconds in which all tasks waited for memory.",
        |figures| microseconds(figures.pressure[1][1]),
    ),
    counter("container_pressure_io_waiting_seconds_total", "Seconds in which a task waited for I/O.", |figures| {
        microseconds(figures.pressure[2][0])
    }),
    counter("container_pressure_io_stalled_seconds_total", "Seconds in which all tasks waited for I/O.", |figures| {
        microseconds(figures.pressure[2][1])
    }),
];

/// By device: its column of [`super::parse::Io`].
const IO: [(&str, &str, usize); 4] = [
    ("container_fs_reads_bytes_total", "Bytes read from the device.", READ_BYTES),
    ("container_fs_reads_total", "Reads from the device.", READS),
    ("container_fs_writes_bytes_total", "Bytes written to the device.", WRITTEN_BYTES),
    ("container_fs_writes_total", "Writes to the device.", WRITES),
];

/// By network device: its column of `/proc/net/dev`.
const NETWORK: [(&str, &str, usize); 8] = [
    ("container_network_receive_bytes_total", "Bytes received.", 0),
    ("container_network_receive_packets_total", "Packets received.", 1),
    ("container_network_receive_errors_total", "Packets received with an error.", 2),
    ("container_network_receive_packets_dropped_total", "Received packets that were dropped.", 3),
    ("container_network_transmit_bytes_total", "Bytes transmitted.", 8),
    ("container_network_transmit_packets_total", "Packets transmitted.", 9),
    ("container_network_transmit_errors_total", "Packets that could not be transmitted for an error.", 10),
    ("container_network_transmit_packets_dropped_total", "Packets to be transmitted that were dropped.", 11),
];

/// Writes all families, each without the containers that have no value of it. `now` in thousandths of a second.
pub(super) fn write<'c, C>(page: &mut Page<'_>, containers: C, now_milliseconds: u64)
where
    C: Iterator<Item = &'c Container> + Clone,
{
    let mut usage = containers.clone().filter_map(|one| Some((&one.cpu_labels, one.reading.figures.cpu_usage?)));
    family(page, CPU_USAGE, "Seconds of CPU.", Kind::Counter, &mut usage);
    for Family { name, help, kind, value } in FAMILIES {
        let mut samples = containers.clone().filter_map(|one| Some((&one.labels, value(&one.reading.figures)?)));
        family(page, name, help, kind, &mut samples);
    }
    for (name, help, column) in IO {
        let samples = containers.clone().flat_map(|one| one.reading.io.iter());
        let mut samples = samples.filter_map(|io| Some((io.labels.as_ref()?, Number::Integer(io.counts[column]?))));
        family(page, name, help, Kind::Counter, &mut samples);
    }
    for (name, help, column) in NETWORK {
        let samples = containers.clone().flat_map(|one| one.interfaces.iter().flatten());
        let mut samples = samples.map(|interface| (&interface.labels, Number::Integer(interface.columns[column])));
        family(page, name, help, Kind::Counter, &mut samples);
    }
    let mut started = containers.clone().filter_map(|one| Some((&one.labels, Number::Integer(one.started? / 100))));
    family(page, "container_start_time_seconds", "Unix time at which it was started.", Kind::Gauge, &mut started);
    let mut seen = containers.map(|one| (&one.labels, Number::Decimal { digits: now_milliseconds, places: 3 }));
    family(page, "container_last_seen", "Unix time at which it was last seen.", Kind::Gauge, &mut seen);
}

fn family(
    page: &mut Page<'_>,
    name: &str,
    help: &str,
    kind: Kind,
    samples: &mut dyn Iterator<Item = (&Labels, Number)>,
) {
    let mut begun = false;
    for (labels, value) in samples {
        if !begun {
            page.family(name, help, kind);
            begun = true;
        }
        page.labelled(name, labels, value);
    }
}
