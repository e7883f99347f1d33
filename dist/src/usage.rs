//! A program's command line → its man pages and completions.

use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

/// Shells that get a completion, each with the folder for it.
const SHELLS: [(Shell, &str); 3] = [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")];

/// Writes `man/man1/*.1`, a page for the program and for each of its subcommands, and `completions/{bash,zsh,fish}/*`, under
/// the names by which the shells find them, into `folder`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(command: &Command, folder: &Path) -> anyhow::Result<()> {
    let pages = create(&folder.join("man/man1"))?;
    // Without `help`: its pages would only say that it shows help of the others.
    let without_help = command.clone().disable_help_subcommand(true).propagate_version(true);
    clap_mangen::generate_to(without_help, &pages).with_context(|| format!("writing {}", pages.display()))?;
    let name = command.get_name().to_owned();
    for (shell, folder_of_shell) in SHELLS {
        let folder = create(&folder.join("completions").join(folder_of_shell))?;
        let file = clap_complete::generate_to(shell, &mut command.clone(), &name, &folder)
            .with_context(|| format!("writing into {}", folder.display()))?;
        let script = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let (own, script) = match shell {
            // bash-completion looks for a file of the program's own name.
            Shell::Bash => {
                std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
                (folder.join(&name), mend_bash(&script, &name))
            }
            Shell::Fish => (file, mend_fish(&script)),
            _ => (file, script),
        };
        std::fs::write(&own, script).with_context(|| format!("writing {}", own.display()))?;
    }
    Ok(())
}

/// clap_complete 4.6.11 writes the hyphen of a program's name in two ways, so that no branch of a subcommand is ever taken
/// (<https://github.com/clap-rs/clap/issues/6421>).
fn mend_bash(script: &str, name: &str) -> String {
    script.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"))
}

/// fish's argparse takes no name with a point, such as `web.listen-address`, and then nothing at all is completed. It only has to tell
/// flags from the subcommand, so it sees all words without points.
fn mend_fish(script: &str) -> String {
    let without = |line: &str| {
        if line.trim_start().starts_with("string join") { line.replace('.', "_") } else { line.to_owned() }
    };
    let lines: Vec<String> = script.lines().map(without).collect();
    lines.join("\n").replace("(commandline -opc)", "(commandline -opc | string replace --all . _)") + "\n"
}

fn create(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder.to_owned())
}
