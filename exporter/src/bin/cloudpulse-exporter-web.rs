//! The node exporter of CloudPulse with TLS, users and headers by a web config file. `cloudpulse-exporter` starts it where it is
//! given one.

fn main() -> anyhow::Result<()> {
    cloudpulse_exporter::run_under_web_config(cloudpulse_exporter::config::Config::from_command_line())
}
