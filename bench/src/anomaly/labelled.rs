//! Folders of series with labelled events in; rows, and which alarms hit, missed or were false, out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;

/// A series with labelled events.
#[derive(Debug, Clone)]
pub(crate) struct Labelled {
    pub(crate) name: String,
    /// Unix seconds and value, in the order of the file, equal times included.
    pub(crate) rows: Vec<(i64, f64)>,
    /// Usual distance of rows in seconds.
    pub(crate) step: i64,
    /// First and last second of each event.
    pub(crate) windows: Vec<(i64, i64)>,
    /// Times in which an alarm is neither right nor false: the machine had an event that this series is not said to show.
    pub(crate) ignored: Vec<(i64, i64)>,
    /// First row that was labelled and counts.
    pub(crate) scored_from: usize,
}

/// Events found and alarms that were none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) events: usize,
    pub(crate) found: usize,
    pub(crate) false_alarms: usize,
    pub(crate) series_days: f64,
}

impl Tally {
    /// Adds the alarms of one series; `flagged` has one entry a row.
    pub(crate) fn add(&mut self, series: &Labelled, flagged: &[bool]) {
        let within = |time: i64, (first, last): &(i64, i64)| (*first..=*last).contains(&time);
        let Some((from, _)) = series.rows.get(series.scored_from) else { return };
        let windows: Vec<&(i64, i64)> = series.windows.iter().filter(|(first, _)| first >= from).collect();
        let mut found = vec![false; windows.len()];
        for ((time, _), is_flagged) in series.rows.iter().zip(flagged).skip(series.scored_from) {
            if !is_flagged {
                continue;
            }
            let mut is_false = !series.windows.iter().chain(&series.ignored).any(|window| within(*time, window));
            for (window, found) in windows.iter().zip(&mut found) {
                if within(*time, window) {
                    *found = true;
                    is_false = false;
                }
            }
            self.false_alarms += usize::from(is_false);
        }
        self.events += windows.len();
        self.found += found.into_iter().filter(|found| *found).count();
        let scored = (series.rows.len() - series.scored_from) as f64;
        self.series_days += scored * series.step as f64 / 86_400.0;
    }

    /// Adds the counts of other series.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.events += other.events;
        self.found += other.found;
        self.false_alarms += other.false_alarms;
        self.series_days += other.series_days;
    }

    /// Returns the share of events with an alarm, 0 to 1; NaN without an event.
    pub(crate) fn recall(&self) -> f64 {
        self.found as f64 / self.events as f64
    }

    /// Returns the false alarms per series and day.
    pub(crate) fn false_per_day(&self) -> f64 {
        self.false_alarms as f64 / self.series_days
    }
}

impl Labelled {
    /// Returns the first and the last row of each window. Equal times are kept in the files, so that rows are found in
    /// order rather than by time alone.
    pub(crate) fn window_rows(&self) -> Vec<(usize, usize)> {
        let mut from = 0;
        let find = |from: usize, time: i64| {
            self.rows.iter().skip(from).position(|(at, _)| *at >= time).map_or(self.rows.len() - 1, |row| from + row)
        };
        self.windows
            .iter()
            .map(|(first, last)| {
                let first = find(from, *first);
                let last = find(first, *last);
                from = last;
                (first, last)
            })
            .collect()
    }
}

/// Windows by file.
type Windows = BTreeMap<String, Vec<(i64, i64)>>;

/// Sets in which only the last part is labelled, with the share before it. Of others the first [`PROBATION`] is left out,
/// as NAB does: a detector must be allowed to learn.
const UNLABELLED: [(&str, f64); 2] = [("smd_1m", 0.5), ("asd_5m", 2.0 / 3.0)];
const PROBATION: f64 = 0.15;

/// Returns the series of a folder that its `windows.json` names; `None` where there is no such file.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn load(folder: &Path) -> anyhow::Result<Option<Vec<Labelled>>> {
    let labels = folder.join("windows.json");
    if !labels.is_file() {
        return Ok(None);
    }
    let windows = read_windows(&labels)?;
    let of_machines = folder.join("windows_entity.json");
    let of_machines = if of_machines.is_file() { read_windows(&of_machines)? } else { Windows::new() };
    let set = folder.file_name().unwrap_or_default().to_string_lossy();
    let share = UNLABELLED.iter().find(|(name, _)| *name == set).map_or(PROBATION, |(_, share)| *share);
    let mut all = Vec::new();
    for (file, windows) in windows {
        let rows = read_rows(&folder.join(&file))?;
        let machine = file.rsplit_once('_').map_or("", |(machine, _)| machine);
        let step = usual_step(&rows);
        let scored_from = (share * rows.len() as f64).floor() as usize;
        let ignored = of_machines.get(machine).cloned().unwrap_or_default();
        all.push(Labelled { name: file, rows, step, windows, ignored, scored_from });
    }
    Ok(Some(all))
}

fn read_windows(path: &Path) -> anyhow::Result<Windows> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no windows", path.display()))
}

fn read_rows(path: &Path) -> anyhow::Result<Vec<(i64, f64)>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let row = |line: &str| {
        let (time, value) = line.split_once(',')?;
        Some((time.trim().parse().ok()?, value.trim().parse().ok()?))
    };
    let rows = text.lines().skip(1);
    rows.map(|line| row(line).with_context(|| format!("{line:?} in {}", path.display()))).collect()
}

fn usual_step(rows: &[(i64, f64)]) -> i64 {
    let times: Vec<f64> = rows.iter().map(|(time, _)| *time as f64).collect();
    cloudpulse_forecast::series::Series::infer_step(&times).unwrap_or(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_events_and_false_alarms() {
        let series = Labelled {
            name: String::new(),
            rows: (0..288).map(|i| (300 * i, 0.0)).collect(),
            step: 300,
            windows: vec![(300 * 10, 300 * 12), (300 * 100, 300 * 110), (300 * 200, 300 * 210)],
            ignored: vec![(300 * 150, 300 * 160)],
            scored_from: 72,
        };
        let mut tally = Tally::default();
        let alarms = [11, 105, 106, 155, 250];
        tally.add(&series, &(0..288).map(|row| alarms.contains(&row)).collect::<Vec<_>>());
        assert_eq!(tally, Tally { events: 2, found: 1, false_alarms: 1, series_days: 0.75 });
        assert_eq!((tally.recall(), tally.false_per_day()), (0.5, 1.0 / 0.75));
    }

    #[test]
    fn windows_are_found_among_equal_times() {
        let rows = [0, 60, 60, 120, 180, 180, 240].map(|time| (time, 0.0)).to_vec();
        let windows = vec![(60, 120), (180, 240)];
        let series = Labelled { name: String::new(), rows, step: 60, windows, ignored: Vec::new(), scored_from: 0 };
        assert_eq!(series.window_rows(), [(1, 3), (4, 6)]);
    }
}
