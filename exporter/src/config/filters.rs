//! Which devices, mounts and containers are exported, and the flags that choose them.

use std::ffi::OsString;
use std::path::PathBuf;

use regex_lite::Regex;

use crate::filter::Filter;

/// Mount points that are left out by default; node_exporter's.
const MOUNT_POINTS_EXCLUDE: &str =
    "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)";
/// Types of filesystem that are left out by default; node_exporter's.
const FS_TYPES_EXCLUDE: &str = "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|\
    iso9660|mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$";
/// Disks that are left out by default: partitions, and what is no disk; node_exporter's.
const DISKS_EXCLUDE: &str = "^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$";

/// Units that are exported by default, and that are not; node_exporter's.
const UNITS_INCLUDE: &str = ".+";
const UNITS_EXCLUDE: &str = r".+\.(automount|device|mount|scope|slice)";

/// Labels of containers that are exported by default: those of Docker Compose by which its services are told apart.
const CONTAINER_LABELS: &str =
    "com.docker.compose.project,com.docker.compose.service,com.docker.compose.container-number";

/// Devices that are ignored by default: none.
const NONE: &str = "^$";

/// Which containers are exported, and what is said of them.
#[derive(Debug, Clone)]
pub struct Containers {
    /// Paths of their cgroups, such as `/docker/<id>`.
    pub ids: Filter,
    /// Socket of the engine that knows their names, as this process sees it: empty for none, `/run/docker.sock` of the host
    /// when absent.
    pub socket: Option<PathBuf>,
    /// Labels of the engine that are exported, as it calls them.
    pub labels: Vec<String>,
}

impl Default for Containers {
    fn default() -> Self {
        let labels = CONTAINER_LABELS.split(',').map(str::to_owned).collect();
        Self { ids: Filter::default(), socket: None, labels }
    }
}

/// What the collector systemd asks for.
#[derive(Debug, Clone)]
pub struct Systemd {
    /// Whole names of units that are exported, unless `exclude` matches them too.
    pub include: Regex,
    /// Whole names of units that are left out.
    pub exclude: Regex,
    /// Tasks of each service.
    pub tasks: bool,
    /// Restarts of each service.
    pub restarts: bool,
    /// When each unit became active.
    pub start_times: bool,
    /// Asks systemd itself and not over the bus.
    pub private: bool,
    /// Socket of the bus, as this process sees it; that of the host's system when absent.
    pub bus: Option<PathBuf>,
}

impl Systemd {
    /// Returns whether a unit is exported.
    pub fn accepts(&self, unit: &str) -> bool {
        self.include.is_match(unit) && !self.exclude.is_match(unit)
    }
}

impl Default for Systemd {
    #[expect(clippy::expect_used, reason = "the constants are regular expressions, as every test shows")]
    fn default() -> Self {
        Self {
            include: whole(UNITS_INCLUDE).expect("a regular expression"),
            exclude: whole(UNITS_EXCLUDE).expect("a regular expression"),
            tasks: false,
            restarts: false,
            start_times: false,
            private: false,
            bus: None,
        }
    }
}

/// Reads a pattern for the whole of a name, as node_exporter takes those of units.
fn whole(pattern: &str) -> Result<Regex, regex_lite::Error> {
    Regex::new(&format!("^(?:{pattern})$"))
}

/// Returns the path of an address of a bus, such as `unix:path=/run/dbus/system_bus_socket,guid=…`.
fn bus_path(address: &str) -> Result<PathBuf, String> {
    let path = address.strip_prefix("unix:path=").and_then(|rest| rest.split([',', ';']).next());
    path.map(PathBuf::from).ok_or_else(|| format!("{address:?} is not of the form unix:path=PATH"))
}

/// Which devices, mounts and containers are exported.
#[derive(Debug, Clone)]
pub struct Filters {
    /// Of the collector systemd.
    pub systemd: Systemd,
    /// Of the collector container.
    pub containers: Containers,
    /// Devices of the collector arp.
    pub arp_devices: Filter,
    /// Chips of the collector hwmon.
    pub hwmon_chips: Filter,
    /// Devices that the collector netclass leaves out.
    pub netclass_ignored: Regex,
    /// Fields of the collector netstat; node_exporter's default when absent.
    pub netstat_fields: Option<Regex>,
    /// Fields of the collector vmstat; node_exporter's default when absent.
    pub vmstat_fields: Option<Regex>,
    /// Supplies that the collector powersupplyclass leaves out.
    pub power_supplies_ignored: Regex,
    /// Tape drives that the collector tapestats leaves out.
    pub tapes_ignored: Regex,
    /// Adapters of the collector infiniband.
    pub infiniband_devices: Filter,
    /// Labels of servers of the collector ipvs; all when absent.
    pub ipvs_labels: Option<Vec<String>>,
    /// Folders of the collector textfile.
    pub textfile_folders: Vec<PathBuf>,
    /// Devices of the collector netdev.
    pub net_devices: Filter,
    /// Devices of the collector diskstats.
    pub disks: Filter,
    /// Mount points of the collector filesystem.
    pub mount_points: Filter,
    /// Types of filesystem of the collector filesystem.
    pub fs_types: Filter,
}

impl Default for Filters {
    #[expect(clippy::expect_used, reason = "the constants are regular expressions, as every test shows")]
    fn default() -> Self {
        let regex = |pattern: &str| Regex::new(pattern).expect("a regular expression");
        let without = |pattern: &str| Filter { include: None, exclude: Some(regex(pattern)) };
        Self {
            systemd: Systemd::default(),
            containers: Containers::default(),
            arp_devices: Filter::default(),
            hwmon_chips: Filter::default(),
            netclass_ignored: regex(NONE),
            netstat_fields: None,
            vmstat_fields: None,
            power_supplies_ignored: regex(NONE),
            tapes_ignored: regex(NONE),
            infiniband_devices: Filter::default(),
            ipvs_labels: None,
            textfile_folders: Vec::new(),
            net_devices: Filter::default(),
            disks: without(DISKS_EXCLUDE),
            mount_points: without(MOUNT_POINTS_EXCLUDE),
            fs_types: without(FS_TYPES_EXCLUDE),
        }
    }
}

/// Their flags.
#[derive(Debug, clap::Args)]
pub(super) struct FilterArguments {
    /// Containers to export by the path of their cgroup, such as `^/docker/`, all others being left out.
    #[arg(long = "collector.container.id-include", env = "COLLECTOR_CONTAINER_ID_INCLUDE", value_name = "REGEX")]
    container_include: Option<Regex>,
    /// Containers to leave out by the path of their cgroup.
    #[arg(
        long = "collector.container.id-exclude",
        env = "COLLECTOR_CONTAINER_ID_EXCLUDE",
        value_name = "REGEX",
        conflicts_with = "container_include"
    )]
    container_exclude: Option<Regex>,
    /// Socket of Docker, or of what speaks its API, to ask for names, images and labels of containers; /run/docker.sock of
    /// the host by default. Empty to ask nobody: containers then have the path of their cgroup as their only label. Whoever
    /// may use this socket is as good as root; the exporter only lists containers.
    #[arg(
        long = "collector.container.docker-socket",
        env = "COLLECTOR_CONTAINER_DOCKER_SOCKET",
        value_name = "PATH",
        value_parser = clap::builder::OsStringValueParser::new()
    )]
    container_socket: Option<OsString>,
    /// Labels of containers to export, as container_label_com_docker_compose_service and so on; empty for none.
    #[arg(
        long = "collector.container.labels",
        env = "COLLECTOR_CONTAINER_LABELS",
        value_name = "LABEL,...",
        default_value = CONTAINER_LABELS
    )]
    container_labels: String,
    /// Devices of the collector arp to export, all others being left out.
    #[arg(long = "collector.arp.device-include", env = "COLLECTOR_ARP_DEVICE_INCLUDE", value_name = "REGEX")]
    arp_include: Option<Regex>,
    /// Devices of the collector arp to leave out.
    #[arg(
        long = "collector.arp.device-exclude",
        env = "COLLECTOR_ARP_DEVICE_EXCLUDE",
        value_name = "REGEX",
        conflicts_with = "arp_include"
    )]
    arp_exclude: Option<Regex>,
    /// Sensor chips to export, all others being left out.
    #[arg(long = "collector.hwmon.chip-include", env = "COLLECTOR_HWMON_CHIP_INCLUDE", value_name = "REGEX")]
    hwmon_include: Option<Regex>,
    /// Sensor chips to leave out.
    #[arg(
        long = "collector.hwmon.chip-exclude",
        env = "COLLECTOR_HWMON_CHIP_EXCLUDE",
        value_name = "REGEX",
        conflicts_with = "hwmon_include"
    )]
    hwmon_exclude: Option<Regex>,
    /// Network devices that the collector netclass leaves out.
    #[arg(long = "collector.netclass.ignored-devices", env = "COLLECTOR_NETCLASS_IGNORED_DEVICES", value_name = "REGEX", default_value = NONE)]
    netclass_ignored: Regex,
    /// Statistics of IP, ICMP, TCP and UDP to export, such as `^Tcp_`; those of node_exporter by default.
    #[arg(long = "collector.netstat.fields", env = "COLLECTOR_NETSTAT_FIELDS", value_name = "REGEX")]
    netstat_fields: Option<Regex>,
    /// Fields of /proc/vmstat to export; paging, swapping and kills for want of memory by default, as in node_exporter.
    #[arg(long = "collector.vmstat.fields", env = "COLLECTOR_VMSTAT_FIELDS", value_name = "REGEX")]
    vmstat_fields: Option<Regex>,
    /// Power supplies to leave out.
    #[arg(long = "collector.powersupply.ignored-supplies", env = "COLLECTOR_POWERSUPPLY_IGNORED_SUPPLIES", value_name = "REGEX", default_value = NONE)]
    power_ignored: Regex,
    /// Tape drives to leave out.
    #[arg(long = "collector.tapestats.ignored-devices", env = "COLLECTOR_TAPESTATS_IGNORED_DEVICES", value_name = "REGEX", default_value = NONE)]
    tapes_ignored: Regex,
    /// InfiniBand adapters to export, all others being left out.
    #[arg(
        long = "collector.infiniband.device-include",
        env = "COLLECTOR_INFINIBAND_DEVICE_INCLUDE",
        value_name = "REGEX"
    )]
    infiniband_include: Option<Regex>,
    /// InfiniBand adapters to leave out.
    #[arg(
        long = "collector.infiniband.device-exclude",
        env = "COLLECTOR_INFINIBAND_DEVICE_EXCLUDE",
        value_name = "REGEX",
        conflicts_with = "infiniband_include"
    )]
    infiniband_exclude: Option<Regex>,
    /// Labels of the servers behind the kernel's load balancer, all by default. What then has the same labels is added up.
    #[arg(
        long = "collector.ipvs.backend-labels",
        env = "COLLECTOR_IPVS_BACKEND_LABELS",
        value_name = "LABEL,...",
        value_delimiter = ',',
        value_parser = ["local_address", "local_port", "remote_address", "remote_port", "proto", "local_mark", ""]
    )]
    ipvs_labels: Option<Vec<String>>,
    /// Folder with files *.prom to export as they are. May be given several times.
    #[arg(long = "collector.textfile.directory", env = "COLLECTOR_TEXTFILE_DIRECTORY", value_name = "DIR")]
    textfile: Vec<PathBuf>,
    /// Network devices to export, all others being left out.
    #[arg(long = "collector.netdev.device-include", env = "COLLECTOR_NETDEV_DEVICE_INCLUDE", value_name = "REGEX")]
    net_include: Option<Regex>,
    /// Network devices to leave out.
    #[arg(
        long = "collector.netdev.device-exclude",
        env = "COLLECTOR_NETDEV_DEVICE_EXCLUDE",
        value_name = "REGEX",
        conflicts_with = "net_include"
    )]
    net_exclude: Option<Regex>,
    /// Block devices to export, all others being left out.
    #[arg(
        long = "collector.diskstats.device-include",
        env = "COLLECTOR_DISKSTATS_DEVICE_INCLUDE",
        value_name = "REGEX"
    )]
    disk_include: Option<Regex>,
    /// Block devices to leave out.
    #[arg(long = "collector.diskstats.device-exclude", env = "COLLECTOR_DISKSTATS_DEVICE_EXCLUDE", value_name = "REGEX",
          default_value = DISKS_EXCLUDE, conflicts_with = "disk_include")]
    disk_exclude: Regex,
    /// Mount points to export, all others being left out.
    #[arg(
        long = "collector.filesystem.mount-points-include",
        env = "COLLECTOR_FILESYSTEM_MOUNT_POINTS_INCLUDE",
        value_name = "REGEX"
    )]
    mount_include: Option<Regex>,
    /// Mount points to leave out.
    #[arg(long = "collector.filesystem.mount-points-exclude", env = "COLLECTOR_FILESYSTEM_MOUNT_POINTS_EXCLUDE",
          value_name = "REGEX", default_value = MOUNT_POINTS_EXCLUDE, conflicts_with = "mount_include")]
    mount_exclude: Regex,
    /// Types of filesystem to export, all others being left out.
    #[arg(
        long = "collector.filesystem.fs-types-include",
        env = "COLLECTOR_FILESYSTEM_FS_TYPES_INCLUDE",
        value_name = "REGEX"
    )]
    type_include: Option<Regex>,
    /// Types of filesystem to leave out.
    #[arg(long = "collector.filesystem.fs-types-exclude", env = "COLLECTOR_FILESYSTEM_FS_TYPES_EXCLUDE",
          value_name = "REGEX", default_value = FS_TYPES_EXCLUDE, conflicts_with = "type_include")]
    type_exclude: Regex,
    /// Units of systemd to export: a pattern of their whole names.
    #[arg(long = "collector.systemd.unit-include", env = "COLLECTOR_SYSTEMD_UNIT_INCLUDE", value_name = "REGEX",
          default_value = UNITS_INCLUDE, value_parser = whole)]
    unit_include: Regex,
    /// Units of systemd to leave out: a pattern of their whole names.
    #[arg(long = "collector.systemd.unit-exclude", env = "COLLECTOR_SYSTEMD_UNIT_EXCLUDE", value_name = "REGEX",
          default_value = UNITS_EXCLUDE, value_parser = whole)]
    unit_exclude: Regex,
    /// Export the tasks of each service of systemd, and how many it may have.
    #[arg(long = "collector.systemd.enable-task-metrics", env = "COLLECTOR_SYSTEMD_ENABLE_TASK_METRICS")]
    unit_tasks: bool,
    /// Export how often systemd restarted each service.
    #[arg(long = "collector.systemd.enable-restarts-metrics", env = "COLLECTOR_SYSTEMD_ENABLE_RESTARTS_METRICS")]
    unit_restarts: bool,
    /// Export when each unit of systemd became active.
    #[arg(long = "collector.systemd.enable-start-time-metrics", env = "COLLECTOR_SYSTEMD_ENABLE_START_TIME_METRICS")]
    unit_start_times: bool,
    /// Ask systemd at its own socket, /run/systemd/private of the host, and not over the bus. Only root may.
    #[arg(long = "collector.systemd.private", env = "COLLECTOR_SYSTEMD_PRIVATE")]
    systemd_private: bool,
    /// Address of the bus over which systemd is asked, as `unix:path=PATH`; /run/dbus/system_bus_socket of the host by default.
    #[arg(
        long = "collector.systemd.bus-address",
        env = "COLLECTOR_SYSTEMD_BUS_ADDRESS",
        value_name = "ADDRESS",
        value_parser = bus_path
    )]
    systemd_bus: Option<PathBuf>,
}

impl From<FilterArguments> for Filters {
    fn from(arguments: FilterArguments) -> Self {
        let FilterArguments {
            container_include,
            container_exclude,
            container_socket,
            container_labels,
            arp_include,
            arp_exclude,
            hwmon_include,
            hwmon_exclude,
            netclass_ignored,
            netstat_fields,
            vmstat_fields,
            power_ignored,
            tapes_ignored,
            infiniband_include,
            infiniband_exclude,
            ipvs_labels,
            textfile,
            net_include,
            net_exclude,
            disk_include,
            disk_exclude,
            mount_include,
            mount_exclude,
            type_include,
            type_exclude,
            unit_include,
            unit_exclude,
            unit_tasks,
            unit_restarts,
            unit_start_times,
            systemd_private,
            systemd_bus,
        } = arguments;
        let labels = container_labels.split(',').map(str::trim).filter(|label| !label.is_empty());
        Self {
            systemd: Systemd {
                include: unit_include,
                exclude: unit_exclude,
                tasks: unit_tasks,
                restarts: unit_restarts,
                start_times: unit_start_times,
                private: systemd_private,
                bus: systemd_bus,
            },
            containers: Containers {
                ids: Filter { include: container_include, exclude: container_exclude },
                socket: container_socket.map(PathBuf::from),
                labels: labels.map(str::to_owned).collect(),
            },
            arp_devices: Filter { include: arp_include, exclude: arp_exclude },
            hwmon_chips: Filter { include: hwmon_include, exclude: hwmon_exclude },
            netclass_ignored,
            netstat_fields,
            vmstat_fields,
            power_supplies_ignored: power_ignored,
            tapes_ignored,
            infiniband_devices: Filter { include: infiniband_include, exclude: infiniband_exclude },
            ipvs_labels,
            textfile_folders: textfile,
            net_devices: Filter { include: net_include, exclude: net_exclude },
            disks: Filter { include: disk_include, exclude: Some(disk_exclude) },
            mount_points: Filter { include: mount_include, exclude: Some(mount_exclude) },
            fs_types: Filter { include: type_include, exclude: Some(type_exclude) },
        }
    }
}
