//! The last known value, at every horizon: the first baseline.

use super::{Memory, Model};
use crate::history::History;

/// Forecasts the last known value.
#[derive(Debug, Clone, Copy)]
pub struct Persistence;

impl Model for Persistence {
    fn outputs(&self) -> &'static [&'static str] {
        &["persistence"]
    }

    fn start(&self, _step: i64, _horizons: &[usize]) -> Box<dyn Memory> {
        Box::new(*self)
    }

    fn restore(&self, _step: i64, _horizons: &[usize], _saved: &[u8]) -> Option<Box<dyn Memory>> {
        Some(Box::new(*self))
    }
}

impl Memory for Persistence {
    fn advance(&mut self, _history: &History) {}

    fn forecast(&self, history: &History, _horizons: &[usize], out: &mut [f64]) {
        out.fill(history.last());
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}
