//! Which seasons a series has, and whether they add to its level or multiply it.
//!
//! In: a series on a uniform grid and candidate seasons. Out: those that the history holds twice and that come back from
//! cycle to cycle, by a test that holds for white noise and random walks alike.
//!
//! Prophet takes every season of which the history holds two periods. A random walk gets a day then, and its forecast
//! repeats a shape that was chance. A comparison of fits (such as BIC) does not help: it counts samples, and those of a
//! series that moves slowly are worth far fewer than they are. Here the cycles are counted instead. Each cycle's line and
//! Fourier terms are fitted by themselves; without a season the terms of one harmonic are complex numbers of random phase,
//! independent from cycle to cycle, whatever the noise's spectrum. So with n cycles
//!
//! ```text
//! p_h = (Σ|c_i − c̄|² / Σ|c_i|²)^(n − 1)
//! ```
//!
//! is the tail of their F(2, 2n − 2) statistic, and −2·Σ ln p_h over the harmonics follows χ² (Fisher's combination).

use std::f64::consts::TAU;

use super::linalg::{backward, cholesky, dot, forward};
use super::plan::{Season, SeasonalityMode};

/// The seasons of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Those of the candidates that the series has, in the order of the candidates.
    pub seasons: Vec<Season>,
    /// How they go together with the trend; additive where there is none or nothing says otherwise.
    pub seasonality_mode: SeasonalityMode,
}

/// What speaks for one season.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// Whole cycles of which enough is known, at least 2.
    pub cycles: usize,
    /// Probability of cycles that agree so well if there is no season, 0 to 1.
    pub p_value: f64,
    /// Share of the variance about the cycles' lines that the mean cycle explains, 0 to 1.
    pub explained_share: f64,
}

/// Seasons are taken up to this probability of being chance.
const MAX_P_VALUE: f64 = 0.01;
/// A season that explains less than this share is left out: there is nothing to win.
const MIN_EXPLAINED_SHARE: f64 = 0.01;
/// A cycle counts where this share of its samples is known.
const MIN_KNOWN: f64 = 0.6;
/// The amplitude of a cycle counts up to this multiple of the median cycle's, so that one odd day does not hide a season.
const MAX_AMPLITUDE: f64 = 3.0;
/// A multiplicative season must explain the cycles' amplitudes better by this factor of the likelihood.
const MODE_LIKELIHOOD_RATIO: f64 = 20.0;

/// Chooses among `candidates`, of which [`Season::DAY`] and [`Season::WEEK`] are the usual ones, for a series with a sample
/// each `step_seconds`, gaps being NaN. Shorter seasons are judged first and taken off before longer ones are.
pub fn choose(values: &[f64], step_seconds: f64, candidates: &[Season]) -> Choice {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|a, b| candidates[*a].period_seconds.total_cmp(&candidates[*b].period_seconds));
    let mut rest = values.to_vec();
    let mut taken = vec![false; candidates.len()];
    let mut strongest: Option<(f64, SeasonalityMode)> = None;
    for place in order {
        let Some(cycles) = Cycles::new(&rest, step_seconds, &candidates[place]) else { continue };
        let evidence = cycles.evidence();
        if evidence.p_value > MAX_P_VALUE || evidence.explained_share < MIN_EXPLAINED_SHARE {
            continue;
        }
        taken[place] = true;
        if strongest.is_none_or(|(share, _)| evidence.explained_share > share) {
            strongest = Some((evidence.explained_share, cycles.mode()));
        }
        cycles.take_off(&mut rest);
    }
    Choice {
        seasons: candidates.iter().zip(taken).filter(|(_, taken)| *taken).map(|(season, _)| *season).collect(),
        seasonality_mode: strongest.map_or(SeasonalityMode::Additive, |(_, mode)| mode),
    }
}

/// Returns what speaks for `season`; `None` where the history does not hold two cycles that are known well enough, or a
/// cycle has too few samples for the season's order.
pub fn evidence(values: &[f64], step_seconds: f64, season: &Season) -> Option<Evidence> {
    Some(Cycles::new(values, step_seconds, season)?.evidence())
}

/// The cycles of a series, each with its own line and Fourier terms.
#[derive(Debug)]
struct Cycles {
    /// Radians per sample of the first harmonic.
    frequency: f64,
    order: usize,
    /// Mean of each cycle.
    levels: Vec<f64>,
    /// Sine and cosine terms of each harmonic, cycle by cycle.
    terms: Vec<f64>,
    /// Variance about the cycles' lines.
    variance: f64,
}

impl Cycles {
    fn new(values: &[f64], step_seconds: f64, season: &Season) -> Option<Self> {
        let length = season.period_seconds / step_seconds;
        let order = season.order;
        let size = 2 + 2 * order;
        let number = (values.len() as f64 / length).floor() as usize;
        if order == 0 || number < 2 || length < (size + 2) as f64 {
            return None;
        }
        let frequency = TAU / length;
        let mut cycles = Self { frequency, order, levels: Vec::new(), terms: Vec::new(), variance: 0.0 };
        let (mut squares, mut samples) = (0.0, 0.0);
        for cycle in 0..number {
            // From the end: what is left over is the oldest.
            let start = (values.len() as f64 - (cycle + 1) as f64 * length).round() as usize;
            let end = (values.len() as f64 - cycle as f64 * length).round() as usize;
            let Some(fit) = fit_cycle(&values[start..end], start, frequency, order) else { continue };
            cycles.levels.push(fit.level);
            cycles.terms.extend(&fit.terms);
            squares += fit.squares;
            samples += fit.known;
        }
        cycles.variance = squares / samples;
        (cycles.levels.len() >= 2).then_some(cycles)
    }

    fn count(&self) -> usize {
        self.levels.len()
    }

    /// The terms of one harmonic, cycle by cycle, the large ones cut.
    fn harmonic(&self, harmonic: usize) -> Vec<[f64; 2]> {
        let mut terms: Vec<[f64; 2]> =
            self.terms.chunks_exact(2 * self.order).map(|all| [all[2 * harmonic], all[2 * harmonic + 1]]).collect();
        let mut amplitudes: Vec<f64> = terms.iter().map(|[s, c]| s.hypot(*c)).collect();
        amplitudes.sort_by(f64::total_cmp);
        let most = MAX_AMPLITUDE * amplitudes[(amplitudes.len() - 1) / 2];
        for term in &mut terms {
            let amplitude = term[0].hypot(term[1]);
            if amplitude > most {
                *term = [term[0] * most / amplitude, term[1] * most / amplitude];
            }
        }
        terms
    }

    /// The mean terms of all harmonics.
    fn mean_terms(&self) -> Vec<f64> {
        (0..self.order).flat_map(|harmonic| mean(&self.harmonic(harmonic))).collect()
    }

    fn evidence(&self) -> Evidence {
        let cycles = self.count();
        let (mut log_p, mut explained) = (0.0, 0.0);
        for harmonic in 0..self.order {
            let terms = self.harmonic(harmonic);
            let [s, c] = mean(&terms);
            let all: f64 = terms.iter().map(|[s, c]| s * s + c * c).sum();
            let within: f64 = terms.iter().map(|[x, y]| (x - s).powi(2) + (y - c).powi(2)).sum();
            explained += 0.5 * (s * s + c * c);
            if all > 0.0 {
                log_p += (cycles - 1) as f64 * (within / all).max(1e-15).ln();
            }
        }
        // The tail of χ² with 2·order degrees of freedom at −2·log_p.
        let half = -log_p;
        let (mut term, mut sum) = (1.0, 1.0);
        for k in 1..self.order {
            term *= half / k as f64;
            sum += term;
        }
        let explained_share = if self.variance > 0.0 { (explained / self.variance).min(1.0) } else { 0.0 };
        Evidence { cycles, p_value: ((-half).exp() * sum).min(1.0), explained_share }
    }

    /// Whether the cycles' amplitudes go with their levels.
    fn mode(&self) -> SeasonalityMode {
        let shape = self.mean_terms();
        let size = dot(&shape, &shape);
        let level = self.levels.iter().sum::<f64>() / self.count() as f64;
        if size <= 0.0 || self.levels.iter().any(|level| *level <= 0.0) {
            return SeasonalityMode::Additive;
        }
        let (mut constant, mut proportional) = (0.0, 0.0);
        for (terms, own) in self.terms.chunks_exact(2 * self.order).zip(&self.levels) {
            let amplitude = dot(terms, &shape) / size;
            constant += (amplitude - 1.0).powi(2);
            proportional += (amplitude - own / level).powi(2);
        }
        if constant > proportional * MODE_LIKELIHOOD_RATIO.powf(2.0 / self.count() as f64) {
            SeasonalityMode::Multiplicative
        } else {
            SeasonalityMode::Additive
        }
    }

    /// Takes the mean cycle off.
    fn take_off(&self, values: &mut [f64]) {
        let shape = self.mean_terms();
        for (i, value) in values.iter_mut().enumerate() {
            for (harmonic, term) in shape.chunks_exact(2).enumerate() {
                let (sin, cos) = (self.frequency * (harmonic + 1) as f64 * i as f64).sin_cos();
                *value -= term[0] * sin + term[1] * cos;
            }
        }
    }
}

fn mean(terms: &[[f64; 2]]) -> [f64; 2] {
    let count = terms.len() as f64;
    [0, 1].map(|part| terms.iter().map(|term| term[part]).sum::<f64>() / count)
}

#[derive(Debug)]
struct CycleFit {
    level: f64,
    terms: Vec<f64>,
    /// Sum of squares about the line.
    squares: f64,
    known: f64,
}

/// Least squares of a line and the Fourier terms; `None` where too little is known.
fn fit_cycle(values: &[f64], start: usize, frequency: f64, order: usize) -> Option<CycleFit> {
    let size = 2 + 2 * order;
    let known = values.iter().filter(|value| value.is_finite()).count();
    if (known as f64) < MIN_KNOWN * values.len() as f64 || known < size + 2 {
        return None;
    }
    let level = values.iter().filter(|value| value.is_finite()).sum::<f64>() / known as f64;
    let mut gram = vec![0.0; size * size];
    let mut product = vec![0.0; size];
    let mut row = vec![1.0; size];
    let (step_sin, step_cos) = frequency.sin_cos();
    let (mut sin, mut cos) = (frequency * start as f64).sin_cos();
    let mut squares = 0.0;
    for (i, value) in values.iter().enumerate() {
        if value.is_finite() {
            row[1] = 2.0 * i as f64 / values.len() as f64 - 1.0;
            // Each harmonic turns the one before by the first.
            let (mut s, mut c) = (0.0, 1.0);
            for pair in row[2..].chunks_exact_mut(2) {
                (s, c) = (s * cos + c * sin, c * cos - s * sin);
                (pair[0], pair[1]) = (s, c);
            }
            let value = value - level;
            squares += value * value;
            for (a, factor) in row.iter().enumerate() {
                product[a] += factor * value;
                for (sum, x) in gram[a * size..=a * size + a].iter_mut().zip(&row) {
                    *sum += factor * x;
                }
            }
        }
        (sin, cos) = (sin * step_cos + cos * step_sin, cos * step_cos - sin * step_sin);
    }
    let (line, line_product) = ([gram[0], gram[size], gram[size + 1]], [product[0], product[1]]);
    if !cholesky(&mut gram, size) {
        return None;
    }
    forward(&gram, size, &mut product);
    backward(&gram, size, &mut product);
    let (offset, slope) = (product[0], product[1]);
    squares += offset * (offset * line[0] - 2.0 * line_product[0])
        + slope * (slope * line[2] - 2.0 * line_product[1])
        + 2.0 * offset * slope * line[1];
    Some(CycleFit { level, terms: product[2..].to_vec(), squares: squares.max(0.0), known: known as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANDIDATES: [Season; 2] = [Season::DAY, Season::WEEK];
    const STEP: f64 = 1800.0;
    const DAY: usize = 48;

    /// Steele, Lea and Flood's SplitMix64, as sums of twelve uniform numbers less 6.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f64 {
            (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
        }

        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// AR(1) noise of coefficient `persistence` about a curve over days.
    fn series(days: usize, seed: u64, persistence: f64, curve: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut noise = Noise(seed);
        let mut level = 0.0;
        (0..days * DAY)
            .map(|i| {
                level = persistence * level + noise.next();
                level + curve(i as f64 / DAY as f64)
            })
            .collect()
    }

    fn chosen(values: &[f64]) -> Vec<Season> {
        choose(values, STEP, &CANDIDATES).seasons
    }

    fn daily(day: f64) -> f64 {
        4.0 * (TAU * day).sin() + 2.0 * (2.0 * TAU * day).cos()
    }

    fn weekly(day: f64) -> f64 {
        if day.rem_euclid(7.0) < 5.0 { 3.0 } else { -3.0 }
    }

    #[test]
    fn finds_the_seasons_that_are_there() {
        let trend = |day: f64| 100.0 + 2.0 * day - 3.0 * (day - 12.0).max(0.0);
        type Curve = fn(f64) -> f64;
        let cases: [(&str, Curve, Vec<Season>); 4] = [
            ("daily", |day| daily(day), vec![Season::DAY]),
            ("weekly", |day| weekly(day), vec![Season::WEEK]),
            ("both", |day| daily(day) + weekly(day), vec![Season::DAY, Season::WEEK]),
            ("none", |_| 0.0, vec![]),
        ];
        for (name, curve, want) in cases {
            for seed in 0..10 {
                let values = series(28, seed, 0.7, |day| trend(day) + curve(day));
                assert_eq!(chosen(&values), want, "{name} {seed}");
            }
        }
    }

    #[test]
    fn noise_and_random_walks_hardly_ever_get_a_season() {
        for (persistence, days) in [(0.0, 14), (0.7, 14), (0.99, 14), (1.0, 14), (1.0, 28), (1.0, 3)] {
            let mut found = 0;
            for seed in 0..300 {
                found += chosen(&series(days, seed * 1_000_003 + 17, persistence, |_| 0.0)).len();
            }
            // 600 decisions at 1 %, or some more where the line and the sine share their variance.
            assert!(found <= 15, "{persistence} {days}: {found}");
        }
    }

    #[test]
    fn needs_two_periods() {
        let values = series(13, 1, 0.0, |day| 10.0 * daily(day) + 30.0 * weekly(day));
        assert_eq!(chosen(&values), [Season::DAY]);
        assert_eq!(evidence(&values, STEP, &Season::WEEK), None);
        assert_eq!(chosen(&values[..2 * DAY - 1]), []);
        assert_eq!(chosen(&[]), []);
        // An order that the step cannot show.
        assert_eq!(evidence(&values, 21_600.0, &Season::DAY), None);
    }

    #[test]
    fn works_with_gaps_and_an_odd_day() {
        let mut values = series(21, 3, 0.7, |day| 100.0 + daily(day));
        for i in (5..21 * DAY).step_by(6) {
            values[i] = f64::NAN;
        }
        values[6 * DAY..8 * DAY].fill(f64::NAN);
        values[9 * DAY..9 * DAY + 20].fill(500.0);
        assert_eq!(chosen(&values), [Season::DAY]);
        let found = evidence(&values, STEP, &Season::DAY).unwrap();
        assert_eq!(found.cycles, 19);
        assert_eq!(chosen(&[f64::NAN; 21 * DAY]), []);
    }

    #[test]
    fn an_exact_repetition_is_a_season_and_a_constant_is_none() {
        assert_eq!(chosen(&[7.0; 15 * DAY]), []);
        let exact: Vec<f64> = (0..15 * DAY).map(|i| daily((i % DAY) as f64 / DAY as f64)).collect();
        assert_eq!(chosen(&exact), [Season::DAY]);
    }

    #[test]
    fn tells_the_share_that_a_season_explains() {
        let values = series(28, 5, 0.0, daily);
        let share = evidence(&values, STEP, &Season::DAY).unwrap().explained_share;
        assert!((share - 10.0 / 11.0).abs() < 0.03, "{share}");
    }

    #[test]
    fn a_swing_that_grows_with_the_level_is_multiplicative() {
        for seed in 0..20 {
            let level = |day: f64| 20.0 + 4.0 * day;
            let mode = |values: &[f64]| choose(values, STEP, &CANDIDATES).seasonality_mode;
            let growing = series(14, seed, 0.7, |day| level(day) * (1.0 + 0.3 * (TAU * day).sin()));
            assert_eq!(mode(&growing), SeasonalityMode::Multiplicative, "{seed}");
            let steady = series(14, seed, 0.7, |day| level(day) + 15.0 * (TAU * day).sin());
            assert_eq!(mode(&steady), SeasonalityMode::Additive, "{seed}");
            let signed = series(14, seed, 0.7, |day| (level(day) - 50.0) * (1.0 + 0.3 * (TAU * day).sin()));
            assert_eq!(mode(&signed), SeasonalityMode::Additive, "{seed}");
        }
    }
}
