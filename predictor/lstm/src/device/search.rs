//! Which adapter is taken, without any: the order, and what a test must show.

use std::fmt;

use crate::engine::{Deviation, EngineError};

/// The most that a GPU may differ from the kernel. WGSL allows `tanh` an error of 1e-5; half precision is off by more than this.
const TOLERANCE: f32 = 1e-4;

/// The kinds of adapters that are GPUs, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Discrete,
    Integrated,
    Virtual,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
        })
    }
}

/// Why an adapter is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The machine has none of that kind.
    Absent,
    /// It does not work; what it is called and what is wrong.
    Broken(String),
}

/// Tries one kind after the other.
///
/// # Errors
/// In plain words, why there is none.
pub(super) fn first_that_works<T>(mut open: impl FnMut(Kind) -> Result<T, Refusal>) -> Result<T, String> {
    let mut broken = Vec::new();
    for kind in [Kind::Discrete, Kind::Integrated, Kind::Virtual] {
        match open(kind) {
            Ok(gpu) => return Ok(gpu),
            Err(Refusal::Absent) => {}
            Err(Refusal::Broken(reason)) => broken.push(reason),
        }
    }
    if broken.is_empty() {
        return Err("no discrete, integrated or virtual GPU was found, or no driver for it".to_owned());
    }
    Err(broken.join("; "))
}

/// Says whether an adapter is taken, from how it did in its test.
pub(super) fn judge(
    adapter: &str,
    on_cpu: bool,
    test: impl FnOnce() -> Result<Deviation, EngineError>,
) -> Result<Deviation, Refusal> {
    let broken = |reason: String| Err(Refusal::Broken(format!("{adapter} {reason}")));
    if on_cpu {
        return broken("computes on the CPU".to_owned());
    }
    match test() {
        Ok(deviation) if deviation.quantiles <= TOLERANCE && deviation.gradient <= TOLERANCE => Ok(deviation),
        Ok(Deviation { quantiles, gradient }) => broken(format!(
            "computes wrongly: off by {quantiles:.0e} of the largest quantile and by {gradient:.0e} of the gradient"
        )),
        Err(error) => broken(format!("failed its test: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Deviation = Deviation { quantiles: 1e-7, gradient: 1e-7 };

    #[test]
    fn the_kinds_are_tried_in_order_until_one_works() {
        let mut tried = Vec::new();
        let found = first_that_works(|kind| {
            tried.push(kind);
            match kind {
                Kind::Discrete => Err(Refusal::Broken("Card is on fire".to_owned())),
                Kind::Integrated => Ok(7),
                Kind::Virtual => Err(Refusal::Absent),
            }
        });
        assert_eq!((found, tried), (Ok(7), vec![Kind::Discrete, Kind::Integrated]));
        let none = first_that_works::<()>(|_| Err(Refusal::Absent)).unwrap_err();
        assert_eq!(none, "no discrete, integrated or virtual GPU was found, or no driver for it");
        let broken = first_that_works::<()>(|kind| match kind {
            Kind::Integrated => Err(Refusal::Absent),
            kind => Err(Refusal::Broken(format!("the {kind} one is broken"))),
        });
        assert_eq!(broken.unwrap_err(), "the discrete one is broken; the virtual one is broken");
    }

    #[test]
    fn what_computes_otherwise_or_on_the_cpu_is_refused() {
        let reason = |on_cpu, test: Result<Deviation, EngineError>| match judge("Card", on_cpu, || test) {
            Err(Refusal::Broken(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(judge("Card", false, || Ok(EXACT)), Ok(EXACT));
        assert_eq!(reason(true, Ok(EXACT)), "Card computes on the CPU");
        let wrong = "Card computes wrongly: off by 2e-4 of the largest quantile and by 1e-7 of the gradient";
        assert_eq!(reason(false, Ok(Deviation { quantiles: 2e-4, ..EXACT })), wrong);
        let nan = Deviation { gradient: f32::INFINITY, ..EXACT };
        assert!(reason(false, Ok(nan)).ends_with("by inf of the gradient"));
        let lost = reason(false, Err(EngineError::Device("lost".to_owned())));
        assert_eq!(lost, "Card failed its test: the device failed: lost");
    }
}
