//! The images and the Compose stack of docker/ on a real engine: built, brought up, watched, upgraded and removed. Not among the
//! workspace's tests, because the images hold optimised programs: `make test-images`.
//!
//! Nothing is pulled. Prometheus and Alertmanager are Debian's programs in images made here; Grafana is left out.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

mod checks;
mod gpu;
mod past;
mod stack;

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use cloudpulse_testkit::docker::Docker;

use stack::{SERVICES, Stack};

/// What the stack has from `up` to health and forecasts.
const UP: Duration = Duration::from_secs(180);
/// A replica that is added, state that is saved.
const WAIT: Duration = Duration::from_secs(120);
const FORECAST: &str = "cloudpulse_forecast{forecast=\"sample-requests\"}";
const FORECAST_OF_RULE: &str = "cloudpulse_scaler_recommended_replicas{rule=\"sample\",source=\"forecast\"}";
/// That the scaler sees its target, it knows from the engine.
const REPLICAS: &str = "cloudpulse_scaler_current_replicas{rule=\"sample\"}";

#[tokio::test]
async fn the_stack_comes_up_forecasts_scales_is_upgraded_and_goes() {
    let docker = Docker::start().await.unwrap().unwrap_or_else(|| panic!("{}", Docker::HOW_TO_GET_ONE));
    let mut stack = Stack::new(docker).unwrap();
    for line in stack.build("test").unwrap() {
        println!("{line}");
    }
    println!(
        "stand-ins: Debian's Prometheus and Alertmanager in local images; NOT TESTED: Grafana, which cannot be had here"
    );
    checks::an_image_is_nothing_but_its_programs(&stack);
    checks::a_web_config_file_is_served_under(&stack).await;

    past::bring(&stack).await.unwrap();
    let begin = Instant::now();
    stack.compose(&["up", "--detach", "--no-build"]).unwrap();
    println!("{:4.0} s: compose up has returned", begin.elapsed().as_secs_f64());
    let services: BTreeSet<String> = SERVICES.map(str::to_owned).into();
    stack.wait("every health check", UP, async |stack| stack.healthy_services().unwrap() == services).await;
    println!("{:4.0} s: every health check is green", begin.elapsed().as_secs_f64());
    for query in [FORECAST, FORECAST_OF_RULE, REPLICAS] {
        let left = UP.saturating_sub(begin.elapsed());
        stack.wait(query, left, async |stack| !stack.query(query).await.is_empty()).await;
        println!("{:4.0} s: {query}", begin.elapsed().as_secs_f64());
    }
    checks::every_service_is_held(&stack, &["scaler"]);
    checks::the_exporter_sees_the_host(&stack).await;
    let all_up = async |stack: &Stack| stack.query("up == 0").await.is_empty() && stack.query("up").await.len() >= 6;
    stack.wait("every target to be scraped", WAIT, all_up).await;
    stack.wait("a second replica", WAIT, async |stack| stack.containers("sample").unwrap().len() > 1).await;
    println!(
        "{:4.0} s: the sample service has {} replicas",
        begin.elapsed().as_secs_f64(),
        stack.containers("sample").unwrap().len()
    );

    // The next version, and the scaler as nobody in particular.
    stack.build("next").unwrap();
    stack.scaler_is_nobody().unwrap();
    let begin = Instant::now();
    stack.compose(&["up", "--detach", "--no-build"]).unwrap();
    stack
        .wait("every health check after the upgrade", UP, async |stack| stack.healthy_services().unwrap() == services)
        .await;
    println!("{:4.0} s: every health check is green after the upgrade", begin.elapsed().as_secs_f64());
    let healthy = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    checks::every_service_is_held(&stack, &[]);
    checks::runs_version(&stack, "next");
    let restored = "cloudpulse_predictor_state_restored_series{forecast=\"sample-requests\"} >= 1";
    stack.wait(restored, WAIT, async |stack| !stack.query(restored).await.is_empty()).await;
    let replicas = format!("timestamp({REPLICAS}) > {healthy}");
    stack.wait("the new scaler to see its target", WAIT, async |stack| !stack.query(&replicas).await.is_empty()).await;
    println!("{:4.0} s: the predictor goes on with what it had learnt", begin.elapsed().as_secs_f64());

    stack.compose(&["down", "--volumes"]).unwrap();
    assert_eq!(stack.left().unwrap(), Vec::<String>::new());
    println!("down --volumes leaves nothing");
}
