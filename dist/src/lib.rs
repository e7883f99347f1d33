//! What a release has beside the programs: man pages and shell completions from the programs' own command lines, the
//! licence texts of the crates in them, and their bill of materials.
//!
//! A crate of its own, so that none of this is in the programs.

pub mod licences;
pub mod sbom;
pub mod tree;
pub mod usage;

use clap::{Command, CommandFactory as _};

/// The programs of a release.
pub const PROGRAMS: [&str; 3] = ["cloudpulse-exporter", "cloudpulse-predictor", "cloudpulse-scaler"];

/// Returns the command line of one of [`PROGRAMS`]; `None` for any other name.
pub fn command(program: &str) -> Option<Command> {
    match program {
        "cloudpulse-exporter" => Some(cloudpulse_exporter::config::command()),
        "cloudpulse-predictor" => Some(cloudpulse_predictor::cli::Cli::command()),
        "cloudpulse-scaler" => Some(cloudpulse_scaler::cli::Cli::command()),
        _ => None,
    }
}
