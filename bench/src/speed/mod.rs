//! The exact Prophet fit beside Python Prophet and Stan in WebAssembly: time, and the posterior that each reaches.
//!
//! Peers take turns on the same series in the same run, and CPU time counts, so that a busy machine does not decide.

mod python;
mod series;
mod wasmstan;

use cloudpulse_forecast::prophet::plan::{GridPlan, PlanSpec, Season, SeasonalityMode};

use crate::table;

const SIZES: [usize; 5] = [500, 2000, 4000, 10_000, 20_000];
const STEP_SECONDS: i64 = 300;
const HORIZON: usize = 288;
/// Turns of each peer.
const ROUNDS: usize = 5;
/// Our fits in a turn; their median stands for the turn.
const OWN_FITS: usize = 51;

/// Each peer takes at least this many times longer.
const MIN_RATIO: f64 = 1000.0;
/// The ratio counts from this many samples on: fewer do not determine the seasons.
const MIN_RATIO_COUNT: usize = 2000;
/// The size at which our time counts, and the most that it may be.
const TIME_COUNT: usize = 4000;
const MAX_ADDITIVE_SECONDS: f64 = 100e-6;
const MAX_MULTIPLICATIVE_SECONDS: f64 = 1e-3;
/// A peer's negative log posterior may be lower by this, in nats: rounding.
const POSTERIOR_TOLERANCE: f64 = 1e-6;

/// One fit of a peer.
#[derive(Debug)]
pub(crate) struct PeerFit {
    cpu_seconds: f64,
    /// Negative log posterior in Prophet's scaled units, up to a constant that all share.
    objective: f64,
    forecast: Vec<f64>,
}

/// Runs the comparison and prints it.
///
/// # Errors
/// When a peer that is installed fails. A peer that is not there is said to be skipped.
pub(crate) fn run() -> anyhow::Result<()> {
    table::line("\nProphet fit: 25 changepoints, daily and weekly season, one thread, five-minute samples");
    let mut stan = wasmstan::Stan::new();
    let mut cases = Vec::new();
    for mode in [SeasonalityMode::Additive, SeasonalityMode::Multiplicative] {
        let values = series::generate(SIZES[SIZES.len() - 1], STEP_SECONDS, mode);
        let mut python = python::Server::start(&values, STEP_SECONDS, HORIZON)?;
        for size in SIZES {
            cases.push(measure(&values[..size], mode, python.as_mut(), stan.as_mut())?);
        }
    }
    print(&cases);
    Ok(())
}

/// CPU time of this thread.
fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

/// All turns of one size and mode.
#[derive(Debug)]
struct Case {
    mode: SeasonalityMode,
    count: usize,
    mean: f64,
    plan_seconds: f64,
    own_seconds: Vec<f64>,
    objective: f64,
    /// Largest violation of the optimality conditions, relative to 1/τ.
    violation: f64,
    forecast: Vec<f64>,
    python: Vec<PeerFit>,
    stan: Vec<PeerFit>,
}

fn measure(
    values: &[f64],
    mode: SeasonalityMode,
    mut python: Option<&mut python::Server>,
    mut stan: Option<&mut wasmstan::Stan>,
) -> anyhow::Result<Case> {
    let spec = PlanSpec {
        seasons: vec![Season::DAY, Season::WEEK],
        seasonality_mode: mode,
        ..PlanSpec::prophet(values.len(), STEP_SECONDS as f64)
    };
    let started = cpu_seconds();
    let plan = GridPlan::new(&spec)?;
    let plan_seconds = cpu_seconds() - started;
    let fit = plan.fit(values)?;
    let (mut own_seconds, mut python_fits, mut stan_fits) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        if let Some(python) = python.as_mut() {
            python_fits.push(python.fit(values.len(), name(mode))?);
        }
        if let Some(stan) = stan.as_mut() {
            stan_fits.push(stan.fit(values, STEP_SECONDS, mode, HORIZON)?);
        }
        let mut turn = Vec::with_capacity(OWN_FITS);
        for _ in 0..OWN_FITS {
            let started = cpu_seconds();
            std::hint::black_box(plan.fit(std::hint::black_box(values))?);
            turn.push(cpu_seconds() - started);
        }
        own_seconds.push(table::spread(&turn).0);
    }
    Ok(Case {
        mode,
        count: values.len(),
        mean: values.iter().sum::<f64>() / values.len() as f64,
        plan_seconds,
        own_seconds,
        objective: fit.solution.objective,
        violation: plan.kkt_violation(values, &fit)?,
        forecast: (values.len()..values.len() + HORIZON).map(|index| plan.value_at(&fit, index as f64)).collect(),
        python: python_fits,
        stan: stan_fits,
    })
}

impl Case {
    /// Least, middle and most of the peer's time over ours, turn by turn.
    fn ratios(&self, peer: &[PeerFit]) -> (f64, f64, f64) {
        let ratios: Vec<f64> = peer.iter().zip(&self.own_seconds).map(|(fit, own)| fit.cpu_seconds / own).collect();
        table::spread(&ratios)
    }

    /// How much worse the peer's best posterior is, in nats; NaN without a peer.
    fn behind(&self, peer: &[PeerFit]) -> f64 {
        peer.iter().map(|fit| fit.objective).fold(f64::NAN, f64::min) - self.objective
    }

    /// Largest difference of the forecasts, as a share of the history's mean; NaN without a peer.
    fn difference(&self, peer: &[PeerFit]) -> f64 {
        let Some(fit) = peer.last() else { return f64::NAN };
        let differences = fit.forecast.iter().zip(&self.forecast).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f64::max) / self.mean.abs()
    }
}

fn print(cases: &[Case]) {
    let heading = |columns: &[&str]| columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>();
    let mut times = vec![heading(&[
        "season",
        "points",
        "plan, once",
        "our fit",
        "Python Prophet",
        "ratio",
        "Stan in WebAssembly",
        "ratio",
    ])];
    let mut posteriors = vec![heading(&[
        "season",
        "points",
        "our objective",
        "optimality",
        "Python is behind by",
        "Stan is behind by",
        "forecasts differ: Python",
        "Stan",
    ])];
    for case in cases {
        let (own, own_least, own_most) = table::spread(&case.own_seconds);
        let time = |peer: &[PeerFit]| match peer {
            [] => "skipped".to_owned(),
            _ => {
                format!("{:.1} ms", table::spread(&peer.iter().map(|fit| fit.cpu_seconds).collect::<Vec<_>>()).0 * 1e3)
            }
        };
        let ratio = |peer: &[PeerFit]| match peer {
            [] => String::new(),
            _ => {
                let (middle, least, most) = case.ratios(peer);
                format!("{middle:.0}× ({least:.0}…{most:.0})")
            }
        };
        times.push(vec![
            name(case.mode).to_owned(),
            case.count.to_string(),
            format!("{:.1} ms", case.plan_seconds * 1e3),
            format!("{:.0} µs ({:.0}…{:.0})", own * 1e6, own_least * 1e6, own_most * 1e6),
            time(&case.python),
            ratio(&case.python),
            time(&case.stan),
            ratio(&case.stan),
        ]);
        let number = |value: f64, text: String| if value.is_nan() { "skipped".to_owned() } else { text };
        let behind = |peer: &[PeerFit]| number(case.behind(peer), format!("{:.4}", case.behind(peer)));
        let difference = |peer: &[PeerFit]| {
            let difference = case.difference(peer);
            number(difference, format!("{:.2} % of the mean", difference * 100.0))
        };
        posteriors.push(vec![
            name(case.mode).to_owned(),
            case.count.to_string(),
            format!("{:.4}", case.objective),
            format!("{:.0e}", case.violation),
            behind(&case.python),
            behind(&case.stan),
            difference(&case.python),
            difference(&case.stan),
        ]);
    }
    table::print(&times);
    for note in [
        "  CPU time: medians, with the least and most of the turns. The plan is made once for all series of a grid.",
        "  Stan's time is that of its optimizer alone, without the preparation of the data.",
    ] {
        table::line(note);
    }
    table::line("");
    table::print(&posteriors);
    for note in [
        "  The objective is the negative log posterior in nats: lower is better. A peer's is the best of its turns.",
        "  Optimality is the largest violation of the optimality conditions, relative to the prior's bound 1/τ.",
        "  500 points do not hold a week, so that nothing in the data says how the season goes on.",
    ] {
        table::line(note);
    }
    if cases.iter().all(|case| case.python.is_empty()) {
        table::line("  SKIPPED: Python Prophet is not installed; run scripts/setup.sh bench");
    }
    if cases.iter().all(|case| case.stan.is_empty()) {
        table::line("  SKIPPED: Stan in WebAssembly is not built in; run make bench-speed");
    }
    for (text, met) in bars(cases) {
        table::line(&format!("  bar: {text}: {}", if met { "met" } else { "MISSED" }));
    }
}

/// Each bar, and whether it is met. Peers that are skipped have none.
fn bars(cases: &[Case]) -> Vec<(String, bool)> {
    let mut bars = Vec::new();
    for (mode, most) in [
        (SeasonalityMode::Additive, MAX_ADDITIVE_SECONDS),
        (SeasonalityMode::Multiplicative, MAX_MULTIPLICATIVE_SECONDS),
    ] {
        let of_mode = || cases.iter().filter(move |case| case.mode == mode);
        let seconds = of_mode().filter(|case| case.count == TIME_COUNT).map(|case| table::spread(&case.own_seconds).0);
        let seconds = seconds.fold(0.0, f64::max);
        let text = format!("{} fit of {TIME_COUNT} points in {:.0} µs or less", name(mode), most * 1e6);
        bars.push((format!("{text} ({:.0} µs)", seconds * 1e6), seconds <= most));
        type Fits = fn(&Case) -> &[PeerFit];
        let peers: [(&str, Fits); 2] = [("Python Prophet", |case| &case.python), ("Stan", |case| &case.stan)];
        for (peer, fits) in peers {
            if of_mode().all(|case| fits(case).is_empty()) {
                continue;
            }
            let long = of_mode().filter(|case| case.count >= MIN_RATIO_COUNT);
            let least = long.map(|case| case.ratios(fits(case)).0).fold(f64::INFINITY, f64::min);
            let text =
                format!("{} fit {MIN_RATIO:.0}× faster than {peer} from {MIN_RATIO_COUNT} points on", name(mode));
            bars.push((format!("{text} ({least:.0}×)"), least >= MIN_RATIO));
            let worst = of_mode().map(|case| case.behind(fits(case))).fold(f64::INFINITY, f64::min);
            let text = format!("{} posterior never worse than that of {peer}", name(mode));
            bars.push((format!("{text} ({peer} behind by {worst:.4} or more)"), worst >= -POSTERIOR_TOLERANCE));
        }
    }
    bars
}

const fn name(mode: SeasonalityMode) -> &'static str {
    match mode {
        SeasonalityMode::Additive => "additive",
        SeasonalityMode::Multiplicative => "multiplicative",
    }
}
