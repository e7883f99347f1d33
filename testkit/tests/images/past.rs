//! A day of the sample's load before the stack is brought up, as who comes with a Prometheus of their own has it: the peak that a
//! rule reads takes hours to learn.

use std::fmt::Write as _;
use std::process::Command;
use std::time::SystemTime;

use anyhow::Context as _;
use cloudpulse_testkit::process::run;
use cloudpulse_testkit::prometheus::backfill;

use super::stack::Stack;

const STEP: u64 = 15;
const DAY: u64 = 86_400;

/// Puts the day into the volume of the stack's Prometheus, which has not started yet.
pub(crate) async fn bring(stack: &Stack) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() / STEP * STEP;
    let mut text = "# TYPE http_requests counter\n".to_owned();
    for time in (now - DAY..=now).step_by(STEP as usize) {
        let _ = writeln!(
            text,
            "http_requests_total{{job=\"sample\",instance=\"past:8080\"}} {} {time}",
            requests(time, now - DAY)
        );
    }
    text.push_str("# EOF\n");
    let file = stack.file("past.om", &text)?;
    let blocks = file.with_file_name("blocks");
    std::fs::create_dir(&blocks)?;
    backfill(&file, &blocks).await?;

    stack.compose(&["create", "--no-build", "prometheus"])?;
    let containers = stack.containers("prometheus")?;
    let id = containers[0]["Id"].as_str().context("no container")?;
    let copy = "tar --directory \"$1\" --owner 65534 --group 65534 --create . | docker cp - \"$2:/prometheus\"";
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", copy, "copy"]).arg(&blocks).arg(id);
    run(command.env("DOCKER_HOST", stack.docker.address()))?;
    Ok(())
}

/// The requests that docker/sample.rs sends until `time`, since `start`.
fn requests(time: u64, start: u64) -> f64 {
    let period = 600.0;
    let swing =
        |time: u64| -30.0 * period / std::f64::consts::TAU * (time as f64 / period * std::f64::consts::TAU).cos();
    50.0 * (time - start) as f64 + swing(time) - swing(start) + 20_000.0
}
