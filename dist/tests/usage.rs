//! Man pages and completions as their readers take them: man, and the shells.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "test code")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use clap::builder::StyledStr;
use cloudpulse_dist::{PROGRAMS, command, usage};

fn written(program: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    usage::write(&command(program).unwrap(), folder.path()).unwrap();
    folder
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> Option<Output> {
    Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").output().ok()
}

/// Names of all pages that a command should have.
fn pages(command: &clap::Command, name: &str, into: &mut BTreeSet<String>) {
    into.insert(format!("{name}.1"));
    for each in command.get_subcommands().filter(|each| each.get_name() != "help") {
        pages(each, &format!("{name}-{}", each.get_name()), into);
    }
}

#[test]
fn each_program_and_subcommand_has_a_page_with_all_its_flags() {
    for program in PROGRAMS {
        let folder = written(program);
        let mut expected = BTreeSet::new();
        pages(&command(program).unwrap(), program, &mut expected);
        let found: BTreeSet<String> = std::fs::read_dir(folder.path().join("man/man1"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(found, expected);
    }
    let scaler = written("cloudpulse-scaler");
    let mut command = command("cloudpulse-scaler").unwrap();
    let serve = command.find_subcommand_mut("serve").unwrap();
    let page = std::fs::read_to_string(scaler.path().join("man/man1/cloudpulse-scaler-serve.1")).unwrap();
    // A hyphen is \- in roff.
    let page = page.replace('\\', "");
    let flags: Vec<_> =
        serve.get_arguments().filter(|each| !each.is_hide_set()).filter_map(|each| each.get_long()).collect();
    assert!(flags.len() > 30, "{flags:?}");
    for flag in flags {
        assert!(page.contains(&format!("--{flag}")), "--{flag} is not on the page");
    }
}

#[test]
fn man_reads_the_pages() {
    for program in PROGRAMS {
        let folder = written(program);
        let page = folder.path().join(format!("man/man1/{program}.1"));
        let Some(output) = run("man", &["-l".as_ref(), page.as_os_str()]) else {
            eprintln!("SKIPPED: man is not installed (Debian: man-db); the pages were not read");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let about = command(program).unwrap().get_about().map(StyledStr::to_string).unwrap();
        let first = about.split_whitespace().next().unwrap();
        for part in ["NAME", "SYNOPSIS", "OPTIONS", "--log-level", env!("CARGO_PKG_VERSION"), program, first] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}

#[test]
fn bash_completes_flags_subcommands_and_values() {
    for (program, words, expected) in [
        ("cloudpulse-exporter", &["--web.l"][..], "--web.listen-address"),
        ("cloudpulse-exporter", &["--collector.cpuf"], "--collector.cpufreq"),
        ("cloudpulse-predictor", &["ba"], "backtest"),
        ("cloudpulse-predictor", &["models", "retr"], "retrain"),
        ("cloudpulse-scaler", &["serve", "--kubernetes.n"], "--kubernetes.namespace"),
        ("cloudpulse-scaler", &["ack", "--output", "j"], "json"),
    ] {
        let folder = written(program);
        let file = folder.path().join("completions/bash").join(program);
        // What bash does at the tab key: calls the function that the file registered, with the words so far.
        let script = r#"
            source "$1"; shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            function=$(complete -p "$1"); function=${function#*-F }; function=${function%% *}
            "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}""#;
        let output =
            Command::new("bash").arg("-c").arg(script).arg("bash").arg(&file).arg(program).args(words).output();
        let output = output.unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expected, "{program} {words:?}");
    }
}

#[test]
fn zsh_and_fish_parse_their_completions() {
    for program in PROGRAMS {
        let folder = written(program);
        for (shell, file) in [("zsh", format!("zsh/_{program}")), ("fish", format!("fish/{program}.fish"))] {
            let file = folder.path().join("completions").join(file);
            assert!(std::fs::read_to_string(&file).unwrap().contains("log-level"), "{}", file.display());
            match run(shell, &["-n".as_ref(), file.as_os_str()]) {
                Some(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
                None => eprintln!("SKIPPED: {shell} is not installed; its completion of {program} was not parsed"),
            }
        }
    }
}

#[test]
fn fish_completes_flags_and_subcommands() {
    for (program, line, expected) in [
        ("cloudpulse-exporter", "--web.l", "--web.listen-address"),
        ("cloudpulse-exporter", "--web.listen-address=127.0.0.1:9100 hea", "health"),
        ("cloudpulse-predictor", "models retr", "retrain"),
        ("cloudpulse-scaler", "serve --kubernetes.n", "--kubernetes.namespace"),
    ] {
        let folder = written(program);
        let file = folder.path().join(format!("completions/fish/{program}.fish"));
        let script = format!("source {}; complete -C '{program} {line}'", file.display());
        let Some(output) = run("fish", &["--no-config".as_ref(), "-c".as_ref(), script.as_ref()]) else {
            eprintln!("SKIPPED: fish is not installed; nothing was completed with it");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with(expected), "{line}: {text:?}, {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn nothing_of_this_machine_is_in_them() {
    for program in PROGRAMS {
        let folder = written(program);
        let mut folders = vec![folder.path().to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
                assert!(!text.contains(root.to_str().unwrap()), "{}", path.display());
            }
        }
    }
}
