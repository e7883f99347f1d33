//! `/proc/net/rpc/nfsd` → `node_nfsd_*`: what this machine does as an NFS server.

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::family::Family;
use super::rpc::{counts, write, write_one, write_procedures};
use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::{Host, KeptFile, Shape};

pub(super) const ENTRY: Entry = Entry {
    name: "nfsd",
    about: "Requests to the NFS server of this machine",
    by_default: true,
    new: |host, _: &Filters| Box::new(Nfsd { file: host.own_proc_file("net/rpc/nfsd", Shape::Whole) }),
};

/// Procedures and operations in the kernel's order, under node_exporter's names; those that it does not show have none.
#[rustfmt::skip]
const V2: [&str; 18] = [
    "", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove", "Rename", "Link",
    "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];
#[rustfmt::skip]
const V3: [&str; 22] = [
    "", "GetAttr", "SetAttr", "Lookup", "Access", "ReadLink", "Read", "Write", "Create", "MkDir", "SymLink", "MkNod", "Remove",
    "RmDir", "Rename", "Link", "ReadDir", "ReadDirPlus", "FsStat", "FsInfo", "PathConf", "Commit",
];
#[rustfmt::skip]
const V4: [&str; 40] = [
    "", "", "", "Access", "Close", "Commit", "Create", "DelegPurge", "DelegReturn", "GetAttr", "GetFH", "Link", "Lock",
    "Lockt", "Locku", "Lookup", "LookupRoot", "Nverify", "Open", "OpenAttr", "OpenConfirm", "OpenDgrd", "PutFH", "", "",
    "Read", "ReadDir", "ReadLink", "Remove", "Rename", "Renew", "RestoreFH", "SaveFH", "SecInfo", "SetAttr", "SetClientID",
    "SetClientIDConfirm", "Verify", "Write", "RelLockOwner",
];

#[derive(Debug)]
struct Nfsd {
    file: KeptFile,
}

impl Collector for Nfsd {
    fn collect(&mut self, host: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let content = host.read_alone(&mut self.file)?;
        let one = |family, key, at, page: &mut Page<'_>| write_one(family, content, key, at, page);
        for (name, help, key, at) in [
            ("node_nfsd_reply_cache_hits_total", "Requests that were answered before.", "rc", 0),
            ("node_nfsd_reply_cache_misses_total", "Requests whose reply was to be kept.", "rc", 1),
            ("node_nfsd_reply_cache_nocache_total", "Requests whose reply was not to be kept.", "rc", 2),
            ("node_nfsd_file_handles_stale_total", "Stale file handles.", "fh", 0),
            ("node_nfsd_disk_bytes_read_total", "Bytes read.", "io", 0),
            ("node_nfsd_disk_bytes_written_total", "Bytes written.", "io", 1),
        ] {
            one(Family::counter(name, help), key, at, page);
        }
        one(Family::gauge("node_nfsd_server_threads", "Threads of the server."), "th", 0, page);
        one(Family::gauge("node_nfsd_read_ahead_cache_size_blocks", "Size of the read-ahead cache."), "ra", 0, page);
        let help = "Requests that the read-ahead cache did not have.";
        one(Family::counter("node_nfsd_read_ahead_cache_not_found_total", help), "ra", 11, page);
        let mut packets = Family::counter("node_nfsd_packets_total", "Packets sent and received.");
        write(&mut packets, content, "net", [None, Some(&[("proto", "udp")][..]), Some(&[("proto", "tcp")])], page);
        one(Family::counter("node_nfsd_connections_total", "TCP connections."), "net", 3, page);
        let mut errors = Family::counter("node_nfsd_rpc_errors_total", "Bad remote calls.");
        let kinds = [None, None, Some(&[("error", "fmt")][..]), Some(&[("error", "auth")]), Some(&[("error", "cInt")])];
        write(&mut errors, content, "rpc", kinds, page);
        one(Family::counter("node_nfsd_server_rpcs_total", "Remote calls."), "rpc", 0, page);
        let mut requests = Family::counter("node_nfsd_requests_total", "Procedures and operations called.");
        for (key, protocol, methods) in [("proc2", "2", &V2[..]), ("proc3", "3", &V3), ("proc4ops", "4", &V4)] {
            write_procedures(&mut requests, content, key, protocol, methods, page);
        }
        if let Some(count) = counts(content, "wdeleg_getattr").next().flatten() {
            let labels = Labels::new(&[("proto", "4"), ("method", "WdelegGetattr")]);
            requests.labelled(page, &labels, Number::Integer(count));
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
        let nfsd = "rc 0 6 18622\nth 8 0 0.000\nrpc 18628 3 1 2 0\nproc4ops 6 0 0 0 1098 2 0\nwdeleg_getattr 15\n";
        assert_eq!(
            Fixture::new(&ENTRY, &[("proc/net/rpc/nfsd", nfsd)]).samples().unwrap(),
            [
                "node_nfsd_reply_cache_hits_total 0",
                "node_nfsd_reply_cache_misses_total 6",
                "node_nfsd_reply_cache_nocache_total 18622",
                "node_nfsd_server_threads 8",
                "node_nfsd_rpc_errors_total{error=\"fmt\"} 1",
                "node_nfsd_rpc_errors_total{error=\"auth\"} 2",
                "node_nfsd_rpc_errors_total{error=\"cInt\"} 0",
                "node_nfsd_server_rpcs_total 18628",
                "node_nfsd_requests_total{proto=\"4\",method=\"Access\"} 1098",
                "node_nfsd_requests_total{proto=\"4\",method=\"Close\"} 2",
                "node_nfsd_requests_total{proto=\"4\",method=\"Commit\"} 0",
                "node_nfsd_requests_total{proto=\"4\",method=\"WdelegGetattr\"} 15",
            ]
        );
        assert!(matches!(Fixture::new(&ENTRY, &[]).page(), Err(CollectError::NoData(_))));
    }
}
