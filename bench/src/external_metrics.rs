//! External metrics for HPAs: our scaler beside prometheus-adapter, in a real Kubernetes control plane, on one Prometheus.
//!
//! Both serve the same thousand metrics, ours from the adapter's configuration as `convert` carries it over, and both are
//! asked in turns for one of them as kube-apiserver asks: its certificate, a user who has the right by a RoleBinding, decisions kept
//! for ten seconds. All thousand are kept fresh by ours meanwhile, which is counted. The figures to trust on a busy machine
//! are CPU per request and the ratios; the load comes from the same machine.

mod load;
mod setting;

use std::time::Duration;

use anyhow::Context as _;
use hyper::StatusCode;

use crate::external_metrics::load::Protocol;
use crate::external_metrics::setting::Setting;
use crate::external_metrics::setting::Side;
use crate::table;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Rounds, each of which asks both in every way.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Seconds for each way and server.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    seconds: u64,
    /// Metrics that both serve.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    metrics: usize,
}

/// What the project promises beside the adapter.
const RATE_BAR: f64 = 5.0;
const CPU_BAR: f64 = 0.1;
const P99_BAR_MILLISECONDS: f64 = 5.0;

/// A way of asking.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    protocol: Protocol,
    connections: usize,
    user: &'static str,
    expected: StatusCode,
}

const WAYS: [Way; 5] = [
    Way::allowed("HTTP/1.1, 1 connection", Protocol::Http1, 1),
    Way::allowed("HTTP/1.1, 8 connections", Protocol::Http1, 8),
    Way::allowed("HTTP/2, 1 connection", Protocol::Http2, 1),
    Way::allowed("HTTP/2, 8 connections", Protocol::Http2, 8),
    Way {
        name: "refused (403), HTTP/1.1, 1",
        protocol: Protocol::Http1,
        connections: 1,
        user: setting::STRANGER,
        expected: StatusCode::FORBIDDEN,
    },
];

impl Way {
    const fn allowed(name: &'static str, protocol: Protocol, connections: usize) -> Self {
        Self { name, protocol, connections, user: setting::READER, expected: StatusCode::OK }
    }
}

/// What one round measured of one server.
#[derive(Debug, Clone, Copy)]
struct Round {
    requests_per_second: f64,
    p50_milliseconds: f64,
    p99_milliseconds: f64,
    /// CPU per request, in microseconds: the server's, Prometheus', and kube-apiserver's.
    cpu: [f64; 3],
    rss_mib: f64,
}

/// Runs the comparison and prints it.
///
/// # Errors
/// When a part is not built or does not start, a request fails, or both do not say the same value.
pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let setting = Setting::start(args.metrics).await?;
    let duration = Duration::from_secs(args.seconds);
    table::progress("both at rest, for half a minute each");
    let idle = [setting.idle(&setting.ours, duration).await?, setting.idle(&setting.theirs, duration).await?];
    let mut rounds: Vec<[Vec<Round>; 2]> = WAYS.iter().map(|_| Default::default()).collect();
    for round in 1..=args.rounds {
        table::progress(&format!("round {round} of {}", args.rounds));
        for (way, measured) in WAYS.iter().zip(&mut rounds) {
            for (side, measured) in [&setting.ours, &setting.theirs].into_iter().zip(measured) {
                measured.push(measure(&setting, side, *way, duration).await?);
            }
        }
    }
    print(args, &idle, &rounds);
    Ok(())
}

async fn measure(setting: &Setting, side: &Side, way: Way, duration: Duration) -> anyhow::Result<Round> {
    let question = side.question(setting::MEASURED, way.user);
    // The connection's handshake and the first decision are not what is measured.
    load::ask(&question, &setting.identity).await?;
    let pids = setting.pids(side);
    let before = setting::cpu(pids)?;
    let identity = setting.identity.clone();
    let asked = tokio::task::spawn_blocking(move || {
        load::run(&question, &identity, way.protocol, way.connections, duration, way.expected)
    });
    let mut times = asked.await?.with_context(|| format!("{}, {}", side.name, way.name))?;
    let after = setting::cpu(pids)?;
    times.sort();
    let count = times.len();
    let at = |share: f64| times.get(((count as f64 * share) as usize).min(count.saturating_sub(1)));
    let milliseconds = |share| at(share).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
    let mut cpu = [0.0; 3];
    for (cpu, (before, after)) in cpu.iter_mut().zip(before.into_iter().zip(after)) {
        *cpu = (after - before) * 1e6 / count as f64;
    }
    Ok(Round {
        requests_per_second: count as f64 / duration.as_secs_f64(),
        p50_milliseconds: milliseconds(0.5),
        p99_milliseconds: milliseconds(0.99),
        cpu,
        rss_mib: setting::rss_mib(side.pid)?,
    })
}

fn print(args: &Args, idle: &[[f64; 3]; 2], rounds: &[[Vec<Round>; 2]]) {
    let Args { rounds: count, seconds, metrics } = args;
    table::line(&format!(
        "external metrics: {metrics} metrics, one asked for, {count} rounds of {seconds} s each in turns; median (least..most)"
    ));
    let mut rows = vec![["", "cloudpulse", "prometheus-adapter", "ratio", "bar"].map(str::to_owned).to_vec()];
    let mut all_held = true;
    for (way, [ours, theirs]) in WAYS.iter().zip(rounds) {
        rows.push(vec![way.name.to_owned()]);
        let mut row =
            |name: &str, digits: usize, figure: &dyn Fn(&Round) -> f64, holds: Option<&dyn Fn(f64, f64) -> bool>| {
                let (a, b): (Vec<f64>, Vec<f64>) =
                    (ours.iter().map(figure).collect(), theirs.iter().map(figure).collect());
                // Round by round: both saw about the same machine.
                let ratios: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a / b).collect();
                let words = |values: &[f64], digits: usize| {
                    let (middle, least, most) = table::spread(values);
                    format!("{middle:.digits$} ({least:.digits$}..{most:.digits$})")
                };
                let held = holds.map(|holds| holds(table::spread(&a).0, table::spread(&ratios).0));
                all_held &= held.unwrap_or(true);
                let bar = held.map_or("", |held| if held { "held" } else { "MISSED" });
                rows.push(vec![
                    format!("  {name}"),
                    words(&a, digits),
                    words(&b, digits),
                    words(&ratios, 3),
                    bar.to_owned(),
                ]);
            };
        let is_allowed = way.expected == StatusCode::OK;
        let bar = |holds: &'static dyn Fn(f64, f64) -> bool| is_allowed.then_some(holds);
        row("requests/s", 0, &|round| round.requests_per_second, bar(&|_, ratio| ratio >= RATE_BAR));
        row("p50, ms", 2, &|round| round.p50_milliseconds, None);
        row("p99, ms", 2, &|round| round.p99_milliseconds, bar(&|own, _| own <= P99_BAR_MILLISECONDS));
        row("CPU/request, us", 0, &|round| round.cpu[0], bar(&|_, ratio| ratio <= CPU_BAR));
        row("  with Prometheus, us", 0, &|round| round.cpu[0] + round.cpu[1], None);
        row("  kube-apiserver, us", 0, &|round| round.cpu[2], None);
        row("RSS, MiB", 1, &|round| round.rss_mib, None);
    }
    table::print(&rows);
    let [ours, theirs] = idle;
    let [own, prometheus] = [0, 1].map(|part| (ours[part] * 1e3, theirs[part] * 1e3));
    table::line(&format!(
        "at rest, CPU ms per second: cloudpulse {:.1}, and Prometheus {:.1} beside it; prometheus-adapter {:.1}, and Prometheus {:.1} (both run: what \
         Prometheus does is for both)",
        own.0, prometheus.0, own.1, prometheus.1
    ));
    table::line(if all_held { "every bar is held" } else { "A BAR IS MISSED" });
}
