//! The cgroups of containers → `container_*` per container, under cAdvisor's names.
//!
//! The tree of cgroups says which containers there are ([`tree`], [`path`]), the files of each what it uses ([`files`],
//! [`parse`]), its first process what it sends and receives ([`process`]). An engine that speaks Docker's API says what they
//! are called ([`names`], [`engine`]), the folders of logs which pod they are of ([`pods`]); without both they have their id
//! alone.

mod engine;
mod families;
mod files;
mod labels;
mod machine;
mod names;
mod parse;
mod path;
mod pods;
mod process;
mod tree;

use std::fmt;
use std::fmt::{Debug, Formatter};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cloudpulse_common::exposition::{Kind, Labels, Number, Page};
use rustix::process::{Resource, getrlimit};

use self::engine::Description;
use self::files::{Fate, Files, Hierarchy, Scratch, containers_to_keep};
use self::labels::{device_name, rendered, wanted};
use self::names::Names;
use self::parse::{Figures, Io, Reading};
use self::path::{Runtime, pod_uid};
use self::pods::{Logs, Pod};
use self::process::{Network, Process};
use self::tree::{Found, MOST_CONTAINERS, Tree};
use super::devices::Devices;
use super::netdev;
use super::{CollectError, Collector, Entry};
use crate::config::{Containers as Options, Filters};
use crate::filter::Filter;
use crate::host::{Host, ProcFile, Shape};
use crate::parse::{integer, lines};

pub(super) const ENTRY: Entry = Entry {
    name: "container",
    about: "CPU, memory, network and I/O of containers, from their cgroups; names from the socket of Docker",
    by_default: true,
    new: |host, filters: &Filters| Box::new(Containers::new(host, &filters.containers)),
};

/// The socket of Docker on the host. Not in /var/run, which is an absolute link and would lead out of a mounted root.
const DEFAULT_SOCKET: &str = "/run/docker.sock";
/// How often an engine, the folders of logs or its cgroup are asked in vain for what is not known of a container.
const TRIES: u32 = 5;
/// Network devices of a container; it can make as many as it likes.
const MOST_INTERFACES: usize = 64;
/// Devices of the network that are no link to the outside, as cAdvisor leaves them out.
const INNER_INTERFACES: [&str; 4] = ["lo", "veth", "docker", "nerdctl"];

struct Containers {
    filter: Filter,
    /// `None` where no engine is to be asked.
    names: Option<Names>,
    stat: ProcFile,
    meminfo: ProcFile,
    /// `None` until cgroups are found.
    tree: Option<(Hierarchy, Tree)>,
    /// The tree is not as `list` has it.
    stale: bool,
    trimmed: bool,
    /// The files of so many containers stay open.
    kept: usize,
    /// By path.
    list: Devices<Option<Box<Container>>>,
    scratch: Scratch,
}

/// By hand: what every collector can print counts as resident memory, and nobody wants all of this printed.
impl Debug for Containers {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Containers").finish_non_exhaustive()
    }
}

/// What is kept of a container.
#[derive(Debug)]
struct Container {
    found: Found,
    description: Option<Description>,
    pod: Option<Pod>,
    labels: Labels,
    cpu_labels: Labels,
    /// An open question to the engine is about it too, and how many answers did not know it.
    asked: bool,
    engine_tries: u32,
    pod_tries: u32,
    files: Files,
    reading: Reading,
    /// It has a cgroup that can be read.
    present: bool,
    /// Hundredths of a second since 1970: the containers of a pod often start in one second.
    started: Option<u64>,
    process: Option<Process>,
    /// Scrapes that looked for a process, or should have, and found none.
    without_process: u32,
    network: Option<Network>,
    /// Its network is neither the machine's nor shown by another container.
    shows_network: bool,
    /// By name; `None` for one that is left out.
    interfaces: Devices<Option<Interface>>,
}

#[derive(Debug)]
struct Interface {
    labels: Labels,
    columns: [u64; netdev::COLUMNS],
}

impl Collector for Containers {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        self.find(host)?;
        self.find_pods(host);
        self.ask();
        // Between question and answer, so that the engine works meanwhile.
        self.read(host)?;
        self.take_names();
        // After the names: what was labelled without them is made anew.
        self.read_networks(&host.roots().procfs);
        self.name_devices(&host.roots().sysfs);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        families::write(page, self.present(), u64::try_from(now).unwrap_or_default());
        let any = self.present().next().is_some();
        if any {
            machine::write_cores(page, host.read(self.stat).unwrap_or_default());
            machine::write_memory(page, host.read(self.meminfo).unwrap_or_default());
        }
        if self.trimmed || any {
            let name = "cloudpulse_exporter_containers_trimmed";
            page.family(name, "Whether there are more containers or cgroups than are looked at.", Kind::Gauge);
            page.unlabelled(name, Number::Integer(u64::from(self.trimmed)));
        }
        Ok(())
    }
}

impl Containers {
    fn new(host: &mut Host, options: &Options) -> Self {
        // The default is the host's, wherever that is mounted; a path that was given is as this process sees it.
        let socket = options.socket.clone().unwrap_or_else(|| host.path_of(DEFAULT_SOCKET));
        Self {
            filter: options.ids.clone(),
            names: (!socket.as_os_str().is_empty()).then(|| Names::new(socket, wanted(&options.labels))),
            stat: host.proc_file("stat", Shape::Whole),
            meminfo: host.proc_file("meminfo", Shape::Whole),
            tree: None,
            stale: true,
            trimmed: false,
            kept: getrlimit(Resource::Nofile).current.map_or(MOST_CONTAINERS, containers_to_keep),
            list: Devices::new(),
            scratch: Scratch::default(),
        }
    }

    fn present(&self) -> impl Iterator<Item = &Container> + Clone {
        self.list.iter().flatten().map(|container| &**container).filter(|container| container.present)
    }

    /// Brings the list up to the tree, if that has changed.
    fn find(&mut self, host: &Host) -> Result<(), CollectError> {
        if self.tree.is_none() {
            let base = host.roots().sysfs.join("fs/cgroup");
            let hierarchy = Hierarchy::detect(&base).ok_or(CollectError::NoData(base))?;
            let tree = Tree::new(hierarchy.root.clone());
            self.tree = Some((hierarchy, tree));
        }
        let Some((hierarchy, tree)) = &mut self.tree else { return Ok(()) };
        // Asked in any case, so that what it has to say does not pile up.
        if !(tree.has_changed() | self.stale) {
            return Ok(());
        }
        let walk = tree.walk().map_err(|source| CollectError::Read { path: hierarchy.root.clone(), source })?;
        self.stale = false;
        if walk.trimmed && !self.trimmed {
            tracing::warn!(containers = walk.found.len(), "there are more containers or cgroups than are looked at");
        }
        self.trimmed = walk.trimmed;
        let Self { list, filter, .. } = self;
        list.begin();
        for found in walk.found {
            list.entry(found.path.clone().as_bytes(), |path| {
                filter.accepts(path).then(|| Box::new(Container::new(found, hierarchy)))
            });
        }
        list.finish();
        Ok(())
    }

    /// Looks for the pods of the containers that have none yet, or no name in it: the kubelet makes the folders of logs
    /// about when it starts the container.
    fn find_pods(&mut self, host: &Host) {
        let mut logs = None;
        for container in self.list.iter_mut().flatten() {
            let named = container.pod.as_ref().is_some_and(|pod| !pod.container.is_empty());
            if named || container.pod_tries >= TRIES {
                continue;
            }
            let Some(uid) = pod_uid(&container.found.path) else {
                container.pod_tries = TRIES;
                continue;
            };
            let logs = logs.get_or_insert_with(|| Logs::read(&host.path_of("/var/log")));
            container.pod_tries += 1;
            let pod = logs.find(&uid, &container.found.id);
            if pod != container.pod {
                container.pod = pod;
                container.render();
            }
        }
    }

    /// Asks the engine if there is a container that it may know.
    fn ask(&mut self) {
        let Some(names) = &mut self.names else { return };
        if self.list.iter().flatten().any(|container| container.wants_name()) && names.ask() {
            for container in self.list.iter_mut().flatten() {
                container.asked = true;
            }
        }
    }

    /// Takes the answer of the engine, if there is one.
    fn take_names(&mut self) {
        let Some(mut descriptions) = self.names.as_mut().and_then(Names::answer) else { return };
        for container in self.list.iter_mut().flatten() {
            match descriptions.remove(&container.found.id) {
                Some(description) if container.description.as_ref() != Some(&description) => {
                    container.description = Some(description);
                    container.render();
                }
                Some(_) => {}
                // It started after the question, or is none of the engine's.
                None if container.asked => container.engine_tries += 1,
                None => {}
            }
            container.asked = false;
        }
    }

    /// Reads the files of all containers, and finds the process of those that have none yet.
    fn read(&mut self, host: &mut Host) -> Result<(), CollectError> {
        let Some((hierarchy, _)) = &self.tree else { return Ok(()) };
        let mut boot_time = None;
        for (at, container) in self.list.iter_mut().flatten().enumerate() {
            let keep = at < self.kept;
            let path = &container.found.path;
            let fate = container.files.read(hierarchy, path, keep, &mut container.reading, &mut self.scratch)?;
            // What can no longer be read is not shown; the list is right again with the next scrape.
            self.stale |= container.present && fate == Fate::Gone;
            container.present = fate != Fate::Gone;
            if fate != Fate::Same {
                (container.process, container.started, container.without_process) = (None, None, 0);
            }
            if container.present && container.process.is_none() && container.looks_for_process() {
                let cgroup = hierarchy.root.join(container.found.path.trim_start_matches('/'));
                container.process = Process::find(&host.roots().procfs, &cgroup);
                if container.process.is_some() {
                    container.without_process = 0;
                }
                if container.started.is_none() {
                    let ticks = container.process.as_ref().and_then(Process::start_ticks);
                    let boot_time = *boot_time.get_or_insert_with(|| host.read(self.stat).ok().and_then(boot_time_of));
                    container.started = ticks.zip(boot_time).map(|(ticks, boot_time)| boot_time * 100 + ticks);
                }
            }
        }
        Ok(())
    }

    /// Reads the network devices of the containers that show theirs.
    fn read_networks(&mut self, procfs: &Path) {
        let mut changed = false;
        for container in self.list.iter_mut().flatten() {
            let network = container.process.as_ref().filter(|_| container.present).map(|process| process.network);
            changed |= network != container.network;
            container.network = network;
        }
        if changed {
            self.share_networks(procfs);
        }
        for (at, container) in self.list.iter_mut().flatten().enumerate() {
            container.interfaces.begin();
            if container.shows_network {
                container.read_network(&mut self.scratch);
            }
            container.interfaces.finish();
            if at >= self.kept {
                container.process = None;
            }
        }
    }

    /// Has each network shown by the container that was first in it, such as the one that holds a pod's, and that of the
    /// machine by none: the sum over containers is then what was really sent.
    fn share_networks(&mut self, procfs: &Path) {
        let machine = Network::of_machine(procfs);
        let all: Vec<(Option<Network>, Option<u64>)> =
            self.list.iter().flatten().map(|container| (container.network, container.started)).collect();
        for (at, container) in self.list.iter_mut().flatten().enumerate() {
            let (network, started) = all[at];
            let is_first = || {
                let others = all.iter().enumerate().filter(|(_, (of_other, _))| *of_other == network);
                others.map(|(at, (_, started))| (*started, at)).min() == Some((started, at))
            };
            container.shows_network = network.is_some() && network != machine && is_first();
        }
    }

    /// Makes the labels of block devices that are new to their container.
    fn name_devices(&mut self, sysfs: &Path) {
        for container in self.list.iter_mut().flatten() {
            let Container { found, description, pod, reading, .. } = &mut **container;
            reading.io.for_each_named(|number, Io { labels, .. }| {
                labels.get_or_insert_with(|| {
                    let device = device_name(sysfs, number);
                    rendered(found, description.as_ref(), pod.as_ref(), &[("device", &device)])
                });
            });
        }
    }
}

impl Container {
    fn new(found: Found, hierarchy: &Hierarchy) -> Self {
        let mut container = Self {
            found,
            description: None,
            pod: None,
            labels: Labels::new(&[]),
            cpu_labels: Labels::new(&[]),
            asked: false,
            engine_tries: 0,
            pod_tries: 0,
            files: Files::new(hierarchy),
            reading: Reading { figures: Figures::default(), io: Devices::new() },
            present: false,
            started: None,
            process: None,
            without_process: 0,
            network: None,
            shows_network: false,
            interfaces: Devices::new(),
        };
        container.render();
        container
    }

    fn wants_name(&self) -> bool {
        self.description.is_none() && self.engine_tries < TRIES && self.found.runtime == Runtime::Engine
    }

    /// Returns whether this scrape looks for its process. One that has none, or none that can be seen from here, is not
    /// searched for at every scrape.
    fn looks_for_process(&mut self) -> bool {
        let scrapes = self.without_process;
        self.without_process = scrapes.saturating_add(1);
        scrapes < TRIES || scrapes.is_multiple_of(16)
    }

    /// Makes its labels, and forgets those that were made of what was known before.
    fn render(&mut self) {
        let (description, pod) = (self.description.as_ref(), self.pod.as_ref());
        self.labels = rendered(&self.found, description, pod, &[]);
        self.cpu_labels = rendered(&self.found, description, pod, &[("cpu", "total")]);
        for io in self.reading.io.iter_mut() {
            io.labels = None;
        }
        self.interfaces = Devices::new();
    }

    fn read_network(&mut self, scratch: &mut Scratch) {
        let Self { found, description, pod, process, interfaces, .. } = self;
        let devices = process.as_ref().and_then(Process::network_devices);
        let content = devices.and_then(|devices| scratch.read(&devices, true).ok());
        let Some(content) = content else {
            // Its process ended; the next scrape looks for another.
            *process = None;
            return;
        };
        // Two lines of headings.
        for line in lines(content).skip(2).take(MOST_INTERFACES) {
            let Ok((name, columns)) = netdev::parse(line) else { continue };
            let interface = interfaces.entry(name, |name| {
                let inner = INNER_INTERFACES.iter().any(|prefix| name.starts_with(prefix));
                let labels = || rendered(found, description.as_ref(), pod.as_ref(), &[("interface", name)]);
                (!inner).then(|| Interface { labels: labels(), columns })
            });
            if let Some(interface) = interface {
                interface.columns = columns;
            }
        }
    }
}

fn boot_time_of(stat: &[u8]) -> Option<u64> {
    lines(stat).find_map(|line| line.strip_prefix(b"btime ")).and_then(integer)
}

#[cfg(test)]
mod tests;
