//! Entry point: a program's name and a folder in; files out.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use cloudpulse_dist::sbom::Toolchain;
use cloudpulse_dist::{PROGRAMS, command, licences, sbom, tree, usage};

/// Writes what a release has beside a program.
///
/// scripts/dist.sh runs it.
#[derive(Debug, Parser)]
#[command(name = "cloudpulse-dist", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write man pages and shell completions.
    Usage {
        /// The program.
        #[arg(value_parser = PROGRAMS)]
        program: String,
        /// Folder to write into; made where it is not there.
        folder: PathBuf,
    },
    /// Write the licences of the crates in a program.
    Licences {
        /// The program.
        #[arg(value_parser = PROGRAMS)]
        program: String,
        /// File to write.
        file: PathBuf,
    },
    /// Write the bill of materials of a program from the one that cargo-cyclonedx made of its crate.
    Sbom {
        /// The program.
        #[arg(value_parser = PROGRAMS)]
        program: String,
        /// What cargo-cyclonedx wrote.
        from: PathBuf,
        /// Folder of the workspace that it was run in.
        #[arg(long)]
        folder: String,
        /// Version of Rust that builds the program.
        #[arg(long)]
        rust: String,
        /// Version of the C library that is linked into it.
        #[arg(long)]
        glibc: String,
        /// File to write.
        file: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Usage { program, folder } => usage::write(&command(&program).context("no such program")?, &folder),
        Command::Licences { program, file } => write(&file, &licences::render(&program, &licences::of(&program)?)),
        Command::Sbom { program, from, folder, rust, glibc, file } => {
            let bom = std::fs::read_to_string(&from).with_context(|| format!("reading {}", from.display()))?;
            let bom = sbom::of_program(&bom, &folder, &tree::of(&program)?, &Toolchain { rust, glibc })
                .with_context(|| from.display().to_string())?;
            write(&file, &bom)
        }
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
