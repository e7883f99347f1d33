//! Entry point: arguments in; exit code out.

use std::process::ExitCode;

use clap::Parser as _;
use cloudpulse_common::health;
use cloudpulse_common::shutdown;
use cloudpulse_common::telemetry;
use cloudpulse_scaler::ack;
use cloudpulse_scaler::check;
use cloudpulse_scaler::cli::Cli;
use cloudpulse_scaler::cli::Command;
use cloudpulse_scaler::client;
use cloudpulse_scaler::convert;
use cloudpulse_scaler::generate;
use cloudpulse_scaler::kubernetes::crd;
use cloudpulse_scaler::replay;
use cloudpulse_scaler::serve;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the last word of a command is for its user, not for the log")]
            {
                eprintln!("cloudpulse-scaler: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    telemetry::init(&cli.log)?;
    match cli.command {
        Command::Serve(args) => serve::run(*args, shutdown::on_signal()?).await,
        // It blocks, and nothing else runs.
        Command::Health(args) => {
            let answer = health::ask_also_with_tls(&[args.address.listen], &args.health)?;
            print(&format!("{answer}\n"))
        }
        Command::Check(args) => check::run(args).await,
        Command::Status(args) => client::status(args).await,
        Command::Scale(args) => client::scale(args).await,
        Command::Pause(args) => client::pause(args).await,
        Command::Ack(args) => ack::run(*args).await,
        Command::Crd => print(&crd::yaml()?),
        Command::Generate(args) => generate::run(&args),
        Command::Convert(args) => convert::run(args).await,
        Command::Replay(args) => replay::run(args).await,
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}
