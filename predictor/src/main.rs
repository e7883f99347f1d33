//! Entry point.

/// The system's allocator keeps an arena for each thread: after a long history was read, more memory would lie idle in
/// them than all series take.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cloudpulse_predictor::cli::main()
}
