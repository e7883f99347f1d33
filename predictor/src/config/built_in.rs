//! The forecasts that are made when nobody asks for others.

use cloudpulse_forecast::ensemble::Bounds;
use cloudpulse_forecast::peak::PEAK_QUANTILES;

use super::forecast::{
    DEFAULT_HISTORY, DEFAULT_HORIZONS, DEFAULT_MAX_SERIES, DEFAULT_PEAK_HORIZONS, DEFAULT_QUANTILES, DEFAULT_STEP,
    ForecastConfig,
};

/// A disk fills up over hours and days, and to know of it a quarter of an hour before helps nobody.
const DISK: &str = "node-disk";
const DISK_HORIZONS: [i64; 3] = [900, 6 * 3_600, 86_400];
const FILESYSTEMS: &str = "fstype!~\"tmpfs|overlay|squashfs|ramfs|rootfs\"";

/// Returns the built-in forecasts: node CPU, memory, network, load and disk, from node_exporter's names.
///
/// Where the Prometheus Operator scrapes a DaemonSet, each series names the pod that measured, and would have no history after the next
/// rollout: hence `without (pod)`.
pub fn built_in() -> Vec<ForecastConfig> {
    let ratio = Bounds { lower: Some(0.0), upper: Some(1.0) };
    let positive = Bounds { lower: Some(0.0), upper: None };
    let devices = "device!~\"lo|veth.*|docker.*|br-.*|cali.*|flannel.*\"";
    let queries = [
        (
            "node-cpu",
            "1 - avg without (cpu, pod) (sum without (mode) (rate(node_cpu_seconds_total{mode=~\"idle|iowait|steal\"}[5m])))"
                .to_owned(),
            ratio,
        ),
        (
            "node-memory",
            "1 - max without (pod) (node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)".to_owned(),
            ratio,
        ),
        (
            "node-network-receive",
            format!("max without (pod) (sum without (device) (rate(node_network_receive_bytes_total{{{devices}}}[5m])))"),
            positive,
        ),
        (
            "node-network-transmit",
            format!("max without (pod) (sum without (device) (rate(node_network_transmit_bytes_total{{{devices}}}[5m])))"),
            positive,
        ),
        ("node-load", "max without (pod) (node_load1)".to_owned(), positive),
        (
            DISK,
            format!(
                "1 - max without (pod) (node_filesystem_avail_bytes{{{FILESYSTEMS}}} / node_filesystem_size_bytes{{{FILESYSTEMS}}})"
            ),
            ratio,
        ),
    ];
    queries
        .into_iter()
        .map(|(name, query, bounds)| ForecastConfig {
            name: name.to_owned(),
            query,
            step: DEFAULT_STEP,
            history: DEFAULT_HISTORY,
            interval: DEFAULT_STEP,
            horizons: if name == DISK { DISK_HORIZONS } else { DEFAULT_HORIZONS }.to_vec(),
            quantiles: DEFAULT_QUANTILES.to_vec(),
            peak_horizons: DEFAULT_PEAK_HORIZONS.to_vec(),
            peak_quantiles: PEAK_QUANTILES.to_vec(),
            bounds,
            publish_models: false,
            max_series: DEFAULT_MAX_SERIES,
            breach_above: None,
            anomaly: Default::default(),
            outliers: None,
            known: Default::default(),
            regressors: Vec::new(),
            lstm: super::Lstm::default(),
            query_offset: 0,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::duration_label;

    /// An alert on a horizon that is not published never fires.
    #[test]
    fn the_shipped_alerts_ask_for_what_is_forecast() {
        let rules = include_str!("../../../rules/prometheus/alerting.rules.yml");
        let forecasts = built_in();
        let asked: Vec<(&str, &str)> = rules
            .split("cloudpulse_forecast{forecast=\"")
            .skip(1)
            .filter_map(|rest| {
                let (name, rest) = rest.split_once("\",horizon=\"")?;
                Some((name, rest.split_once('"')?.0)).filter(|(name, _)| !name.contains('\n'))
            })
            .collect();
        assert_eq!(asked.len(), 4, "{asked:?}");
        for (name, horizon) in asked {
            let forecast = forecasts.iter().find(|forecast| forecast.name == name);
            let published = forecast.is_some_and(|it| it.horizons.iter().any(|at| duration_label(*at) == horizon));
            assert!(published, "{name} {horizon}");
        }
    }
}
