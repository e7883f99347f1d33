//! Entry point.

fn main() -> std::process::ExitCode {
    cloudpulse_predictor::cli::main()
}
