//! systemd, asked over D-Bus → states of its units, and of services, timers and sockets what they count.
//!
//! All questions about the units go out together, and a bus that hangs is waited for once: then it is left alone for a minute.

mod bus;
mod message;
mod properties;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};

use self::bus::Bus;
use self::message::{Call, Reader};
use self::properties::{PROPERTIES, SERVICE, UNIT};
use super::{CollectError, Collector, Entry};
use crate::config::{Filters, Systemd as Options};
use crate::host::Host;

pub(super) const ENTRY: Entry = Entry {
    name: "systemd",
    about: "States of systemd's units, asked over D-Bus",
    by_default: false,
    new: |_, filters: &Filters| Box::new(Systemd { options: filters.systemd.clone(), not_before: None }),
};

const BUS: &str = "/run/dbus/system_bus_socket";
const PRIVATE: &str = "/run/systemd/private";
/// How long one scrape waits. systemd answers some ten thousand questions a second.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long one that was late is not asked again.
const PAUSE: Duration = Duration::from_secs(60);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MOUNT: &str = "org.freedesktop.systemd1.Mount";
const ROOT: &str = "/org/freedesktop/systemd1";

/// The states that every unit has a sample of.
const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];

#[derive(Debug)]
struct Systemd {
    options: Options,
    not_before: Option<Instant>,
}

/// What systemd said.
#[derive(Debug, Default)]
struct Said {
    version: Option<String>,
    virtualization: Option<String>,
    state: Option<String>,
    /// How many units, chosen or not, are in each state.
    summary: BTreeMap<String, u64>,
    units: Vec<Unit>,
}

/// A chosen unit.
#[derive(Debug, Default)]
struct Unit {
    name: String,
    path: String,
    state: String,
    /// Of a service or a mount.
    kind: String,
    /// In the order of `PROPERTIES`.
    values: [Option<u64>; PROPERTIES.len()],
}

impl Collector for Systemd {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let Self { options, not_before } = self;
        let path = match (options.private, &options.bus) {
            (true, _) => host.path_of(PRIVATE),
            (false, Some(path)) => path.clone(),
            (false, None) => host.path_of(BUS),
        };
        let now = Instant::now();
        if not_before.is_some_and(|moment| now < moment) {
            let source = io::Error::new(ErrorKind::TimedOut, "no answer in time; it is asked again in a minute");
            return Err(CollectError::Read { path, source });
        }
        let said = ask(&path, options, now + DEADLINE);
        *not_before = said.as_ref().is_err_and(|error| error.kind() == ErrorKind::TimedOut).then(|| now + PAUSE);
        show(&said.map_err(|source| CollectError::Read { path, source })?, page);
        Ok(())
    }
}

fn ask(path: &Path, options: &Options, until: Instant) -> io::Result<Said> {
    let mut bus = Bus::connect(path, until)?;
    let destination = (!options.private).then_some(SYSTEMD);
    if destination.is_some() {
        let name = "org.freedesktop.DBus";
        let hello = Call {
            destination: Some(name),
            path: "/org/freedesktop/DBus",
            interface: name,
            member: "Hello",
            arguments: ["", ""],
            count: 0,
        };
        bus.call(&[hello], |_, _| {})?;
    }
    let get = |path, interface, property| Call {
        destination,
        path,
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        arguments: [interface, property],
        count: 2,
    };
    let list = Call { destination, path: ROOT, interface: MANAGER, member: "ListUnits", arguments: ["", ""], count: 0 };
    let calls =
        [list, get(ROOT, MANAGER, "Version"), get(ROOT, MANAGER, "Virtualization"), get(ROOT, MANAGER, "SystemState")];
    let mut said = Said::default();
    let mut refused = None;
    bus.call(&calls, |place, answer| match (place, answer) {
        (0, Ok(("a(ssssssouso)", body))) => refused = said.list(body, options).is_none().then(|| "no list".to_owned()),
        (0, Ok((signature, _))) => refused = Some(format!("a list of {signature:?}")),
        (0, Err(error)) => refused = Some(error.to_owned()),
        (1, answer) => said.version = text(answer),
        (2, answer) => said.virtualization = text(answer),
        (_, answer) => said.state = text(answer),
    })?;
    if let Some(error) = refused {
        return Err(io::Error::other(format!("systemd does not list its units: {error}")));
    }
    let mut answers: Vec<(usize, Option<usize>)> = Vec::new();
    let mut calls = Vec::new();
    for (place, unit) in said.units.iter().enumerate() {
        for (suffix, interface) in [(".service", SERVICE), (".mount", MOUNT)] {
            if unit.name.ends_with(suffix) {
                calls.push(get(&unit.path, interface, "Type"));
                answers.push((place, None));
            }
        }
        for (at, property) in PROPERTIES.iter().enumerate() {
            let is_asked = property.interface != UNIT || unit.state == "active";
            if unit.name.ends_with(property.suffix) && (property.wanted)(options) && is_asked {
                calls.push(get(&unit.path, property.interface, property.name));
                answers.push((place, Some(at)));
            }
        }
    }
    // A unit may go between two questions, and an older systemd does not know all: what is refused is absent.
    let mut values: Vec<(usize, Option<usize>, String, Option<u64>)> = Vec::new();
    bus.call(&calls, |place, answer| {
        let (unit, at) = answers[place];
        match at {
            None => values.push((unit, None, text(answer).unwrap_or_default(), None)),
            Some(_) => values.push((unit, at, String::new(), count(answer))),
        }
    })?;
    for (unit, at, kind, value) in values {
        match at {
            None => said.units[unit].kind = kind,
            Some(at) => said.units[unit].values[at] = value,
        }
    }
    Ok(said)
}

impl Said {
    /// Takes in the list of units; `None` where it is none.
    fn list(&mut self, body: &[u8], options: &Options) -> Option<()> {
        let mut reader = Reader::new(body);
        let end = reader.array()?;
        while reader.is_before(end) {
            reader.align(8);
            let (name, _, load, state) = (reader.text()?, reader.text()?, reader.text()?, reader.text()?);
            let (_, _, path) = (reader.text()?, reader.text()?, reader.text()?);
            let _job = (reader.u32()?, reader.text()?, reader.text()?);
            *self.summary.entry(state.to_owned()).or_default() += 1;
            if load == "loaded" && options.accepts(name) {
                let (name, path, state) = (name.to_owned(), path.to_owned(), state.to_owned());
                let mut values = [None; PROPERTIES.len()];
                for (value, property) in values.iter_mut().zip(&PROPERTIES) {
                    // As in node_exporter: one that is not active started at no time.
                    if property.interface == UNIT && (property.wanted)(options) && state != "active" {
                        *value = Some(0);
                    }
                }
                self.units.push(Unit { name, path, state, kind: String::new(), values });
            }
        }
        Some(())
    }
}

fn text(answer: Result<(&str, &[u8]), &str>) -> Option<String> {
    let ("v", body) = answer.ok()? else { return None };
    Reader::new(body).variant_text().map(str::to_owned)
}

/// Returns a number; `None` also for systemd's largest, which stands for none.
fn count(answer: Result<(&str, &[u8]), &str>) -> Option<u64> {
    let ("v", body) = answer.ok()? else { return None };
    Reader::new(body).variant_number().filter(|value| *value != u64::MAX)
}

fn show(said: &Said, page: &mut Page<'_>) {
    let mut gauge = |name: &str, help: &str, labels: &[(&str, &str)], value: f64| {
        page.family(name, help, Kind::Gauge);
        page.sample(name, labels, value);
    };
    if let Some((version, number)) = said.version.as_deref().and_then(|version| Some((version, number_of(version)?))) {
        gauge("node_systemd_version", "Version of systemd.", &[("version", version)], number);
    }
    if let Some(kind) = &said.virtualization {
        let kind = if kind.is_empty() { "none" } else { kind };
        let labels = [("virtualization_type", kind)];
        gauge("node_systemd_virtualization_info", "Always 1; what the machine runs on is in the label.", &labels, 1.0);
    }
    if let Some(state) = &said.state {
        let running = f64::from(u8::from(state == "running"));
        gauge("node_systemd_system_running", "Whether all is up and no unit has failed.", &[], running);
    }

    let name = "node_systemd_units";
    page.family(name, "Units in each state.", Kind::Gauge);
    let others = said.summary.keys().map(String::as_str).filter(|state| !STATES.contains(state));
    for state in STATES.into_iter().chain(others) {
        let count = said.summary.get(state).copied().unwrap_or(0);
        page.labelled(name, &Labels::new(&[("state", state)]), count.into());
    }

    if !said.units.is_empty() {
        let name = "node_systemd_unit_state";
        page.family(name, "Whether the unit is in this state.", Kind::Gauge);
        for unit in &said.units {
            for state in STATES {
                let labels = Labels::new(&[("name", &unit.name), ("state", state), ("type", &unit.kind)]);
                page.labelled(name, &labels, u64::from(unit.state == state).into());
            }
        }
    }
    for (at, property) in PROPERTIES.iter().enumerate() {
        let mut units = said.units.iter().filter_map(|unit| Some((unit, unit.values[at]?))).peekable();
        if units.peek().is_some() {
            page.family(property.family, property.help, property.kind);
        }
        for (unit, digits) in units {
            let value = match property.places {
                0 => Number::Integer(digits),
                places => Number::Decimal { digits, places },
            };
            page.labelled(property.family, &Labels::new(&[("name", &unit.name)]), value);
        }
    }
}

/// Returns the number in a version such as `252.38-1~deb12u1` or `v257.9`: three digits or more, and what follows a point;
/// `None` where there is none.
fn number_of(version: &str) -> Option<f64> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    for (at, _) in version.char_indices() {
        let rest = &version[at..];
        let whole = digits(rest);
        if whole >= 3 {
            let fraction = rest[whole..].strip_prefix('.').map_or(0, digits);
            let length = if fraction > 0 { whole + 1 + fraction } else { whole };
            return rest[..length].parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::collector::testing::Fixture;

    #[test]
    fn versions_have_numbers() {
        for (version, number) in
            [("252.38-1~deb12u1", 252.38), ("v257.9", 257.9), ("255-rc1", 255.0), ("systemd 249.", 249.0)]
        {
            assert_eq!(number_of(version), Some(number), "{version}");
        }
        assert_eq!([number_of(""), number_of("unknown")], [None; 2]);
    }

    #[test]
    fn a_bus_that_hangs_is_waited_for_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let filters = Filters { systemd: Options { bus: Some(path), ..Options::default() }, ..Filters::default() };
        let mut fixture = Fixture::with_filters(&ENTRY, &[], &filters);
        for _ in 0..3 {
            let error = fixture.samples().unwrap_err().to_string();
            assert!(error.contains("no answer in time"), "{error}");
        }
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_ok());
        assert!(listener.accept().is_err(), "it was asked again");
    }

    #[test]
    fn one_that_is_away_or_speaks_otherwise_is_a_failure_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let filters =
            Filters { systemd: Options { bus: Some(path.clone()), ..Options::default() }, ..Filters::default() };
        let mut fixture = Fixture::with_filters(&ENTRY, &[], &filters);
        assert!(matches!(fixture.samples(), Err(CollectError::Read { .. })));
        let listener = UnixListener::bind(&path).unwrap();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 64]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
            stream
        });
        let error = fixture.samples().unwrap_err().to_string();
        drop(other.join().unwrap());
        assert!(error.contains("400 Bad Request"), "{error}");
    }
}
