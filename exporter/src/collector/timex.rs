//! adjtimex(2) → `node_timex_*`: whether and how well a time server disciplines the clock.

use cloudpulse_common::exposition::{Kind, Number, Page};
use cloudpulse_timex::Timex;

use super::{CollectError, Collector, Entry};
use crate::config::Filters;
use crate::host::Host;

pub(super) const ENTRY: Entry = Entry {
    name: "timex",
    about: "Whether and how well the clock is synchronised",
    by_default: true,
    new: |_: &mut Host, _: &Filters| Box::new(Clock),
};

/// Parts per million in units of 2^-16.
const PPM_16: f64 = 1e6 * 65_536.0;

#[derive(Debug)]
struct Clock;

impl Collector for Clock {
    fn collect(&mut self, _: &mut Host, page: &mut Page<'_>) -> Result<(), CollectError> {
        let timex = cloudpulse_timex::read()
            .map_err(|source| CollectError::Read { path: "the system call adjtimex".into(), source })?;
        for (name, help, kind, value) in families(&timex) {
            page.family(name, help, kind);
            page.unlabelled(name, Number::Float(value));
        }
        Ok(())
    }
}

#[rustfmt::skip]
fn families(timex: &Timex) -> [(&'static str, &'static str, Kind, f64); 17] {
    use Kind::{Counter, Gauge};
    let per_second = if timex.is_nano { 1e9 } else { 1e6 };
    let micro = |value: i64| value as f64 / 1e6;
    [
        ("node_timex_sync_status", "Whether a reliable server synchronises the clock.", Gauge, f64::from(u8::from(timex.is_synchronized))),
        ("node_timex_offset_seconds", "Offset between the clock and its reference.", Gauge, timex.offset as f64 / per_second),
        ("node_timex_frequency_adjustment_ratio", "How much faster the clock is made to run.", Gauge, 1.0 + timex.frequency as f64 / PPM_16),
        ("node_timex_maxerror_seconds", "Largest error.", Gauge, micro(timex.max_error)),
        ("node_timex_estimated_error_seconds", "Estimated error.", Gauge, micro(timex.estimated_error)),
        ("node_timex_status", "Bits of the clock's status.", Gauge, f64::from(timex.status)),
        ("node_timex_loop_time_constant", "Time constant of the phase-locked loop.", Gauge, timex.constant as f64),
        ("node_timex_tick_seconds", "Time between two ticks.", Gauge, micro(timex.tick)),
        ("node_timex_pps_frequency_hertz", "Frequency of the pulse per second.", Gauge, timex.pps_frequency as f64 / PPM_16),
        ("node_timex_pps_jitter_seconds", "Jitter of the pulse per second.", Gauge, timex.jitter as f64 / per_second),
        ("node_timex_pps_shift_seconds", "Interval of the pulse per second.", Gauge, f64::from(timex.shift)),
        ("node_timex_pps_stability_hertz", "Average of recent changes of the frequency of the pulse per second.", Gauge, timex.stability as f64 / PPM_16),
        ("node_timex_pps_jitter_total", "How often the jitter of the pulse per second was too large.", Counter, timex.jitter_exceeded as f64),
        ("node_timex_pps_calibration_total", "Calibrations of the pulse per second.", Counter, timex.calibrations as f64),
        ("node_timex_pps_error_total", "Errors of its calibration.", Counter, timex.calibration_errors as f64),
        ("node_timex_pps_stability_exceeded_total", "How often its stability was too bad.", Counter, timex.stability_exceeded as f64),
        ("node_timex_tai_offset_seconds", "How far international atomic time is ahead of UTC.", Gauge, f64::from(timex.tai)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Timex = Timex {
        is_synchronized: true,
        is_nano: false,
        offset: -1500,
        frequency: 65_536,
        max_error: 500_000,
        estimated_error: 20,
        status: 1,
        constant: 7,
        tick: 10_000,
        pps_frequency: 0,
        jitter: 3,
        shift: 4,
        stability: 0,
        jitter_exceeded: 5,
        calibrations: 6,
        calibration_errors: 7,
        stability_exceeded: 8,
        tai: 37,
    };

    fn value(timex: &Timex, name: &str) -> f64 {
        families(timex).iter().find(|(family, ..)| *family == name).unwrap().3
    }

    #[test]
    fn units_are_those_of_the_status() {
        let nano = Timex { is_nano: true, is_synchronized: false, ..CLOCK };
        assert_eq!(value(&CLOCK, "node_timex_offset_seconds"), -0.0015);
        assert_eq!(value(&nano, "node_timex_offset_seconds"), -1.5e-6);
        assert_eq!((value(&CLOCK, "node_timex_sync_status"), value(&nano, "node_timex_sync_status")), (1.0, 0.0));
        assert_eq!(value(&CLOCK, "node_timex_frequency_adjustment_ratio"), 1.000_001);
        assert_eq!(value(&CLOCK, "node_timex_maxerror_seconds"), 0.5);
        assert_eq!(value(&CLOCK, "node_timex_tai_offset_seconds"), 37.0);
    }
}
