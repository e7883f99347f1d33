//! The crates in a program → one text with the licences of all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use crate::tree;

/// How the names of files with licences begin, in capitals.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// Endings of files that are no texts, whatever their names begin with.
const CODE: [&str; 6] = ["rs", "c", "h", "toml", "json", "py"];

/// A crate that others wrote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licences as an SPDX expression.
    pub license: String,
    /// Its authors, as many crates name none.
    pub authors: Vec<String>,
    /// The texts of its licences, by the names of their files; empty where the crate brings none.
    pub texts: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    authors: Vec<String>,
    /// Absent for crates of the workspace.
    source: Option<String>,
    manifest_path: PathBuf,
}

/// Returns the crates of others that `program` is linked from, sorted. Runs cargo in the current folder.
///
/// # Errors
/// When cargo fails, or a crate's folder cannot be read.
pub fn of(program: &str) -> anyhow::Result<Vec<Crate>> {
    let linked = tree::of(program)?;
    let metadata = tree::cargo(&["metadata", "--format-version", "1", "--filter-platform", tree::TARGET])?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("reading what cargo metadata says")?;
    let mut crates = Vec::new();
    for package in metadata.packages.into_iter().filter(|package| package.source.is_some()) {
        if !linked.contains(&(package.name.clone(), package.version.clone())) {
            continue;
        }
        let folder = package.manifest_path.parent().unwrap_or(Path::new("/"));
        crates.push(Crate {
            texts: texts(folder).with_context(|| format!("looking for licences in {}", folder.display()))?,
            name: package.name,
            version: package.version,
            license: package.license.unwrap_or_default(),
            authors: package.authors,
        });
    }
    crates.sort();
    anyhow::ensure!(!crates.is_empty(), "cargo tree names no crate of others in {program}");
    Ok(crates)
}

/// Returns one text with every licence once and the crates that it holds for.
pub fn render(program: &str, crates: &[Crate]) -> String {
    let mut out = format!(
        "{program} is licensed under MIT or Apache-2.0. It contains these {} crates of others:\n\n",
        crates.len()
    );
    for Crate { name, version, license, .. } in crates {
        let _ = writeln!(out, "  {name} {version}: {license}");
    }
    let mut holders: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for each in crates {
        for text in each.texts.values() {
            holders.entry(text).or_default().insert(format!("{} {}", each.name, each.version));
        }
    }
    let without: Vec<&Crate> = crates.iter().filter(|each| each.texts.is_empty()).collect();
    if !without.is_empty() {
        out.push_str("\nThese bring no text of their licence; those of MIT and Apache-2.0 lie beside this file:\n\n");
        for Crate { name, version, license, authors, .. } in without {
            let authors = if authors.is_empty() { "its authors".to_owned() } else { authors.join(", ") };
            let _ = writeln!(out, "  {name} {version}: {license}, by {authors}");
        }
    }
    let mut holders: Vec<_> = holders.into_iter().map(|(text, of)| (of, text)).collect();
    holders.sort();
    for (of, text) in holders {
        let of: Vec<String> = of.into_iter().collect();
        let _ = write!(out, "\n{}\n{}\n\n{text}", "=".repeat(80), of.join(", "));
    }
    out
}

/// Looks into all folders: C code that a crate brings has its licence beside it.
fn texts(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if is_licence(&path) {
                let text = String::from_utf8_lossy(&std::fs::read(&path)?).replace("\r\n", "\n");
                let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
                texts.insert(name, format!("{}\n", text.trim_end()));
            }
        }
    }
    Ok(texts)
}

fn is_licence(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
    let is_code = file.extension().is_some_and(|ending| CODE.iter().any(|code| ending.eq_ignore_ascii_case(code)));
    NAMES.iter().any(|begin| name.starts_with(begin)) && !is_code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, texts: &[&str]) -> Crate {
        Crate {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: "MIT".to_owned(),
            authors: vec!["Ann".to_owned()],
            texts: texts.iter().map(|text| ((*text).to_owned(), format!("{text}\n"))).collect(),
        }
    }

    #[test]
    fn licences_are_known_by_the_names_of_their_files() {
        for (file, expected) in [
            ("LICENSE", true),
            ("License-MIT.md", true),
            ("c_src/COPYING.txt", true),
            ("src/license.rs", false),
            ("README.md", false),
        ] {
            assert_eq!(is_licence(Path::new(file)), expected, "{file}");
        }
    }

    #[test]
    fn a_text_that_two_crates_share_is_there_once() {
        let text = render("x", &[made("a", &["same"]), made("b", &["same", "other"]), made("c", &[])]);
        assert_eq!(text.matches("same\n").count(), 1, "{text}");
        assert!(text.contains("a 1.0.0, b 1.0.0\n\nsame\n") && text.contains("\nb 1.0.0\n\nother\n"), "{text}");
        assert!(text.contains("c 1.0.0: MIT, by Ann"), "{text}");
    }
}
