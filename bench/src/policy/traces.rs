//! Which traces scaling is measured on, read and put on a grid of minutes.

use std::path::Path;

use cloudpulse_common::csv;
use cloudpulse_forecast::series::Series;

/// Request and usage traces of whole services, on which the policy was chosen.
pub(super) const PUBLIC: [&str; 6] = [
    "web_nasa_1m/nasa_http_jul_aug_1995",
    "web_worldcup98_1m/worldcup98_pre_tournament",
    "crane_1m/input0",
    "crane_1m/input9",
    "crane_15s/input15",
    "ms_cloud_monitoring_1m/mongo-01",
];

/// Harder ones, on which nothing was chosen: single machines, sudden jumps, pools of batch work.
pub(super) const HARDER: [&str; 18] = [
    "crane_1m/input1",
    "crane_1m/input13",
    "crane_1m/input14",
    "crane_1m/input2",
    "ms_cloud_monitoring_1m/ingress-01",
    "ms_cloud_monitoring_1m/ingress-03",
    "ms_cloud_monitoring_1m/ingress-04",
    "ms_cloud_monitoring_1m/mongo-03",
    "smd_1m/machine-1-6_dim02",
    "smd_1m/machine-1-7_dim01",
    "smd_1m/machine-1-7_dim15",
    "smd_1m/machine-2-1_dim01",
    "smd_1m/machine-2-1_dim19",
    "smd_1m/machine-2-1_dim32",
    "cluster_pool_30s/cluster21_cpu",
    "cluster_pool_30s/cluster2_cpu",
    "cluster_pool_30s/cluster39_cpu",
    "cluster_pool_30s/cluster6_cpu",
];

const MINUTE: i64 = 60;
/// A replica serves this share of the 99.9th percentile of the load, so that the fleet is of a usual size.
const REPLICAS_AT_PEAK: f64 = 40.0;
const PEAK_PERCENTILE: f64 = 0.999;

/// A load and the capacity of a replica.
pub(super) struct Trace {
    pub(super) name: &'static str,
    pub(super) is_public: bool,
    /// By minutes: what a rate over one minute shows.
    pub(super) series: Series,
    pub(super) replica_capacity: f64,
}

/// Reads a trace; `None` where its file is not there or holds no load.
pub(super) fn load(folder: &Path, name: &'static str) -> Option<Trace> {
    let path = folder.join(format!("{name}.csv"));
    let series = csv::load(&[path], &mut Vec::new()).ok()?.pop()?.series;
    let series = by_minutes(&series)?;
    let mut known: Vec<f64> = series.values().iter().copied().filter(|value| value.is_finite()).collect();
    known.sort_by(f64::total_cmp);
    let replica_capacity = percentile(&known, PEAK_PERCENTILE) / REPLICAS_AT_PEAK;
    let is_public = PUBLIC.contains(&name);
    (replica_capacity > 0.0).then_some(Trace { name, is_public, series, replica_capacity })
}

/// Means of the known values of each minute.
fn by_minutes(series: &Series) -> Option<Series> {
    let start = series.start().div_euclid(MINUTE) * MINUTE;
    let count = (series.time(series.len()) - start + MINUTE - 1) / MINUTE;
    let mut sums = vec![(0.0, 0.0); usize::try_from(count).ok()?];
    for (index, value) in series.values().iter().enumerate().filter(|(_, value)| value.is_finite()) {
        let minute = usize::try_from((series.time(index) - start) / MINUTE).ok()?;
        sums[minute].0 += value;
        sums[minute].1 += 1.0;
    }
    Series::new(start, MINUTE, sums.into_iter().map(|(sum, count)| sum / count).collect()).ok()
}

/// Linear between the ranks, as numpy's.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let rank = share * last as f64;
    let below = sorted[rank.floor() as usize];
    below + rank.fract() * (sorted[rank.ceil() as usize] - below)
}
