//! What is kept of one series: values in, one grid point at a time; recent values at the step and five-minute buckets of
//! the longer past out. What has not been pushed cannot be read, so that no model can look ahead.
//!
//! Grid points are counted since the epoch ("absolute"), so that a point keeps its number when old values are forgotten.

use std::collections::VecDeque;

/// Length of a bucket, where the step is not longer.
const BUCKET_SECONDS: i64 = 300;
/// Values at the step reach back at least this long: a day, and an hour for the windows that end a day ago.
const FINE_SECONDS: i64 = 90_000;
/// And are at least this many: what an autoregression is fitted on, and some more.
const FINE_COUNT: i64 = 1536;
const DAY_SECONDS: i64 = 86_400;

/// The kept past of one series. Its memory is bounded: 9 bytes for each recent value and 8 for each bucket, 4 where a bucket
/// is one step.
#[derive(Debug, Clone)]
pub struct History {
    step: i64,
    /// Steps in a bucket.
    width: i64,
    fine_cap: usize,
    coarse_cap: usize,
    /// Grid point of `filled[0]`.
    first: i64,
    filled: Vec<f64>,
    known: Vec<bool>,
    /// Bucket of `coarse[0]`, counted since the epoch.
    coarse_first: i64,
    /// Means of the buckets.
    coarse: Vec<f32>,
    /// Their largest values; empty where a bucket is one step, whose mean it is.
    highest: Vec<f32>,
    open: Open,
    /// Least and largest value by day.
    extremes: VecDeque<(i64, f64, f64)>,
}

/// The known values of one bucket; NaN where there are none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Their mean.
    pub mean: f32,
    /// The largest of them.
    pub highest: f32,
}

/// Sums of the newest bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    sum: f64,
    count: u32,
    highest: f64,
}

impl History {
    /// Returns an empty history of a series whose values are `step` seconds apart, that keeps `keep` seconds.
    pub fn new(step: i64, keep: i64) -> Self {
        let step = step.max(1);
        let width = (BUCKET_SECONDS / step).max(1);
        let fine_cap = (FINE_SECONDS / step).max(FINE_COUNT) as usize;
        Self {
            step,
            width,
            fine_cap,
            coarse_cap: ((keep / (width * step)).max(2) + 1) as usize,
            first: 0,
            filled: Vec::new(),
            known: Vec::new(),
            coarse_first: 0,
            coarse: Vec::new(),
            highest: Vec::new(),
            open: Open::default(),
            extremes: VecDeque::new(),
        }
    }

    /// Returns the distance of values in seconds.
    pub const fn step(&self) -> i64 {
        self.step
    }

    /// Returns how many steps cover `seconds`, at least 1, rounded to the nearest.
    pub fn steps(&self, seconds: i64) -> usize {
        crate::series::steps(seconds, self.step)
    }

    /// Returns the steps in a bucket.
    pub const fn width(&self) -> i64 {
        self.width
    }

    /// Returns the newest grid point; `None` before the first push.
    pub fn now(&self) -> Option<i64> {
        (!self.filled.is_empty()).then(|| self.first + self.filled.len() as i64 - 1)
    }

    /// Returns the oldest grid point that is kept at the step.
    pub const fn first(&self) -> i64 {
        self.first
    }

    /// Returns the oldest grid point of which something is kept, to the bucket; 0 before the first push.
    pub const fn oldest(&self) -> i64 {
        self.coarse_first * self.width
    }

    /// Appends the value of the grid point after the newest one; of `at`, where there is none yet. A gap is NaN.
    pub fn push(&mut self, at: i64, value: f64) {
        let at = self.now().map_or(at, |now| now + 1);
        let known = value.is_finite();
        if self.filled.is_empty() {
            self.first = at;
            self.coarse_first = at.div_euclid(self.width);
        }
        grow(&mut self.filled);
        grow(&mut self.known);
        self.filled.push(if known { value } else { self.filled.last().copied().unwrap_or(f64::NAN) });
        self.known.push(known);
        if at.div_euclid(self.width) >= self.coarse_first + self.coarse.len() as i64 {
            grow(&mut self.coarse);
            self.coarse.push(f32::NAN);
            if self.width > 1 {
                grow(&mut self.highest);
                self.highest.push(f32::NAN);
            }
            self.open = Open { sum: 0.0, count: 0, highest: f64::NEG_INFINITY };
        }
        if known {
            self.open.sum += value;
            self.open.count += 1;
            self.open.highest = self.open.highest.max(value);
            if let Some(mean) = self.coarse.last_mut() {
                *mean = (self.open.sum / f64::from(self.open.count)) as f32;
            }
            if let Some(highest) = self.highest.last_mut() {
                *highest = self.open.highest as f32;
            }
            let day = (at * self.step).div_euclid(DAY_SECONDS);
            match self.extremes.back_mut() {
                Some((last, least, most)) if *last == day => {
                    *least = least.min(value);
                    *most = most.max(value);
                }
                _ => self.extremes.push_back((day, value, value)),
            }
        }
        self.trim();
    }

    /// Fills a gap that is known after all. Returns whether something changed: later models may use it, nothing that was
    /// computed before does.
    pub fn amend(&mut self, at: i64, value: f64) -> bool {
        let Ok(index) = usize::try_from(at - self.first) else { return false };
        match self.known.get_mut(index) {
            Some(known) if !*known && value.is_finite() => {
                *known = true;
                self.filled[index] = value;
                true
            }
            _ => false,
        }
    }

    /// Old values go in larger lots, so that each push costs the same.
    fn trim(&mut self) {
        if self.filled.len() > self.fine_cap + self.fine_cap / 8 {
            let excess = self.filled.len() - self.fine_cap;
            self.filled.drain(..excess);
            self.known.drain(..excess);
            self.first += excess as i64;
        }
        if self.coarse.len() > self.coarse_cap + self.coarse_cap / 8 {
            let excess = self.coarse.len() - self.coarse_cap;
            self.coarse.drain(..excess);
            if self.width > 1 {
                self.highest.drain(..excess);
            }
            self.coarse_first += excess as i64;
        }
        let days = (self.coarse_cap as i64 * self.width * self.step / DAY_SECONDS + 2) as usize;
        while self.extremes.len() > days {
            self.extremes.pop_front();
        }
    }

    /// Returns the value of a grid point; `None` for a gap, the future, and what is kept as buckets only.
    pub fn get(&self, at: i64) -> Option<f64> {
        let index = usize::try_from(at - self.first).ok()?;
        (*self.known.get(index)?).then(|| self.filled[index])
    }

    /// Returns the value of a grid point, or the mean of its bucket where only that is kept; `None` for a gap.
    pub fn near(&self, at: i64) -> Option<f64> {
        if at >= self.first { self.get(at) } else { self.bucket(at.div_euclid(self.width)).map(|b| f64::from(b.mean)) }
    }

    /// Returns the values of the grid points `from..=to`, as far as they are kept at the step; a gap holds the last known
    /// value before it, NaN before the first.
    pub fn filled(&self, from: i64, to: i64) -> &[f64] {
        let from = (from.max(self.first) - self.first) as usize;
        let to = (to - self.first + 1).clamp(0, self.filled.len() as i64) as usize;
        self.filled.get(from..to.max(from)).unwrap_or_default()
    }

    /// Returns the known values among the grid points `from..=to`, as far as they are kept at the step.
    pub fn known(&self, from: i64, to: i64) -> impl Iterator<Item = f64> + '_ {
        let start = (from.max(self.first) - self.first) as usize;
        let values = self.filled(from, to);
        let known = self.known.get(start..start + values.len()).unwrap_or_default();
        values.iter().zip(known).filter(|(_, known)| **known).map(|(value, _)| *value)
    }

    /// Returns the value of the newest grid point, or the last known one before it; NaN before any.
    pub fn last(&self) -> f64 {
        self.filled.last().copied().unwrap_or(f64::NAN)
    }

    /// Returns the newest grid point whose value is known, as far as values are kept at the step.
    pub fn last_known(&self) -> Option<i64> {
        Some(self.first + self.known.iter().rposition(|known| *known)? as i64)
    }

    /// Returns a bucket, counted since the epoch; `None` where nothing of it is known or kept.
    pub fn bucket(&self, number: i64) -> Option<Bucket> {
        let index = usize::try_from(number - self.coarse_first).ok()?;
        let mean = self.coarse.get(index).copied().filter(|mean| mean.is_finite())?;
        Some(Bucket { mean, highest: self.highest.get(index).copied().unwrap_or(mean) })
    }

    /// Returns the number of the oldest bucket that is kept.
    pub const fn first_bucket(&self) -> i64 {
        self.coarse_first
    }

    /// Returns the highest known value among the grid points `from..=to`, from buckets where the step is no longer kept;
    /// `None` where nothing is known or the time lies before the history.
    pub fn highest(&self, from: i64, to: i64) -> Option<f64> {
        let highest = if from >= self.first {
            self.filled(from, to).iter().copied().fold(f64::NEG_INFINITY, f64::max)
        } else if from.div_euclid(self.width) < self.coarse_first {
            return None;
        } else {
            (from.div_euclid(self.width)..=to.div_euclid(self.width))
                .filter_map(|number| self.bucket(number))
                .fold(f64::NEG_INFINITY, |most, bucket| most.max(f64::from(bucket.highest)))
        };
        highest.is_finite().then_some(highest)
    }

    /// Returns the mean of the known values of the five minutes up to `at`; `None` without any.
    pub fn level(&self, at: i64) -> Option<f64> {
        let width = self.steps(BUCKET_SECONDS) as i64;
        if at - width + 1 < self.first {
            return self.near(at);
        }
        let (mut sum, mut count) = (0.0, 0_u32);
        for value in self.known(at - width + 1, at) {
            sum += value;
            count += 1;
        }
        (count > 0).then(|| sum / f64::from(count))
    }

    /// Returns the least and the largest known value of all that is kept; `None` before any.
    pub fn range(&self) -> Option<(f64, f64)> {
        self.extremes.iter().map(|(_, least, most)| (*least, *most)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Returns the bytes that are held on the heap.
    pub fn heap_bytes(&self) -> usize {
        let buckets = (self.coarse.capacity() + self.highest.capacity()) * size_of::<f32>();
        self.filled.capacity() * 9 + buckets + self.extremes.capacity() * 24
    }
}

/// Makes room in steps of an eighth: doubling would waste half of the memory of thousands of series.
fn grow<T>(values: &mut Vec<T>) {
    if values.len() == values.capacity() {
        values.reserve_exact((values.len() / 8).max(32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(step: i64, keep: i64, values: impl IntoIterator<Item = f64>) -> History {
        let mut history = History::new(step, keep);
        for value in values {
            history.push(1000, value);
        }
        history
    }

    #[test]
    fn gaps_stay_gaps_and_are_filled_from_before() {
        let mut history = pushed(60, 86_400, [f64::NAN, 2.0, f64::INFINITY, 4.0]);
        assert_eq!((history.now(), history.get(1000), history.get(1002)), (Some(1003), None, None));
        assert_eq!(history.filled(1001, 1003), [2.0, 2.0, 4.0]);
        assert_eq!(history.known(1000, 1003).collect::<Vec<_>>(), [2.0, 4.0]);
        assert_eq!(history.get(1004), None, "the future is not known");
        assert!(history.amend(1002, 3.0) && !history.amend(1003, 9.0) && !history.amend(2000, 9.0));
        assert_eq!(history.filled(1001, 1003), [2.0, 3.0, 4.0]);
    }

    #[test]
    fn buckets_outlive_the_values() {
        let history = pushed(60, 14 * 86_400, (0..30_000).map(f64::from));
        let now = history.now().unwrap();
        assert!(history.first() > 1000);
        assert_eq!(history.get(1000 + 500), None);
        // Grid points 1500 to 1504 are one bucket.
        assert_eq!(history.near(1502), None, "beyond what is kept");
        let old = now - 10 * 1440;
        let bucket = history.bucket(old.div_euclid(5)).unwrap();
        assert_eq!(bucket.highest - bucket.mean, 2.0);
        assert_eq!(history.near(old), Some(f64::from(bucket.mean)));
        assert_eq!(history.highest(old, old), Some(f64::from(bucket.highest)));
        assert_eq!(history.get(now), Some(29_999.0));
        assert!(history.range().unwrap().0 > 0.0, "old extremes are forgotten");
    }

    #[test]
    fn a_bucket_of_one_step_is_its_value() {
        let history = pushed(300, 14 * 86_400, (0..4500).map(|i| f64::from(i % 700)));
        let now = history.now().unwrap();
        assert!(history.first() > now - 2000, "kept as buckets only");
        for at in [now - 4000, now - 2000, now] {
            let value = (at - 1000) % 700;
            assert_eq!((history.near(at), history.highest(at, at)), (Some(value as f64), Some(value as f64)));
        }
        assert_eq!(history.highest(now - 4000, now - 3300), Some(699.0));
        assert!(history.heap_bytes() < 40_000, "{}", history.heap_bytes());
    }

    #[test]
    fn memory_is_bounded() {
        let heap = |count: u32| pushed(60, 14 * 86_400, (0..count).map(f64::from)).heap_bytes();
        assert!(heap(200_000) <= 2 * heap(25_000), "{} {}", heap(200_000), heap(25_000));
        assert!(heap(200_000) < 100_000, "{}", heap(200_000));
    }
}
