//! Pages of `docs/reference`, made of the programs themselves and held to them: help texts and metrics.
//!
//! `UPDATE_GOLDEN=1` writes a page in place of comparing it; `make references` does so for all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::binary::workspace_root;
use crate::process::run;

/// Width of help texts on the pages.
const COLUMNS: &str = "100";

/// Compares `docs/reference/<name>` with `text`, or writes it where the environment has `UPDATE_GOLDEN`.
///
/// # Errors
/// When they differ, with the first line that does; or when the page cannot be read or written.
pub fn hold(name: &str, text: &str) -> anyhow::Result<()> {
    let path = workspace_root().join("docs/reference").join(name);
    if is_writing() {
        return std::fs::write(&path, text).with_context(|| path.display().to_string());
    }
    let page =
        std::fs::read_to_string(&path).with_context(|| format!("{}; make references writes it", path.display()))?;
    if page == text {
        return Ok(());
    }
    let (line, is, should) = first_difference(&page, text);
    bail!(
        "{}:{line} is not what the program says; make references writes it anew\n  page:    {is}\n  program: {should}",
        path.display()
    )
}

/// Whether pages are written in place of being compared.
pub fn is_writing() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

fn first_difference<'t>(page: &'t str, text: &'t str) -> (usize, &'t str, &'t str) {
    let (mut of_page, mut of_text) = (page.lines(), text.lines());
    let mut line = 1;
    loop {
        match (of_page.next(), of_text.next()) {
            (Some(is), Some(should)) if is == should => line += 1,
            (is, should) => return (line, is.unwrap_or("(ends)"), should.unwrap_or("(ends)")),
        }
    }
}

/// Returns a page with the long help of a program and of each of its commands, as they print it with nothing of ours in the
/// environment.
///
/// # Errors
/// When the program cannot be run, or does not know the help of a command that it names.
pub fn help_page(binary: &Path) -> anyhow::Result<String> {
    let name = binary.file_name().context("a program without a name")?.to_string_lossy().into_owned();
    let mut page = format!("# Flags of {name}\n\nWhat `--help` prints, made by a test from the program itself.\n");
    write_help(binary, &name, &mut Vec::new(), &mut page)?;
    Ok(page)
}

fn write_help(binary: &Path, name: &str, commands: &mut Vec<String>, page: &mut String) -> anyhow::Result<()> {
    let help = run(Command::new(binary).env_clear().env("COLUMNS", COLUMNS).args(&*commands).arg("--help"))?;
    let title = std::iter::once(name).chain(commands.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(page, "\n## {title}\n\n```text\n{}\n```\n", lines.join("\n").trim_end());
    for command in subcommands(&help) {
        commands.push(command);
        write_help(binary, name, commands, page)?;
        commands.pop();
    }
    Ok(())
}

/// The commands that a help text lists, without `help`.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Names are indented by two, what continues their description by more.
    let names = listed.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

/// One family for the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// `counter`, `gauge`, `histogram` or `untyped`.
    pub kind: String,
    /// HELP text.
    pub help: String,
    /// Names of the labels that were seen.
    pub labels: BTreeSet<String>,
}

/// Returns the families of a metrics page in the text format.
pub fn families(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut name = String::new();
    for line in page.lines() {
        if let Some((of, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            of.clone_into(&mut name);
            let family = Family { kind: "untyped".to_owned(), help: help.to_owned(), labels: BTreeSet::new() };
            families.entry(name.clone()).or_insert(family);
        } else if let Some((of, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            if let Some(family) = families.get_mut(of) {
                kind.clone_into(&mut family.kind);
            }
        } else if let (Some(family), Some((_, rest))) = (families.get_mut(&name), line.split_once('{')) {
            family.labels.extend(label_names(rest));
        }
    }
    families
}

/// The names in `a="x",b="y"} 1`. A bucket's bound is part of the format and none of the names.
fn label_names(text: &str) -> Vec<String> {
    let (mut names, mut rest) = (Vec::new(), text);
    while let Some((name, value)) = rest.split_once("=\"") {
        names.push(name.trim_start_matches([',', ' ']).to_owned());
        let (mut escaped, mut end) = (false, value.len());
        for (at, c) in value.char_indices() {
            match c {
                '"' if !escaped => {
                    end = at + 1;
                    break;
                }
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        rest = &value[end..];
        if rest.starts_with('}') {
            break;
        }
    }
    names.retain(|name| name != "le");
    names
}

/// Returns a table of families, sorted by name.
pub fn metrics_table(families: &BTreeMap<String, Family>) -> String {
    let head = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    metrics_rows(families).into_values().fold(head, |table, row| table + &row + "\n")
}

/// Returns the rows of [`metrics_table`] by the families' names.
pub fn metrics_rows(families: &BTreeMap<String, Family>) -> BTreeMap<String, String> {
    let row = |(name, family): (&String, &Family)| {
        let Family { kind, help, labels } = family;
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        (name.clone(), format!("| `{name}` | {kind} | {} | {} |", labels.join(", "), cell(help)))
    };
    families.iter().map(row).collect()
}

/// Returns the rows of such a table in a page, by the families' names.
pub fn rows_of_table(page: &str) -> BTreeMap<String, String> {
    let name = |row: &str| Some(row.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    page.lines().filter_map(|row| Some((name(row)?, row.to_owned()))).collect()
}

/// Returns text that may stand in a cell of a table.
pub fn cell(text: &str) -> String {
    let text = text.replace("\\n", " ").replace("\\\\", "\\").replace('\n', " ").replace('|', "\\|");
    // What stands in backquotes is shown as it is.
    let parts = text.split('`').enumerate().map(|(number, part)| match number % 2 {
        0 => part.replace('<', "&lt;").replace('*', "\\*"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_differs_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), (2, "b", "c"));
        assert_eq!(first_difference("a\n", "a\nb\n"), (2, "(ends)", "b"));
    }

    #[test]
    fn commands_are_those_that_help_lists() {
        let help = "Does.\n\nUsage: x\n\nCommands:\n  serve  Serves\n         on\n  help   Prints\n\nOptions:\n  -h\n";
        assert_eq!(subcommands(help), ["serve"]);
        assert!(subcommands("Usage: x\n").is_empty());
    }

    #[test]
    fn families_have_their_labels() {
        let page = "# HELP a_total Of a.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"}, z=\\\\\"} 1\n\
                    # HELP b Of b.\n# TYPE b gauge\nb 1\n";
        let families = families(page);
        let labels = |name: &str| families[name].labels.iter().cloned().collect::<Vec<_>>();
        assert_eq!((labels("a_total"), labels("b")), (vec!["x".to_owned(), "y".to_owned()], vec![]));
        assert_eq!((families["a_total"].kind.as_str(), families["b"].help.as_str()), ("counter", "Of b."));
        let table = metrics_table(&families);
        assert!(table.contains("| `a_total` | counter | `x`, `y` | Of a. |\n"));
        assert_eq!(rows_of_table(&table), metrics_rows(&families));
    }
}
