//! cargo-cyclonedx's bill of materials of a crate → that of the program which is released.
//!
//! cargo-cyclonedx goes by `cargo metadata` and so names crates that only other programs have. What is not in the program is
//! taken out, names of the builder's folders too; what cargo does not know of is put in: Rust's standard library, and the C
//! library that is linked into the program.

use std::collections::BTreeSet;

use anyhow::Context as _;
use serde_json::{Value, json};

/// What is in a program beside crates.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// Version of Rust, such as `1.95.0`.
    pub rust: String,
    /// Version of Debian's package of glibc, such as `2.36-9`.
    pub glibc: String,
}

/// Returns `bom`, in CycloneDX's JSON, of the crates `linked` alone, without the name of `folder`, in which it was made.
///
/// # Errors
/// When it is not a bill of materials, or lacks one of the crates.
pub fn of_program(
    bom: &str,
    folder: &str,
    linked: &BTreeSet<(String, String)>,
    toolchain: &Toolchain,
) -> anyhow::Result<String> {
    let folder = folder.trim_end_matches('/');
    let bom = bom.replace(&format!("path+file://{folder}/"), "path+file:///");
    let mut bom: Value = serde_json::from_str(&bom).context("reading the bill of materials")?;
    let of = |each: &Value, key: &str| each[key].as_str().unwrap_or_default().to_owned();
    let own = bom["metadata"]["component"].clone();
    let mut named = BTreeSet::from([(of(&own, "name"), of(&own, "version"))]);
    let mut kept = BTreeSet::from([of(&own, "bom-ref")]);
    let components = bom["components"].as_array_mut().context("the bill of materials has no components")?;
    components.retain(|each| {
        let id = (of(each, "name"), of(each, "version"));
        let keep = linked.contains(&id);
        if keep {
            named.insert(id);
            kept.insert(of(each, "bom-ref"));
        }
        keep
    });
    let missing: Vec<String> = linked.difference(&named).map(|(name, version)| format!("{name} {version}")).collect();
    anyhow::ensure!(missing.is_empty(), "the bill of materials lacks {}", missing.join(", "));
    let others = toolchain_components(toolchain);
    let on_all: Vec<Value> = others.iter().map(|each| each["bom-ref"].clone()).collect();
    components.extend(others);
    let dependencies = bom["dependencies"].as_array_mut().context("the bill of materials has no dependencies")?;
    dependencies.retain(|each| kept.contains(&of(each, "ref")));
    for each in dependencies.iter_mut() {
        let is_program = each["ref"] == own["bom-ref"];
        if let Some(on) = each.get_mut("dependsOn").and_then(Value::as_array_mut) {
            on.retain(|each| each.as_str().is_some_and(|each| kept.contains(each)));
            if is_program {
                on.extend(on_all.iter().cloned());
            }
        }
    }
    let bom = format!("{bom:#}\n");
    anyhow::ensure!(!bom.contains(folder), "the bill of materials still names {folder}");
    Ok(bom)
}

fn toolchain_components(Toolchain { rust, glibc }: &Toolchain) -> Vec<Value> {
    vec![
        json!({
            "type": "library", "bom-ref": "rust-std", "name": "rust-std", "version": rust, "scope": "required",
            "licenses": [{"expression": "MIT OR Apache-2.0"}], "purl": format!("pkg:generic/rust-std@{rust}"),
        }),
        json!({
            "type": "library", "bom-ref": "glibc", "name": "glibc", "version": glibc, "scope": "required",
            "licenses": [{"expression": "LGPL-2.1-or-later"}], "purl": format!("pkg:deb/debian/glibc@{glibc}?arch=source"),
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOM: &str = r#"{
      "metadata": {"component": {"bom-ref": "path+file:///home/me/x#x@0.1.0", "name": "x", "version": "0.1.0"}},
      "components": [
        {"bom-ref": "r#a@1.0.0", "name": "a", "version": "1.0.0"},
        {"bom-ref": "r#a@2.0.0", "name": "a", "version": "2.0.0"}
      ],
      "dependencies": [
        {"ref": "path+file:///home/me/x#x@0.1.0", "dependsOn": ["r#a@1.0.0", "r#a@2.0.0"]},
        {"ref": "r#a@1.0.0"},
        {"ref": "r#a@2.0.0"}
      ]
    }"#;

    fn cut(linked: &[(&str, &str)]) -> anyhow::Result<Value> {
        let linked = linked.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
        let toolchain = Toolchain { rust: "1.95.0".to_owned(), glibc: "2.36-9".to_owned() };
        Ok(serde_json::from_str(&of_program(BOM, "/home/me/", &linked, &toolchain)?)?)
    }

    #[test]
    fn what_is_not_linked_is_gone_and_the_toolchain_is_there() {
        let bom = cut(&[("x", "0.1.0"), ("a", "1.0.0")]).unwrap();
        let names: Vec<_> = bom["components"].as_array().unwrap().iter().map(|each| &each["bom-ref"]).collect();
        assert_eq!(names, ["r#a@1.0.0", "rust-std", "glibc"]);
        let expected = json!([
            {"ref": "path+file:///x#x@0.1.0", "dependsOn": ["r#a@1.0.0", "rust-std", "glibc"]},
            {"ref": "r#a@1.0.0"}
        ]);
        assert_eq!(bom["dependencies"], expected);
    }

    #[test]
    fn a_crate_that_is_missing_is_an_error() {
        let error = cut(&[("x", "0.1.0"), ("b", "1.0.0")]).unwrap_err();
        assert_eq!(error.to_string(), "the bill of materials lacks b 1.0.0");
    }
}
