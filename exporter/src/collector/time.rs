//! The clock, its time zone and its source → `node_time_*`.

use std::path::Path;

use cloudpulse_common::exposition::{Kind, Number, Page};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile};

pub(super) const ENTRY: Entry = Entry {
    name: "time",
    about: "Time of the machine, its zone and its clock source",
    by_default: true,
    new: |host: &mut Host, _: &Filters| {
        let file = |name: &str| host.sys_file(&format!("devices/system/clocksource/clocksource0/{name}"));
        Box::new(Time {
            zone: local_zone(std::env::var("TZ").ok().as_deref()),
            current_file: file("current_clocksource"),
            available_file: file("available_clocksource"),
            current: Vec::new(),
            available: Vec::new(),
        })
    },
};

#[derive(Debug)]
struct Time {
    zone: TimeZone,
    current_file: KeptFile,
    available_file: KeptFile,
    /// The source in use when `available` was read. The kernel drops a source from use when it finds it unreliable.
    current: Vec<u8>,
    available: Vec<u8>,
}

impl Collector for Time {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        write_time(Timestamp::now(), &self.zone, page);
        // A container without sysfs has no clock source, which is no reason to have no time.
        let current = self.current_file.read().unwrap_or_default();
        if self.current != current {
            self.current = current.to_vec();
            self.available = self.available_file.read().unwrap_or_default().to_vec();
        }
        let family = "node_time_clocksource_available_info";
        write_sources(&self.available, family, "Always 1 for each clock source that there is.", page);
        let family = "node_time_clocksource_current_info";
        write_sources(&self.current, family, "Always 1 for the clock source in use.", page);
        Ok(())
    }
}

fn write_time(now: Timestamp, zone: &TimeZone, page: &mut Page<'_>) {
    page.family("node_time_seconds", "Unix time of the machine.", Kind::Gauge);
    let now_microseconds = u64::try_from(now.as_microsecond()).unwrap_or_default();
    page.unlabelled("node_time_seconds", Number::Decimal { digits: now_microseconds, places: 6 });
    let zone = zone.to_offset_info(now);
    page.family("node_time_zone_offset_seconds", "Seconds by which the local time zone is ahead of UTC.", Kind::Gauge);
    let labels = [("time_zone", zone.abbreviation())];
    page.sample("node_time_zone_offset_seconds", &labels, f64::from(zone.offset().seconds()));
}

/// Returns the zone that TZ names, or that of the machine where TZ is not set; UTC where that cannot be read.
///
/// Not jiff's own search, which reads the names of all zones there are and keeps them.
fn local_zone(tz: Option<&str>) -> TimeZone {
    let path = match tz.map(|tz| tz.strip_prefix(':').unwrap_or(tz)) {
        None => Path::new("/etc/localtime").to_owned(),
        Some("") => return TimeZone::UTC,
        Some(name) => Path::new("/usr/share/zoneinfo").join(name),
    };
    std::fs::read(path).ok().and_then(|data| TimeZone::tzif("local", &data).ok()).unwrap_or(TimeZone::UTC)
}

/// Writes one sample per clock source in the content of a sysfs file.
fn write_sources(content: &[u8], name: &str, help: &str, page: &mut Page<'_>) {
    let text = String::from_utf8_lossy(content);
    let mut sources = text.split_whitespace().peekable();
    if sources.peek().is_some() {
        page.family(name, help, Kind::Gauge);
    }
    for source in sources {
        page.sample(name, &[("clocksource", source), ("device", "0")], 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;
    use cloudpulse_common::exposition::Format;

    #[test]
    fn the_zone_is_that_of_the_moment() {
        let mut buffer = Vec::new();
        let now: Timestamp = "2026-01-02T03:04:05.25+01:00".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::Offset::from_seconds(3600).unwrap());
        write_time(now, &zone, &mut Page::new(&mut buffer, Format::Text));
        let page = String::from_utf8(buffer).unwrap();
        assert!(page.contains("\nnode_time_seconds 1767319445.25\n"), "{page}");
        assert!(page.contains("\nnode_time_zone_offset_seconds{time_zone=\"+01\"} 3600\n"), "{page}");
    }

    #[test]
    fn a_zone_is_found_by_its_name_and_is_utc_otherwise() {
        let winter: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let offset = |tz: &str| local_zone(Some(tz)).to_offset_info(winter).offset().seconds();
        for tz in ["", ":", "No/Such_Zone", "/etc/passwd"] {
            assert_eq!(offset(tz), 0, "{tz}");
        }
        // A machine without the zones' data knows UTC alone.
        if Path::new("/usr/share/zoneinfo/Asia/Kolkata").exists() {
            assert_eq!((offset("Asia/Kolkata"), offset(":Asia/Kolkata")), (19_800, 19_800));
        }
    }

    #[test]
    fn clock_sources_are_listed_where_there_are_any() {
        let folder = "sys/devices/system/clocksource/clocksource0";
        let files = [
            (&*format!("{folder}/available_clocksource"), "kvm-clock tsc \n"),
            (&*format!("{folder}/current_clocksource"), "tsc\n"),
        ];
        let samples = Fixture::new(&ENTRY, &files).samples().unwrap();
        assert_eq!(
            samples[2..],
            [
                "node_time_clocksource_available_info{clocksource=\"kvm-clock\",device=\"0\"} 1",
                "node_time_clocksource_available_info{clocksource=\"tsc\",device=\"0\"} 1",
                "node_time_clocksource_current_info{clocksource=\"tsc\",device=\"0\"} 1",
            ]
        );
        assert_eq!(Fixture::new(&ENTRY, &[]).samples().unwrap().len(), 2);
    }
}
