//! The version is in `Cargo.toml` alone; wherever else it stands, it is that one.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All text files of the repository but the changelog, which tells of older versions, and what tools wrote.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let is_folder = entry.file_type().unwrap().is_dir();
            if is_folder && !["target", ".git", "node_modules"].contains(&name.as_str()) {
                folders.push(entry.path());
            } else if !is_folder
                && !["CHANGELOG.md", "Cargo.lock", "package-lock.json", "go.sum"].contains(&name.as_str())
            {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn every_crate_inherits_the_version() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 10);
    for package in packages {
        assert_eq!(package["version"], VERSION, "{}", package["name"]);
        let manifest = std::fs::read_to_string(package["manifest_path"].as_str().unwrap()).unwrap();
        assert!(manifest.contains("\nversion.workspace = true\n"), "{} has a version of its own", package["name"]);
    }
}

#[test]
fn the_changelog_begins_with_this_version() {
    let text = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let heading = text.lines().find(|line| line.starts_with("## ")).unwrap();
    let form = Regex::new(r"^## \[([^\]]+)\] - (unreleased|\d{4}-\d{2}-\d{2})$").unwrap();
    let found = form.captures(heading).unwrap_or_else(|| panic!("{heading:?} is not `## [VERSION] - DATE`"));
    assert_eq!(&found[1], VERSION, "the first version in CHANGELOG.md");
}

#[test]
fn wherever_the_version_stands_it_is_this_one() {
    // Names of archives, images and folders; what the programs say of themselves; a chart.
    let named = Regex::new(r"cloudpulse(?:-[a-z]+)?[-:@]v?(\d+\.\d+\.\d+)").unwrap();
    let build_info = Regex::new(r#"cloudpulse_[a-z]+_build_info\{[^}\n]*version="(\d+\.\d+\.\d+)""#).unwrap();
    let chart = Regex::new(r#"(?m)^(?:version|appVersion): "?(\d+\.\d+\.\d+)"?$"#).unwrap();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in files() {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let is_chart = file.ends_with("cloudpulse/Chart.yaml");
        let expressions = [Some(&named), Some(&build_info), is_chart.then_some(&chart)];
        for found in expressions.into_iter().flatten().flat_map(|each| each.captures_iter(&text)) {
            seen += 1;
            if &found[1] != VERSION {
                wrong.push(format!("{}: {}", file.strip_prefix(root()).unwrap().display(), &found[0]));
            }
        }
    }
    assert!(seen >= 8, "only {seen} places found: the golden pages of the exporter alone have four");
    assert!(wrong.is_empty(), "these do not have version {VERSION}:\n{}", wrong.join("\n"));
}
