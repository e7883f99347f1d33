//! `/proc/net/rpc/nfs` → `node_nfs_*`: what this machine asks of NFS servers.

use cloudpulse_common::exposition::Page;

use super::family::Family;
use super::rpc::{write, write_one, write_procedures};
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};

pub(super) const ENTRY: Entry = Entry {
    name: "nfs",
    about: "Requests to NFS servers",
    by_default: true,
    new: |host, _: &Filters| Box::new(Nfs { file: host.own_proc_file("net/rpc/nfs", Shape::Whole) }),
};

/// Procedures of each version in the kernel's order, under node_exporter's names.
#[rustfmt::skip]
const V2: [&str; 18] = [
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove", "Rename",
    "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];
#[rustfmt::skip]
const V3: [&str; 22] = [
    "Null", "GetAttr", "SetAttr", "Lookup", "Access", "ReadLink", "Read", "Write", "Create", "MkDir", "SymLink", "MkNod",
    "Remove", "RmDir", "Rename", "Link", "ReadDir", "ReadDirPlus", "FsStat", "FsInfo", "PathConf", "Commit",
];
#[rustfmt::skip]
const V4: [&str; 59] = [
    "Null", "Read", "Write", "Commit", "Open", "OpenConfirm", "OpenNoattr", "OpenDowngrade", "Close", "Setattr", "FsInfo",
    "Renew", "SetClientID", "SetClientIDConfirm", "Lock", "Lockt", "Locku", "Access", "Getattr", "Lookup", "LookupRoot",
    "Remove", "Rename", "Link", "Symlink", "Create", "Pathconf", "StatFs", "ReadLink", "ReadDir", "ServerCaps",
    "DelegReturn", "GetACL", "SetACL", "FsLocations", "ReleaseLockowner", "Secinfo", "FsidPresent", "ExchangeID",
    "CreateSession", "DestroySession", "Sequence", "GetLeaseTime", "ReclaimComplete", "LayoutGet", "GetDeviceInfo",
    "LayoutCommit", "LayoutReturn", "SecinfoNoName", "TestStateID", "FreeStateID", "GetDeviceList", "BindConnToSession",
    "DestroyClientID", "Seek", "Allocate", "DeAllocate", "LayoutStats", "Clone",
];

#[derive(Debug)]
struct Nfs {
    file: KeptFile,
}

impl Collector for Nfs {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let content = host.read_alone(&mut self.file)?;
        let mut packets = Family::counter("node_nfs_packets_total", "Packets sent and received.");
        write(
            &mut packets,
            content,
            "net",
            [None, Some(&[("protocol", "udp")][..]), Some(&[("protocol", "tcp")])],
            page,
        );
        let one =
            |name, help, key, at, page: &mut Page<'_>| write_one(Family::counter(name, help), content, key, at, page);
        one("node_nfs_connections_total", "TCP connections.", "net", 3, page);
        one("node_nfs_rpcs_total", "Remote calls.", "rpc", 0, page);
        one("node_nfs_rpc_retransmissions_total", "Remote calls that were sent again.", "rpc", 1, page);
        let help = "Renewals of the credentials of remote calls.";
        one("node_nfs_rpc_authentication_refreshes_total", help, "rpc", 2, page);
        let mut requests = Family::counter("node_nfs_requests_total", "Procedures called.");
        for (key, protocol, methods) in [("proc2", "2", &V2[..]), ("proc3", "3", &V3), ("proc4", "4", &V4)] {
            write_procedures(&mut requests, content, key, protocol, methods, page);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fixture;
    use super::*;

    #[test]
    fn what_is_there_is_shown_and_nothing_else() {
        let mut fixture = Fixture::new(&ENTRY, &[("proc/net/rpc/nfs", "net 70 71 69 45\nrpc 12 3 x\nproc4 3 1 2 3\n")]);
        assert_eq!(
            fixture.samples().unwrap(),
            [
                "node_nfs_packets_total{protocol=\"udp\"} 71",
                "node_nfs_packets_total{protocol=\"tcp\"} 69",
                "node_nfs_connections_total 45",
                "node_nfs_rpcs_total 12",
                "node_nfs_rpc_retransmissions_total 3",
                "node_nfs_requests_total{proto=\"4\",method=\"Null\"} 1",
                "node_nfs_requests_total{proto=\"4\",method=\"Read\"} 2",
                "node_nfs_requests_total{proto=\"4\",method=\"Write\"} 3",
            ]
        );
        assert!(matches!(Fixture::new(&ENTRY, &[]).page(), Err(CollectError::NoData(_))));
    }
}
