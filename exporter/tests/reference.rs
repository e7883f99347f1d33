//! The pages of `docs/reference` about the exporter are what the exporter says.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::path::Path;

use cloudpulse_testkit::binary::{Program, workspace_root};
use cloudpulse_testkit::net::{free_port, http_client};
use cloudpulse_testkit::reference::{
    families, help_page, hold, is_writing, metrics_rows, metrics_table, rows_of_table,
};

const BINARY: &str = env!("CARGO_BIN_EXE_cloudpulse-exporter");
const PAGE: &str = "metrics-exporter.md";
/// Named by the kernel or by hardware: another machine has more.
const OPEN: [&str; 8] = [
    "node_memory_",
    "node_netstat_",
    "node_vmstat_",
    "node_hwmon_",
    "node_power_supply_",
    "node_zfs_",
    "node_infiniband_",
    "node_cpu_",
];

#[test]
fn flags() {
    hold("flags-exporter.md", &help_page(Path::new(BINARY)).unwrap()).unwrap();
}

/// One table of the golden pages, which the test `golden` holds to the exporter, and one of what else real machines have shown:
/// what this one shows must be in either.
#[tokio::test]
async fn metrics() {
    let root = workspace_root();
    let golden = ["page.txt", "container-v1.txt", "container-v2.txt"]
        .map(|page| std::fs::read_to_string(root.join("exporter/tests/golden").join(page)).unwrap());
    let golden = families(&golden.concat());
    assert!(golden.len() > 300, "{}", golden.len());

    let mut live = families(&scrape().await);
    live.retain(|name, _| !golden.contains_key(name));
    assert!(live.contains_key("node_uname_info"), "{live:?}");
    let live: BTreeMap<String, String> = metrics_rows(&live);
    let before = std::fs::read_to_string(root.join("docs/reference").join(PAGE)).unwrap_or_default();
    let (_, before) = before.split_once("## On real machines").unwrap_or_default();
    let mut elsewhere = rows_of_table(before);
    if is_writing() {
        elsewhere.extend(live);
    } else {
        for (name, row) in &live {
            match elsewhere.get(name) {
                Some(known) => assert_eq!(without_labels(known), without_labels(row), "make references writes it"),
                None => assert!(OPEN.iter().any(|open| name.starts_with(open)), "{row} is missing; make references"),
            }
        }
    }
    let page = format!(
        "# Metrics of the exporter\n\nMade by a test from the exporter's own pages. The names are node_exporter's and, of containers, \
         cAdvisor's. Labels of a container depend on its\nengine; see [Containers](../exporter.md#containers). Each line of \
         /proc/meminfo is a `node_memory_…`, so that a newer kernel has more; so with\n`node_netstat_…` and `node_vmstat_…`.\n\n\
         ## On a machine with all the hardware that it knows\n\n{}\n## On real machines\n\nWhat else was seen.\n\n{}",
        metrics_table(&golden),
        table(&elsewhere)
    );
    hold(PAGE, &page).unwrap();
}

async fn scrape() -> String {
    let url = format!("http://127.0.0.1:{}", free_port().unwrap());
    let arguments = ["--web.listen-address", url.trim_start_matches("http://")];
    let health = format!("{url}/healthz");
    let old = [("AGENT_PORT", "8080"), ("DEBUG", "true")];
    let mut program = Program::start(Path::new(BINARY), &arguments, &old, Some(&health)).await.unwrap();
    let page = http_client().unwrap().get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    let log = std::fs::read_to_string(program.process().log_path()).unwrap();
    assert_eq!(log.matches("set and without effect").count(), 1, "{log}");
    assert!(log.contains("AGENT_PORT (now PORT or LISTEN_ADDRESS)") && !log.contains("8080"), "{log}");
    page
}

/// Which labels there are may depend on the machine.
fn without_labels(row: &str) -> Vec<&str> {
    let mut cells: Vec<&str> = row.split(" | ").collect();
    cells.remove(2);
    cells
}

fn table(rows: &BTreeMap<String, String>) -> String {
    let head = metrics_table(&BTreeMap::new());
    rows.values().fold(head, |table, row| table + row + "\n")
}
