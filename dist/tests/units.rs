//! The units of systemd and the example configuration: systemd takes them, and so do the programs' command lines.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "test code")]

use std::path::{Path, PathBuf};
use std::process::Command;

use cloudpulse_dist::{PROGRAMS, command};

fn unit(program: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("systemd/{program}.service"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn what_a_unit_starts_is_a_command_with_the_settings_it_is_given() {
    for program in PROGRAMS {
        let unit = unit(program);
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut words = start.split(' ');
        assert_eq!(words.next(), Some(format!("/usr/local/bin/{program}").as_str()));
        let mut command = command(program).unwrap();
        for word in words {
            command =
                command.find_subcommand(word).unwrap_or_else(|| panic!("{program} has no command {word}")).clone();
        }
        let known: Vec<_> = command.get_arguments().filter_map(|each| each.get_env()?.to_str()).collect();
        for line in unit.lines().filter_map(|line| line.strip_prefix("Environment=")) {
            for setting in line.split(' ') {
                let (name, _) = setting.split_once('=').unwrap();
                assert!(known.contains(&name), "{program} knows no {name}");
            }
        }
    }
}

#[test]
fn systemd_finds_no_fault_with_the_units() {
    let folder = tempfile::tempdir().unwrap();
    for program in PROGRAMS {
        // The programs are not installed here; any that is will do.
        let file = folder.path().join(format!("{program}.service"));
        let text = unit(program);
        std::fs::write(&file, text.replace(&format!("/usr/local/bin/{program}"), "/bin/true")).unwrap();
        let Ok(output) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output() else {
            eprintln!("SKIPPED: systemd-analyze is not installed (Debian: systemd); the units were not verified");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.trim().is_empty(), "{program}: {said}");
        let output = Command::new("systemd-analyze").args(["security", "--offline=yes"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // 10 is a service that may do everything; systemd calls what is below 5 "OK".
        let exposure =
            said.lines().last().and_then(|line| line.split(": ").nth(1)?.split(' ').next()?.parse::<f64>().ok());
        assert!(exposure.is_some_and(|exposure| exposure < 2.5), "{program}: {said}");
    }
}

#[test]
fn the_predictor_takes_the_example() {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/predictor.yml");
    let config = cloudpulse_predictor::config::Config::load(&file).unwrap();
    assert!(config.forecasts.iter().any(|each| each.name == "web-requests"));
}
