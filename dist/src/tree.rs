//! What a program is linked from, as cargo says.
//!
//! Of all that Cargo.lock names it is what that program has with its own features when it is built by itself. Macros and what
//! only a build needs are left out. `cargo metadata` cannot say so: it gives each crate the features that any crate of the
//! workspace, and its tests, ask for.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::Context as _;

/// The target whose crates count.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Returns names and versions of the crates in `program`, those of the workspace included. Runs cargo in the current folder.
///
/// # Errors
/// When cargo fails.
pub fn of(program: &str) -> anyhow::Result<BTreeSet<(String, String)>> {
    let edges = "no-proc-macro,no-build,no-dev";
    let tree =
        ["tree", "--package", program, "--target", TARGET, "--edges", edges, "--prefix", "none", "--format", "{p}"];
    Ok(parse(&cargo(&tree)?))
}

/// Returns what `cargo --locked` with these arguments writes.
///
/// # Errors
/// When it fails.
pub fn cargo(arguments: &[&str]) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).arg("--locked").args(arguments).output().context("starting cargo")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("cargo wrote no UTF-8")
}

fn parse(tree: &str) -> BTreeSet<(String, String)> {
    // `serde v1.0.0 (*)`, `cloudpulse-common v0.1.0 (/folder)`
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    tree.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_tree_are_names_and_versions() {
        let tree = "cloudpulse-exporter v0.1.0 (/folder)\nserde v1.0.228\nserde v1.0.228 (*)\n";
        let expected = [("cloudpulse-exporter", "0.1.0"), ("serde", "1.0.228")];
        assert_eq!(parse(tree), expected.map(|(name, version)| (name.to_owned(), version.to_owned())).into());
    }
}
