//! The pages of `docs/reference` about the exporter are what the exporter says.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;

use cloudpulse_testkit::binary::workspace_root;
use cloudpulse_testkit::reference::{families, help_page, hold, metrics_table};

#[test]
fn flags() {
    hold("flags-exporter.md", &help_page(Path::new(env!("CARGO_BIN_EXE_cloudpulse-exporter"))).unwrap()).unwrap();
}

/// The golden pages are held to the exporter by the test `golden`.
#[test]
fn metrics() {
    let golden = workspace_root().join("exporter/tests/golden");
    let pages = ["page.txt", "container-v1.txt", "container-v2.txt"];
    let pages = pages.map(|page| std::fs::read_to_string(golden.join(page)).unwrap());
    let families = families(&pages.concat());
    assert!(families.len() > 300, "{}", families.len());
    let page = format!(
        "# Metrics of the exporter\n\nMade by a test from pages that the exporter wrote of a machine with all the hardware that it \
         knows, and of containers.\nThe names are node_exporter's and, of containers, cAdvisor's. Labels of a container depend on \
         its engine; see [Containers](../exporter.md#containers).\n\n{}",
        metrics_table(&families)
    );
    hold("metrics-exporter.md", &page).unwrap();
}
