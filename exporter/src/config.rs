//! Command line and environment → [`Config`]. Flags are node_exporter's, where it has the same.

mod filters;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};
use cloudpulse_common::health::HealthArgs;
use cloudpulse_common::telemetry::LogArgs;

use crate::collector::{COLLECTORS, Entry};
use crate::host::Roots;

use self::filters::FilterArguments;
pub use self::filters::{Containers, Filters, Systemd};

/// What the exporter was asked to do.
#[derive(Debug)]
pub struct Config {
    /// Asks a running exporter for its health, in place of being one.
    pub health: Option<HealthArgs>,
    /// Addresses to listen on: the first that can be bound is taken.
    pub listen: Vec<SocketAddr>,
    /// File with TLS, users and headers of the HTTP server; plain HTTP for everybody where absent.
    pub web_config_file: Option<PathBuf>,
    /// Name of the node in `cloudpulse_exporter_node_info`.
    pub node_id: String,
    /// Names of the collectors that run.
    pub collectors: Vec<&'static str>,
    /// Which devices, mounts and containers are exported.
    pub filters: Filters,
    /// Whether the page says what the exporter itself uses.
    pub own_metrics: bool,
    /// Where the filesystems of the host are mounted.
    pub roots: Roots,
    /// How to log.
    pub log: LogArgs,
}

/// Node metrics for Prometheus under node_exporter's names, at a fraction of its cost.
///
/// Every flag can be set by the environment variable that its help names. Logs go to stderr.
#[derive(Debug, clap::Parser)]
#[command(name = "cloudpulse-exporter", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Task>,
    /// Address to listen on; `:9100` listens on every interface.
    #[arg(
        long = "web.listen-address",
        env = "LISTEN_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9100",
        global = true
    )]
    listen_address: String,
    /// File with TLS, mTLS, users and headers of the HTTP server, in the format of node_exporter's; see docs/web-config.md.
    /// It and its certificates are read again when they change.
    #[arg(long = "web.config.file", env = "CLOUDPULSE_EXPORTER_WEB_CONFIG_FILE", value_name = "FILE")]
    web_config_file: Option<PathBuf>,
    /// Port to listen on, in place of the one in the listen address.
    #[arg(long, env = "PORT", global = true)]
    port: Option<u16>,
    /// Name of this node in cloudpulse_exporter_node_info; the host name by default.
    #[arg(long, env = "NODE_ID")]
    node_id: Option<String>,
    /// Where proc is mounted.
    #[arg(long = "path.procfs", env = "PATH_PROCFS", default_value = "/proc", value_name = "DIR")]
    procfs: PathBuf,
    /// Where sysfs is mounted.
    #[arg(long = "path.sysfs", env = "PATH_SYSFS", default_value = "/sys", value_name = "DIR")]
    sysfs: PathBuf,
    /// Where the root filesystem of the host is mounted.
    #[arg(long = "path.rootfs", env = "PATH_ROOTFS", default_value = "/", value_name = "DIR")]
    rootfs: PathBuf,
    /// Where udev keeps its data.
    #[arg(long = "path.udev.data", env = "PATH_UDEV_DATA", default_value = "/run/udev/data", value_name = "DIR")]
    udev_data: PathBuf,
    #[command(flatten)]
    filters: FilterArguments,
    /// Run only the collectors that are asked for by --collector.NAME.
    #[arg(long = "collector.disable-defaults", env = "COLLECTOR_DISABLE_DEFAULTS")]
    disable_defaults: bool,
    /// Leave out process_*, which says what the exporter itself uses.
    #[arg(long = "web.disable-exporter-metrics", env = "WEB_DISABLE_EXPORTER_METRICS")]
    disable_own_metrics: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// Returns the command line of the exporter, for man pages and completions.
pub fn command() -> Command {
    with_collectors(Arguments::command())
}

/// What else the program does.
#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Ask the exporter that listens at the listen address whether it is well: exit code 0, or 1 and why not.
    Health(HealthArgs),
}

impl Config {
    /// Reads command line and environment of the process. Prints help, version or what is wrong, and then ends the
    /// process, as clap does: with 0, or with 2 for wrong usage.
    pub fn from_command_line() -> Self {
        Self::parse(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    fn parse<A: Into<std::ffi::OsString> + Clone>(arguments: impl IntoIterator<Item = A>) -> Result<Self, clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        let parsed = Arguments::from_arg_matches(&matches)?;
        let Arguments {
            command: task,
            listen_address,
            web_config_file,
            port,
            node_id,
            procfs,
            sysfs,
            rootfs,
            udev_data,
            filters,
            disable_defaults,
            disable_own_metrics,
            log,
        } = parsed;
        // An address on the command line is more particular than a PORT that happens to be in the environment.
        let given = |id: &str, source: ValueSource| matches.value_source(id) == Some(source);
        let port_is_overruled =
            given("listen_address", ValueSource::CommandLine) && given("port", ValueSource::EnvVariable);
        let listen = resolve(&listen_address, port.filter(|_| !port_is_overruled))
            .map_err(|message| command.error(clap::error::ErrorKind::ValueValidation, message))?;
        let by_default = |entry: &Entry| entry.by_default && !disable_defaults;
        let chosen = COLLECTORS.iter().filter(|entry| is_enabled(&matches, entry.name, by_default(entry)));
        Ok(Self {
            health: task.map(|Task::Health(health)| health),
            listen,
            web_config_file,
            node_id: node_id.unwrap_or_else(host_name),
            collectors: chosen.map(|entry| entry.name).collect(),
            filters: filters.into(),
            own_metrics: !disable_own_metrics,
            roots: Roots { procfs, sysfs, rootfs, udev_data },
            log,
        })
    }
}

/// Collectors that node_exporter has and this does not: whoever turns them off there may do so here.
const ABSENT: [&str; 23] = [
    "bcachefs",
    "buddyinfo",
    "cgroups",
    "dmmultipath",
    "drbd",
    "drm",
    "ethtool",
    "interrupts",
    "kernel_hung",
    "ksmd",
    "lnstat",
    "logind",
    "meminfo_numa",
    "mountstats",
    "network_route",
    "ntp",
    "perf",
    "qdisc",
    "slabinfo",
    "softirqs",
    "sysctl",
    "tcpstat",
    "wifi",
];

/// Adds `--collector.NAME` and `--no-collector.NAME` for each collector of the registry.
fn with_collectors(mut command: Command) -> Command {
    for entry in COLLECTORS {
        // clap wants names that live as long as the process; there are few, and they are made once.
        let id: &'static str = format!("collector.{}", entry.name).leak();
        let no_id: &'static str = format!("no-{id}").leak();
        let env: &'static str = format!("COLLECTOR_{}", entry.name.to_uppercase()).leak();
        command = command
            .arg(
                Arg::new(id)
                    .long(id)
                    .env(env)
                    .help(match entry.by_default {
                        true => format!("{} (on by default; --{no_id} or {env}=false turns it off)", entry.about),
                        false => format!("{} (off by default)", entry.about),
                    })
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .value_name("BOOL")
                    .value_parser(clap::value_parser!(bool)),
            )
            .arg(Arg::new(no_id).long(no_id).action(ArgAction::SetTrue).hide(true));
    }
    for name in ABSENT {
        let no_id: &'static str = format!("no-collector.{name}").leak();
        command = command.arg(Arg::new(no_id).long(no_id).action(ArgAction::SetTrue).hide(true));
    }
    command
}

fn is_enabled(matches: &ArgMatches, name: &str, by_default: bool) -> bool {
    let id = format!("collector.{name}");
    !matches.get_flag(&format!("no-{id}")) && matches.get_one::<bool>(&id).copied().unwrap_or(by_default)
}

/// Returns the addresses that `HOST:PORT` stands for, with `port` in place of its own. `:PORT` is every interface.
fn resolve(address: &str, port: Option<u16>) -> Result<Vec<SocketAddr>, String> {
    let fail =
        |why: &str| format!("listen address {address:?}: {why}; write it as 127.0.0.1:9100, [::1]:9100 or :9100");
    let (host, own_port) = address.rsplit_once(':').ok_or_else(|| fail("no port"))?;
    let port = match port {
        Some(port) => port,
        None => own_port.parse().map_err(|_| fail("no port"))?,
    };
    if host.is_empty() {
        // On a machine without IPv6 the first cannot be bound.
        return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let addresses: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|error| fail(&error.to_string()))?.collect();
    if addresses.is_empty() { Err(fail("no such host")) } else { Ok(addresses) }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        Config::parse(std::iter::once("cloudpulse-exporter").chain(arguments.iter().copied()))
    }

    #[test]
    fn the_command_is_sound_and_runs_everything_by_default() {
        command().debug_assert();
        let config = parse(&[]).unwrap();
        assert_eq!(config.collectors.len(), COLLECTORS.iter().filter(|entry| entry.by_default).count());
        assert!(!config.collectors.contains(&"processes") && !config.collectors.contains(&"systemd"));
        assert_eq!(config.listen, ["127.0.0.1:9100".parse().unwrap()]);
        assert!(!config.node_id.is_empty());
    }

    #[test]
    fn collectors_are_chosen_as_in_node_exporter() {
        for (arguments, chosen) in [
            (&["--collector.disable-defaults", "--collector.cpu", "--collector.time"][..], &["cpu", "time"][..]),
            (&["--collector.disable-defaults", "--collector.cpu=true", "--collector.stat=false"], &["cpu"]),
            (&["--collector.disable-defaults", "--collector.cpu", "--no-collector.cpu"], &[]),
        ] {
            assert_eq!(parse(arguments).unwrap().collectors, chosen, "{arguments:?}");
        }
        let config = parse(&["--no-collector.meminfo"]).unwrap();
        assert_eq!(config.collectors.len(), parse(&[]).unwrap().collectors.len() - 1);
        assert!(parse(&["--collector.processes"]).unwrap().collectors.contains(&"processes"));
        assert!(!config.collectors.contains(&"meminfo"));
        assert!(parse(&["--collector.nothing"]).is_err());
        // What is not here can be turned off and not on.
        assert_eq!(
            parse(&["--no-collector.wifi", "--no-collector.logind"]).unwrap().collectors,
            parse(&[]).unwrap().collectors
        );
        assert!(parse(&["--collector.wifi"]).is_err() && parse(&["--no-collector.nothing"]).is_err());
    }

    #[test]
    fn the_default_flags_are_the_default_filters() {
        let patterns = |filters: &Filters| {
            let all = [&filters.net_devices, &filters.disks, &filters.mount_points, &filters.fs_types];
            all.map(|filter| filter.exclude.as_ref().map(|regex| regex.as_str().to_owned()))
        };
        assert_eq!(patterns(&parse(&[]).unwrap().filters), patterns(&Filters::default()));
        let disks = Filters::default().disks;
        for (disk, accepted) in
            [("sda", true), ("sda1", false), ("nvme0n1", true), ("nvme0n1p2", false), ("dm-0", true), ("zram0", false)]
        {
            assert_eq!(disks.accepts(disk), accepted, "{disk}");
        }
    }

    #[test]
    fn containers_have_compose_labels_unless_others_are_chosen() {
        let containers = |arguments: &[&str]| parse(arguments).unwrap().filters.containers;
        let default = containers(&[]);
        assert_eq!((default.labels, default.socket), (Containers::default().labels, None));
        let chosen = containers(&["--collector.container.labels=team, tier", "--collector.container.docker-socket="]);
        assert_eq!((chosen.labels, chosen.socket), (vec!["team".to_owned(), "tier".to_owned()], Some(PathBuf::new())));
        assert!(containers(&["--collector.container.labels="]).labels.is_empty());
    }

    #[test]
    fn units_match_as_a_whole_and_both_patterns_hold() {
        let systemd = |arguments: &[&str]| parse(arguments).unwrap().filters.systemd;
        let default = systemd(&[]);
        for (unit, accepted) in [("a.service", true), ("a.target", true), ("a.mount", false), ("a.mount.service", true)]
        {
            assert_eq!(default.accepts(unit), accepted, "{unit}");
        }
        let chosen =
            systemd(&["--collector.systemd.unit-include=(a|b)\\.service", "--collector.systemd.unit-exclude=b.*"]);
        let units = ["a.service", "b.service", "aa.service"].map(|unit| chosen.accepts(unit));
        assert_eq!(units, [true, false, false]);
        let bus = |address: &str| parse(&["--collector.systemd.bus-address", address]).map(|it| it.filters.systemd.bus);
        assert_eq!(bus("unix:path=/run/bus,guid=1").unwrap(), Some(PathBuf::from("/run/bus")));
        assert!(default.bus.is_none() && bus("tcp:host=a").is_err());
        assert!(parse(&["--collector.systemd.unit-include=("]).is_err());
    }

    #[test]
    fn inclusion_and_exclusion_are_not_both_taken() {
        let config = parse(&["--collector.diskstats.device-include=^loop"]).unwrap();
        assert!(config.filters.disks.accepts("loop0") && !config.filters.disks.accepts("sda"));
        assert!(parse(&["--collector.netdev.device-include=a", "--collector.netdev.device-exclude=b"]).is_err());
        assert!(parse(&["--collector.netdev.device-include=("]).is_err());
    }

    #[test]
    fn a_port_takes_the_place_of_the_one_in_the_address() {
        assert_eq!(resolve("127.0.0.1:9100", Some(8080)).unwrap(), ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(resolve("[::1]:9100", None).unwrap(), ["[::1]:9100".parse().unwrap()]);
        assert_eq!(resolve(":9100", None).unwrap(), ["[::]:9100".parse().unwrap(), "0.0.0.0:9100".parse().unwrap()]);
        for address in ["9100", "localhost", "localhost:port", "127.0.0.1:99999", "127.0.0.1:"] {
            assert!(resolve(address, None).is_err(), "{address}");
        }
        assert_eq!(parse(&["--port=1", "--web.listen-address=127.0.0.1:2"]).unwrap().listen[0].port(), 1);
    }

    #[test]
    fn health_is_asked_for_at_the_address_that_is_listened_on() {
        assert!(parse(&[]).unwrap().health.is_none());
        for arguments in [
            &["health", "--ready", "--web.listen-address=[::1]:7"][..],
            &["--web.listen-address=[::1]:7", "health", "--ready"],
        ] {
            let config = parse(arguments).unwrap();
            assert_eq!(config.listen, ["[::1]:7".parse().unwrap()], "{arguments:?}");
            assert!(config.health.unwrap().ready);
        }
        assert_eq!(parse(&["health", "--port=8", "--timeout=1s"]).unwrap().listen, ["127.0.0.1:8".parse().unwrap()]);
        assert!(parse(&["help"]).is_err());
    }
}
