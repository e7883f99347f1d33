//! The numbers that are asked for of units, and the families that they are.

use cloudpulse_common::exposition::Kind;

use crate::config::Systemd as Options;

pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";
const TIMER: &str = "org.freedesktop.systemd1.Timer";
const SOCKET: &str = "org.freedesktop.systemd1.Socket";

/// A number that units of one kind have, of which each has a family.
pub(super) struct Property {
    /// How their names end.
    pub(super) suffix: &'static str,
    pub(super) interface: &'static str,
    pub(super) name: &'static str,
    pub(super) family: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    /// Digits behind the point: times are microseconds.
    pub(super) places: u32,
    pub(super) wanted: fn(&Options) -> bool,
}

pub(super) const PROPERTIES: [Property; 8] = [
    Property {
        suffix: ".service",
        interface: SERVICE,
        name: "NRestarts",
        family: "node_systemd_service_restart_total",
        help: "Restarts of the service by systemd.",
        kind: Kind::Counter,
        places: 0,
        wanted: |options| options.restarts,
    },
    Property {
        suffix: "",
        interface: UNIT,
        name: "ActiveEnterTimestamp",
        family: "node_systemd_unit_start_time_seconds",
        help: "Unix time at which the unit became active; 0 for one that is not.",
        kind: Kind::Gauge,
        places: 6,
        wanted: |options| options.start_times,
    },
    Property {
        suffix: ".service",
        interface: SERVICE,
        name: "TasksCurrent",
        family: "node_systemd_unit_tasks_current",
        help: "Tasks of the service.",
        kind: Kind::Gauge,
        places: 0,
        wanted: |options| options.tasks,
    },
    Property {
        suffix: ".service",
        interface: SERVICE,
        name: "TasksMax",
        family: "node_systemd_unit_tasks_max",
        help: "Tasks that the service may have.",
        kind: Kind::Gauge,
        places: 0,
        wanted: |options| options.tasks,
    },
    Property {
        suffix: ".timer",
        interface: TIMER,
        name: "LastTriggerUSec",
        family: "node_systemd_timer_last_trigger_seconds",
        help: "Unix time at which the timer elapsed last.",
        kind: Kind::Gauge,
        places: 6,
        wanted: |_| true,
    },
    Property {
        suffix: ".socket",
        interface: SOCKET,
        name: "NAccepted",
        family: "node_systemd_socket_accepted_connections_total",
        help: "Connections that the socket accepted.",
        kind: Kind::Counter,
        places: 0,
        wanted: |_| true,
    },
    Property {
        suffix: ".socket",
        interface: SOCKET,
        name: "NConnections",
        family: "node_systemd_socket_current_connections",
        help: "Connections of the socket that are open.",
        kind: Kind::Gauge,
        places: 0,
        wanted: |_| true,
    },
    Property {
        suffix: ".socket",
        interface: SOCKET,
        name: "NRefused",
        family: "node_systemd_socket_refused_connections_total",
        help: "Connections that the socket refused.",
        // A gauge in node_exporter, which has it wrong.
        kind: Kind::Counter,
        places: 0,
        wanted: |_| true,
    },
];
