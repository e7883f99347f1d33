//! The node exporter of CloudPulse. See the library for what it does.

fn main() -> anyhow::Result<()> {
    cloudpulse_exporter::run(cloudpulse_exporter::config::Config::from_command_line())
}
