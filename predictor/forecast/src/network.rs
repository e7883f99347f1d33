//! What a network is shown of a series, and the seam behind which it stands: a history, the pool's forecasts and what they
//! were worth lately in; arrays of numbers without unit out, and quantiles back in the series' unit.
//!
//! A network mixes: for each horizon it sees the forecasts of every model ("anchors") with their errors of the last day and
//! the last three hours, what the series did a day and a week before the target, and its recent course; it returns
//! quantiles as a mixture of the anchors and a correction. Training and serving both come here for their inputs. Nothing
//! but the [`History`] and resolved forecasts is read, so no input knows the future.
//!
//! Scales: inputs are asinh((x − centre) / spread), where the centre is the median of two hours and the spread
//! persistence's error at 15 minutes; outputs are counted in units of persistence's error at the horizon itself.

use std::fmt;

use crate::history::History;

/// Version of the inputs: weights are of use with the version that they were trained for.
pub const VERSION: u32 = 1;
/// Quantiles that a network returns.
pub const LEVELS: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Place of the median among them.
pub const MEDIAN: usize = 4;
/// Tokens of the recent values at the step, and values in each.
pub const FINE: [usize; 2] = [16, 16];
/// Tokens of the last two days, and numbers in each: mean and maximum of eight half hours.
pub const COARSE: [usize; 2] = [12, 16];
/// Numbers about the series as a whole.
pub const WINDOW: usize = 5 + 2 * LEVELS.len();
/// Numbers about one horizon besides four for each anchor.
pub const QUERY: usize = 12 + 3 + 4;
/// Anchors that differ by quantile: those of two hours, of a day, and of the combination as calibrated.
pub const QUANTILE_ANCHORS: usize = 3;
/// The network knows steps up to this, in seconds.
pub const LONGEST_STEP_SECONDS: i64 = 300;

/// And horizons up to this.
pub const LONGEST_HORIZON_SECONDS: i64 = 86_400;

const DAY_SECONDS: i64 = 86_400;
const HALF_HOUR_SECONDS: i64 = 1800;
const TWO_HOURS_SECONDS: i64 = 7200;
const SCALE_SECONDS: f64 = 900.0;
/// Anchors and targets further from the centre than this many units are taken for this far.
const FARTHEST: f64 = 1000.0;

/// A network.
pub trait Network: fmt::Debug + Send + Sync {
    /// Returns the quantiles ([`LEVELS`], ascending) for each horizon of `inputs`, in the units of [`Inputs::value`].
    fn forecast(&self, inputs: &Inputs) -> Vec<[f32; LEVELS.len()]>;
}

/// What is known of one horizon.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Steps ahead.
    pub(crate) horizon: usize,
    /// Forecasts of the anchors: all models, then their combination; NaN where one says nothing.
    pub(crate) anchors: Vec<f64>,
    /// Mean absolute error of each over about a day; NaN where none has resolved.
    pub(crate) day: Vec<f32>,
    /// The same over about three hours.
    pub(crate) hours: Vec<f32>,
    /// Distance of each quantile from the combination, as calibrated; NaN where unknown.
    pub(crate) offsets: [f64; LEVELS.len()],
}

/// The arrays that a network takes, for one series and `K` horizons. Unknown numbers are 0, and said by a flag.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inputs {
    /// Tokens of two days: [`COARSE`].
    pub coarse: Vec<f32>,
    /// Tokens of the recent values: [`FINE`].
    pub fine: Vec<f32>,
    /// [`WINDOW`] numbers.
    pub window: Vec<f32>,
    /// `K` × ([`QUERY`] + 4 × anchors) numbers.
    pub queries: Vec<f32>,
    /// `K` × anchors forecasts, in output units.
    pub anchors: Vec<f32>,
    /// 1 where the anchor says something, 0 elsewhere.
    pub known: Vec<f32>,
    /// `K` × [`LEVELS`] × [`QUANTILE_ANCHORS`] forecasts, in output units.
    pub quantile_anchors: Vec<f32>,
    /// `K` × [`QUANTILE_ANCHORS`] flags.
    pub quantile_known: Vec<f32>,
    centre: f64,
    units: Vec<f64>,
}

impl Inputs {
    /// Returns the number of horizons.
    pub fn horizons(&self) -> usize {
        self.units.len()
    }

    /// Returns the number of anchors that are the same for all quantiles.
    pub fn anchor_count(&self) -> usize {
        self.anchors.len().checked_div(self.units.len()).unwrap_or(0)
    }

    /// Returns an output for the horizon at `place` in the unit of the series.
    pub fn value(&self, place: usize, output: f32) -> f64 {
        self.centre + f64::from(output) * self.units[place]
    }

    /// Returns the output that would have been right, where the series was `actual` at the horizon at `place`.
    pub fn target(&self, place: usize, actual: f64) -> f32 {
        ((actual - self.centre) / self.units[place]).clamp(-FARTHEST, FARTHEST) as f32
    }

    /// Returns the unit of outputs for the horizon at `place`: persistence's mean absolute error over a day, with a floor.
    pub fn unit(&self, place: usize) -> f64 {
        self.units[place]
    }
}

/// Returns what a network is shown; `None` where nothing is known yet, or the step is longer than it knows.
pub(crate) fn inputs(history: &History, asked: &[Asked]) -> Option<Inputs> {
    let now = history.now()?;
    let step = history.step();
    if step > LONGEST_STEP_SECONDS || !history.last().is_finite() || asked.is_empty() {
        return None;
    }
    let recent = sorted(history.known(now - history.steps(TWO_HOURS_SECONDS) as i64 + 1, now));
    let day = sorted(buckets(history, now, DAY_SECONDS));
    let centre = quantile(&recent, 0.5).or_else(|| quantile(&day, 0.5)).unwrap_or(history.last());
    let coarse = coarse(history, now);
    let fine = history.filled(now - (FINE[0] * FINE[1]) as i64 + 1, now);
    let scales = Scales::new(history, centre, fine, &coarse, asked);

    let mut inputs = Inputs { centre, ..Inputs::default() };
    inputs.coarse = coarse.iter().map(|value| scales.input(*value)).collect();
    inputs.fine = vec![0.0; FINE[0] * FINE[1] - fine.len()];
    inputs.fine.extend(fine.iter().map(|value| scales.input(Some(*value))));
    let age = (now - history.first_bucket() * history.width()) as f64 * step as f64 / DAY_SECONDS as f64;
    inputs.window.extend(
        [
            (scales.spread / scales.deviation).ln(),
            ((scales.recent_deviation + 0.01 * scales.spread) / scales.spread).ln(),
            (step as f64 / 60.0).ln(),
            age.max(1e-3).ln().clamp(-3.0, 3.0),
            ((centre.abs() + scales.spread) / scales.spread).ln(),
        ]
        .map(|value| value as f32),
    );
    for values in [&recent, &day] {
        inputs.window.extend(LEVELS.map(|level| scales.input(quantile(values, level))));
    }
    for entry in asked {
        push_query(&mut inputs, history, now, &scales, entry, [&recent, &day]);
    }
    Some(inputs)
}

/// Returns how far `quantile` lies from the median of a network's `quantiles`: by straight lines between [`LEVELS`], beyond
/// them by the exponential tails of a Laplace distribution.
pub(crate) fn offset(quantiles: &[f64; LEVELS.len()], level: f64) -> f64 {
    let (first, last) = (LEVELS[0], LEVELS[LEVELS.len() - 1]);
    let from_median = |place: usize| quantiles[place] - quantiles[MEDIAN];
    let tail = |share: f64| (2.0 * share).ln() / (2.0 * first).ln();
    if level < first {
        return from_median(0) * tail(level);
    }
    if level > last {
        return from_median(LEVELS.len() - 1) * tail(1.0 - level);
    }
    let above = LEVELS.partition_point(|known| *known < level).clamp(1, LEVELS.len() - 1);
    let share = (level - LEVELS[above - 1]) / (LEVELS[above] - LEVELS[above - 1]);
    from_median(above - 1) + share * (from_median(above) - from_median(above - 1))
}

/// What differences are measured by.
struct Scales {
    centre: f64,
    /// Unit of inputs.
    spread: f64,
    /// Mean distance from the centre over two days.
    deviation: f64,
    /// The same over the recent values.
    recent_deviation: f64,
    /// What counts as nothing.
    tiny: f64,
}

impl Scales {
    fn new(history: &History, centre: f64, fine: &[f64], coarse: &[Option<f64>], asked: &[Asked]) -> Self {
        let distance = |values: &mut dyn Iterator<Item = f64>| {
            let (mut sum, mut count) = (0.0, 0_u32);
            for value in values.filter(|value| value.is_finite()) {
                sum += (value - centre).abs();
                count += 1;
            }
            if count == 0 { 0.0 } else { sum / f64::from(count) }
        };
        let recent_deviation = distance(&mut fine.iter().copied());
        let deviation = distance(&mut coarse.iter().flatten().copied().chain(fine.iter().copied().step_by(4)));
        let tiny = 1e-9 * centre.abs().max(history.last().abs()) + 1e-12;
        let target = SCALE_SECONDS / history.step() as f64;
        let nearest = asked.iter().min_by(|a, b| {
            let far = |entry: &Asked| (entry.horizon as f64 / target).ln().abs();
            far(a).total_cmp(&far(b))
        });
        // Persistence is the first anchor. Before any error has resolved: how far the values lie from the centre.
        let error =
            nearest.and_then(|entry| entry.day.first()).map(|error| f64::from(*error)).filter(|e| e.is_finite());
        let spread = error.unwrap_or(recent_deviation).max(0.02 * deviation).max(tiny);
        Self { centre, spread, deviation: deviation + tiny, recent_deviation, tiny }
    }

    fn input(&self, value: Option<f64>) -> f32 {
        match value {
            Some(value) if value.is_finite() => ((value - self.centre) / self.spread).asinh() as f32,
            _ => 0.0,
        }
    }
}

fn push_query(inputs: &mut Inputs, history: &History, now: i64, scales: &Scales, asked: &Asked, known: [&[f64]; 2]) {
    let naive = asked.day.first().map(|error| f64::from(*error)).filter(|error| error.is_finite());
    let floor = 0.02 * scales.spread + scales.tiny;
    let unit = naive.unwrap_or(scales.spread).max(0.05 * scales.spread);
    let scaled = |value: f64| ((value - scales.centre) / unit).clamp(-FARTHEST, FARTHEST) as f32;
    let flag = |known: bool| f32::from(u8::from(known));

    let query = &mut inputs.queries;
    query.extend(asked.anchors.iter().map(|value| scales.input(Some(*value))));
    query.extend(asked.anchors.iter().map(|value| flag(value.is_finite())));
    for errors in [&asked.day, &asked.hours] {
        query.extend(errors.iter().map(|error| {
            let error = f64::from(*error);
            if error.is_finite() { ((error + floor) / (unit + floor)).ln() as f32 } else { 0.0 }
        }));
    }
    let seasonal = seasonal(history, now, asked.horizon as i64);
    query.extend(seasonal.map(|value| scales.input(value)));
    query.extend([2, 6, 7].map(|place: usize| flag(seasonal[place].is_some())));
    let calibrated = asked.offsets[0].is_finite();
    let offset = |place: usize| if calibrated { (asked.offsets[place] / unit).clamp(-20.0, 20.0) as f32 } else { 0.0 };
    query.extend([offset(0), offset(LEVELS.len() - 1), flag(calibrated)]);
    let seconds = asked.horizon as f64 * history.step() as f64;
    let lately = asked.hours.first().map(|error| f64::from(*error)).filter(|error| error.is_finite());
    query.extend([
        (seconds / SCALE_SECONDS).ln() as f32,
        (asked.horizon as f64).ln() as f32,
        (unit / scales.spread).ln() as f32,
        lately.map_or(0.0, |error| ((error + floor) / unit).ln() as f32),
    ]);

    inputs.anchors.extend(asked.anchors.iter().map(|value| if value.is_finite() { scaled(*value) } else { 0.0 }));
    inputs.known.extend(asked.anchors.iter().map(|value| flag(value.is_finite())));
    let combined = asked.anchors.last().copied().unwrap_or(f64::NAN);
    for (place, level) in LEVELS.iter().enumerate() {
        for values in known {
            inputs.quantile_anchors.push(quantile(values, *level).map_or(0.0, scaled));
        }
        let value = combined + asked.offsets[place];
        inputs.quantile_anchors.push(if value.is_finite() { scaled(value) } else { 0.0 });
    }
    let calibrated = (combined + asked.offsets.iter().sum::<f64>()).is_finite();
    inputs.quantile_known.extend([!known[0].is_empty(), !known[1].is_empty(), calibrated].map(flag));
    inputs.units.push(unit);
}

/// A day before the target: the means of five minutes from ten minutes before to ten after it; then means of half an hour
/// around the time 1, 2 and 7 days before the target, and that of a day before now.
fn seasonal(history: &History, now: i64, horizon: i64) -> [Option<f64>; 9] {
    let step = history.step();
    let steps = |seconds: i64| seconds / step;
    let level = |at: i64| if at > now { None } else { history.level(at) };
    let around = |at: i64| {
        let mean =
            mean_of_buckets(history, at - steps(HALF_HOUR_SECONDS / 2), (at + steps(HALF_HOUR_SECONDS / 2)).min(now));
        if at > now { None } else { mean }
    };
    let yesterday = now + horizon - steps(DAY_SECONDS);
    let minutes = |minutes: i64| level(yesterday + steps(60 * minutes));
    [
        minutes(-10),
        minutes(-5),
        minutes(0),
        minutes(5),
        minutes(10),
        around(yesterday),
        around(yesterday - steps(DAY_SECONDS)),
        around(yesterday - steps(6 * DAY_SECONDS)),
        around(now - steps(DAY_SECONDS)),
    ]
}

/// The mean of the buckets from that of `from` to that of `to`.
fn mean_of_buckets(history: &History, from: i64, to: i64) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_u32);
    for number in from.div_euclid(history.width())..=to.div_euclid(history.width()) {
        if let Some(bucket) = history.bucket(number) {
            sum += f64::from(bucket.mean);
            count += 1;
        }
    }
    (count > 0).then(|| sum / f64::from(count))
}

/// The means of the buckets of the last `seconds`.
fn buckets(history: &History, now: i64, seconds: i64) -> impl Iterator<Item = f64> + '_ {
    let last = now.div_euclid(history.width());
    let count = seconds / (history.width() * history.step());
    (last - count + 1..=last).filter_map(|number| history.bucket(number)).map(|bucket| f64::from(bucket.mean))
}

/// Mean and maximum of each half hour of the last two days, the oldest first.
fn coarse(history: &History, now: i64) -> Vec<Option<f64>> {
    let last = now.div_euclid(history.width());
    let each = (HALF_HOUR_SECONDS / (history.width() * history.step())).max(1);
    let count = (COARSE[0] * COARSE[1] / 2) as i64;
    let mut values = Vec::with_capacity(COARSE[0] * COARSE[1]);
    for place in 0..count {
        let end = last - each * (count - 1 - place);
        let (mut sum, mut known, mut highest) = (0.0, 0_u32, f64::NEG_INFINITY);
        for bucket in (end - each + 1..=end).filter_map(|number| history.bucket(number)) {
            sum += f64::from(bucket.mean);
            known += 1;
            highest = highest.max(f64::from(bucket.highest));
        }
        values.extend([(known > 0).then(|| sum / f64::from(known)), highest.is_finite().then_some(highest)]);
    }
    values
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The quantile of ascending `values` by straight lines between them; `None` for none.
fn quantile(values: &[f64], level: f64) -> Option<f64> {
    let position = level * values.len().checked_sub(1)? as f64;
    let (low, share) = (position.floor() as usize, position.fract());
    let value = values[low];
    Some(value + share * (values.get(low + 1).copied().unwrap_or(value) - value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two days of a wave with noise, `scale` times as large; a gap an hour ago.
    fn history(scale: f64, step: i64) -> History {
        let mut history = History::new(step, 14 * DAY_SECONDS);
        let mut state = 9_u64;
        for at in 0..2 * DAY_SECONDS / step {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 33) as f64 / (1_u64 << 31) as f64;
            let wave = ((at * step) as f64 / DAY_SECONDS as f64 * std::f64::consts::TAU).sin();
            let gap = at == 2 * DAY_SECONDS / step - 12;
            history.push(0, if gap { f64::NAN } else { scale * (20.0 + 5.0 * wave + noise) });
        }
        history
    }

    fn asked(history: &History, scale: f64) -> Vec<Asked> {
        [1_usize, 12]
            .iter()
            .map(|horizon| Asked {
                horizon: *horizon,
                anchors: vec![history.last(), f64::NAN, 21.0 * scale],
                day: [1.0, f64::NAN, 0.5].map(|error| (error * scale) as f32).to_vec(),
                hours: [2.0, f64::NAN, 0.25].map(|error| (error * scale) as f32).to_vec(),
                offsets: LEVELS.map(|level| (level - 0.5) * scale),
            })
            .collect()
    }

    #[test]
    fn nothing_depends_on_the_unit_of_the_series() {
        let of = |scale: f64| {
            let history = history(scale, 300);
            inputs(&history, &asked(&history, scale)).unwrap()
        };
        let (one, other) = (of(1.0), of(1_048_576.0));
        for (a, b) in [
            (&one.coarse, &other.coarse),
            (&one.fine, &other.fine),
            (&one.window, &other.window),
            (&one.queries, &other.queries),
            (&one.anchors, &other.anchors),
            (&one.quantile_anchors, &other.quantile_anchors),
        ] {
            assert!(!a.is_empty() && a.iter().zip(b).all(|(a, b)| a.is_finite() && (a - b).abs() < 1e-4));
        }
        assert_eq!(other.unit(1), 1_048_576.0 * one.unit(1));
    }

    #[test]
    fn outputs_and_values_are_each_others_inverse() {
        let history = history(1.0, 300);
        let inputs = inputs(&history, &asked(&history, 1.0)).unwrap();
        assert_eq!((inputs.horizons(), inputs.anchor_count()), (2, 3));
        for place in 0..2 {
            assert!((inputs.value(place, inputs.target(place, 23.5)) - 23.5).abs() < 1e-5);
            // The last anchor is 21 and is shown in units of the output.
            assert!((inputs.value(place, inputs.anchors[place * 3 + 2]) - 21.0).abs() < 1e-5);
        }
        assert_eq!(inputs.target(0, 1e12), FARTHEST as f32);
    }

    #[test]
    fn what_is_unknown_is_said_by_a_flag() {
        let history = history(1.0, 300);
        let mut asked = asked(&history, 1.0);
        asked[1].offsets = [f64::NAN; LEVELS.len()];
        let inputs = inputs(&history, &asked).unwrap();
        assert_eq!(inputs.known, [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]);
        assert_eq!(inputs.quantile_known, [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        assert!(inputs.queries.iter().chain(&inputs.quantile_anchors).all(|value| value.is_finite()));
        // Flags of yesterday, a week and a day before it: only yesterday is in two days of history.
        let seasonal = 4 * 3 + 9;
        assert_eq!(inputs.queries[seasonal..seasonal + 3], [1.0, 1.0, 0.0]);
    }

    #[test]
    fn it_is_not_asked_about_what_it_does_not_know() {
        let slow = history(1.0, 600);
        assert!(inputs(&slow, &asked(&slow, 1.0)).is_none(), "the step is too long");
        assert!(inputs(&History::new(60, DAY_SECONDS), &asked(&slow, 1.0)).is_none(), "no value");
        assert!(inputs(&history(1.0, 60), &[]).is_none(), "no horizon");
    }

    #[test]
    fn the_distribution_goes_on_beyond_the_outermost_quantiles() {
        let quantiles = LEVELS.map(|level| 10.0 * level + 3.0);
        assert_eq!(offset(&quantiles, 0.5), 0.0);
        assert!((offset(&quantiles, 0.85) - 3.5).abs() < 1e-9 && (offset(&quantiles, 0.1) + 4.0).abs() < 1e-9);
        let levels = [0.001, 0.01, 0.05, 0.1, 0.15, 0.5, 0.9, 0.95, 0.99, 0.999];
        assert!(levels.map(|level| offset(&quantiles, level)).is_sorted());
        // The tail of a Laplace distribution: each halving of the rest adds as much.
        let steps = [0.95, 0.975, 0.9875].map(|level| offset(&quantiles, level));
        assert!((steps[2] - steps[1] - (steps[1] - steps[0])).abs() < 1e-9);
    }
}
