//! What the anomaly score does on series whose truth is known: 28 days at five minutes unless said otherwise.
#![allow(clippy::unwrap_used, reason = "test code")]

use cloudpulse_forecast::anomaly::{Cause, Detector, Options, QUIET_ROWS, Verdict};
use proptest::prelude::*;

const STEP: i64 = 300;
const DAY: usize = 288;
const ROWS: usize = 28 * DAY;
const START: i64 = 1_700_000_000;

/// Reproducible noise (SplitMix64).
struct Noise(u64);

impl Noise {
    /// Evenly in [0, 1).
    fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Standard normal.
    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.even()).ln()).sqrt() * (std::f64::consts::TAU * self.even()).cos()
    }
}

fn judge(values: &[f64], options: Options) -> Vec<Option<Verdict>> {
    let mut detector = Detector::new(STEP, options);
    values.iter().enumerate().map(|(row, value)| detector.push(START + STEP * row as i64, *value)).collect()
}

/// Rows that raise an alarm, with the cause.
fn alarms(values: &[f64]) -> Vec<(usize, Cause)> {
    let verdicts = judge(values, Options::default());
    let alarm = |(row, verdict): (usize, &Option<Verdict>)| verdict.filter(|v| v.alarm).map(|v| (row, v.cause));
    verdicts.iter().enumerate().filter_map(alarm).collect()
}

fn series(value: impl FnMut(usize) -> f64) -> Vec<f64> {
    (0..ROWS).map(value).collect()
}

fn wave(row: usize) -> f64 {
    (row as f64 / DAY as f64 * std::f64::consts::TAU).sin()
}

/// Alarms per day over 20 series of 28 days.
fn alarms_per_day(mut make: impl FnMut(&mut Noise) -> Vec<f64>) -> f64 {
    const SERIES: u64 = 20;
    let count: usize = (0..SERIES).map(|seed| alarms(&make(&mut Noise(7919 * seed + 1))).len()).sum();
    count as f64 / (SERIES as f64 * (ROWS / DAY) as f64)
}

#[test]
fn a_constant_series_never_alarms() {
    for value in [0.0, 1.0, -3.5, 1e-9, 0.1 + 0.2, 1e15, -1e30] {
        for verdict in judge(&series(|_| value), Options::default()) {
            let Verdict { score, expected, alarm, .. } = verdict.unwrap();
            assert!(!alarm && score == 0.0, "{value}: {score}");
            assert!(expected.is_none_or(|expected| expected == value), "{value}: {expected:?}");
        }
    }
}

#[test]
fn a_step_on_a_constant_alarms_at_once_when_it_is_worth_one() {
    let step = |share: f64| series(|row| if row < 14 * DAY { 200.0 } else { 200.0 * (1.0 + share) });
    for share in [0.05, -0.05, 1.0] {
        assert_eq!(alarms(&step(share)).first().map(|(row, _)| *row), Some(14 * DAY), "{share}");
    }
    assert!(alarms(&step(0.001)).is_empty(), "0.1 % of the level is nothing");
    assert!(alarms(&step(-0.001)).is_empty());
}

#[test]
fn what_the_user_calls_small_does_not_alarm() {
    let step = series(|row| if row < 14 * DAY { 200.0 } else { 230.0 });
    assert!(!alarms(&step).is_empty());
    let options = Options { min_deviation: 40.0, ..Options::default() };
    assert!(judge(&step, options).iter().flatten().all(|verdict| !verdict.alarm && verdict.score == 0.0));
}

#[test]
fn a_daily_wave_is_quiet_and_its_missing_peak_is_not() {
    let mut noise = Noise(5);
    let mut wave_only = series(|row| 100.0 + 30.0 * wave(row) + 3.0 * noise.normal());
    // While the first day is new, a rise is a surprise; afterwards none.
    assert!(alarms(&wave_only).iter().all(|(row, _)| *row < 2 * DAY), "{:?}", alarms(&wave_only));
    // The wave is at its top a quarter into each period; on day 20 it stays at the middle.
    for (row, value) in wave_only.iter_mut().enumerate().skip(20 * DAY).take(DAY / 2) {
        *value -= 30.0 * wave(row);
    }
    let found = alarms(&wave_only).into_iter().find(|(row, _)| *row >= 20 * DAY);
    assert!(found.is_some_and(|(row, _)| row < 21 * DAY), "{found:?}");
}

#[test]
fn a_small_level_shift_on_a_wave_is_seen_by_what_is_slow() {
    let mut noise = Noise(11);
    // 0.8 of the mean absolute deviation, which is 2/π of the amplitude.
    let shift = 0.8 * 30.0 * std::f64::consts::FRAC_2_PI;
    let values = series(|row| {
        let shift = if row < 20 * DAY + 17 { 0.0 } else { shift };
        100.0 + 30.0 * wave(row) + noise.normal() + shift
    });
    let found = alarms(&values).into_iter().find(|(row, _)| *row >= 20 * DAY);
    assert!(found.is_some_and(|(row, _)| row < 20 * DAY + 17 + 12), "{found:?}");
}

#[test]
fn a_spike_is_seen_in_its_row() {
    let mut noise = Noise(3);
    let mut values = series(|row| 100.0 + 30.0 * wave(row) + 2.0 * noise.normal());
    values[20 * DAY + 100] += 120.0;
    let found: Vec<_> = alarms(&values).into_iter().filter(|(row, _)| *row >= 2 * DAY).collect();
    assert_eq!(found.first().map(|(row, _)| *row), Some(20 * DAY + 100));
    assert!(found.len() <= 2, "{found:?}");
}

#[test]
fn a_series_that_goes_flat_is_seen() {
    let mut noise = Noise(9);
    let values = series(|row| if row < 20 * DAY { 100.0 + 5.0 * noise.normal() } else { 100.0 });
    let found = alarms(&values).into_iter().find(|(row, _)| *row >= 20 * DAY - 1);
    assert!(found.is_some_and(|(row, cause)| row < 20 * DAY + 13 && cause == Cause::Spread), "{found:?}");
    // Where the usual range was itself too small to count, so is its end.
    let mut noise = Noise(9);
    let values = series(|row| if row < 20 * DAY { 100.0 + 0.05 * noise.normal() } else { 100.0 });
    assert!(alarms(&values).is_empty());
}

#[test]
fn alarms_on_noise_are_rare() {
    let white = alarms_per_day(|noise| series(|_| 50.0 + noise.normal()));
    assert!(white < 0.12, "{white}");
    let walk = alarms_per_day(|noise| {
        let mut level = 100.0;
        series(|_| {
            level += noise.normal();
            level
        })
    });
    assert!(walk < 0.08, "{walk}");
    let rare = alarms_per_day(|noise| series(|_| if noise.even() < 0.002 { 1.0 } else { 0.0 }));
    assert!(rare < 0.15, "zeros with a rare 1: {rare}");
    // Heavy tails cost alarms: an exponential tail is too thin for them.
    let lognormal = alarms_per_day(|noise| series(|_| noise.normal().exp()));
    assert!(lognormal < 0.35, "{lognormal}");
}

#[test]
fn one_event_is_one_alarm() {
    let values = series(|row| if (20 * DAY..20 * DAY + 100).contains(&row) { 500.0 } else { 100.0 });
    let found = alarms(&values);
    assert_eq!(found.first().map(|(row, _)| *row), Some(20 * DAY));
    assert!(found.iter().skip(1).all(|(row, _)| *row >= 20 * DAY + QUIET_ROWS as usize), "{found:?}");
}

#[test]
fn gaps_give_no_score_and_teach_nothing() {
    let mut noise = Noise(21);
    let values = series(|row| 100.0 + 30.0 * wave(row) + noise.normal());
    let (mut plain, mut gappy) = (Detector::new(STEP, Options::default()), Detector::new(STEP, Options::default()));
    for (row, value) in values.iter().enumerate() {
        let time = START + STEP * row as i64;
        for gap in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(gappy.push(time - 1, gap), None);
        }
        assert_eq!(plain.push(time, *value), gappy.push(time, *value));
    }
    assert_eq!(plain, gappy);
}

#[test]
fn rows_of_equal_time_are_each_judged() {
    let mut detector = Detector::new(STEP, Options::default());
    for row in 0..600_i64 {
        // Each time twice.
        let verdict = detector.push(START + STEP * (row / 2), (row % 7) as f64).unwrap();
        assert_eq!(verdict.expected.is_none(), row == 0);
    }
    assert!(detector.push(START + STEP * 299, 1000.0).unwrap().alarm);
}

#[test]
fn the_first_rows_are_not_judged() {
    let mut detector = Detector::new(STEP, Options::default());
    for row in 0..60 {
        assert_eq!(detector.is_ready(), row >= 41, "{row}");
        let value = if row % 10 == 9 { 1000.0 } else { f64::from(row % 3) };
        let verdict = detector.push(START + STEP * i64::from(row), value).unwrap();
        assert!(detector.is_ready() || (verdict.score == 0.0 && verdict.cause == Cause::None));
    }
}

#[test]
fn the_state_is_small_and_survives_being_written() {
    let mut noise = Noise(2);
    let values = series(|row| 1e9 + 3e8 * wave(row) + 1e7 * noise.normal());
    let mut detector = Detector::new(STEP, Options::default());
    let mut most = 0;
    for (row, value) in values.iter().enumerate() {
        let time = START + STEP * row as i64;
        if row % 997 == 0 || row == 20 {
            let text = serde_json::to_string(&detector).unwrap();
            let restored: Detector = serde_json::from_str(&text).unwrap();
            assert_eq!(restored, detector, "row {row}");
        }
        detector.push(time, *value);
        most = most.max(detector.memory_bytes());
    }
    assert!(detector.memory_bytes() <= 1536 && most <= 2400, "{} {most}", detector.memory_bytes());
    let text = serde_json::to_string(&detector).unwrap();
    let mut restored: Detector = serde_json::from_str(&text).unwrap();
    for row in 0..DAY {
        let time = START + STEP * (ROWS + row) as i64;
        let value = 1e9 * (1.0 + row as f64 / 100.0);
        assert_eq!(restored.push(time, value), detector.push(time, value));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_prefix_gives_the_same_scores(values in proptest::collection::vec(-1e3..1e3_f64, 50..900), cut in 0.0..1.0_f64) {
        let cut = (cut * values.len() as f64) as usize;
        let (whole, part) = (judge(&values, Options::default()), judge(&values[..cut], Options::default()));
        prop_assert_eq!(&whole[..cut], &part[..]);
    }

    #[test]
    fn any_input_gives_finite_scores(
        rows in proptest::collection::vec((any::<i32>(), any::<f64>()), 0..300),
        step in any::<i64>(),
    ) {
        let mut detector = Detector::new(step, Options::default());
        for (time, value) in rows {
            match detector.push(i64::from(time), value) {
                None => prop_assert!(!value.is_finite() || value.abs() > 1e30),
                Some(verdict) => {
                    prop_assert!(verdict.score.is_finite() && verdict.score >= 0.0, "{verdict:?}");
                    prop_assert!(verdict.expected.is_none_or(f64::is_finite), "{verdict:?}");
                    prop_assert_eq!(verdict.cause == Cause::None, verdict.score == 0.0);
                }
            }
        }
    }

    #[test]
    fn the_unit_does_not_matter(seed in any::<u64>(), power in -20..20_i32) {
        let mut noise = Noise(seed);
        let scale = 2.0_f64.powi(power);
        let values: Vec<f64> = (0..1200).map(|row| 100.0 + 30.0 * wave(row) + noise.normal().exp()).collect();
        let scaled: Vec<f64> = values.iter().map(|value| scale * value).collect();
        for (plain, scaled) in judge(&values, Options::default()).iter().zip(judge(&scaled, Options::default())) {
            let (plain, scaled) = (plain.unwrap(), scaled.unwrap());
            prop_assert!((plain.score - scaled.score).abs() < 1e-3 * (1.0 + plain.score), "{plain:?} {scaled:?}");
        }
    }
}
