//! The last known value, at every horizon: the first baseline.

use super::{History, Model, Table};

/// Forecasts the last known value.
#[derive(Debug, Clone, Copy)]
pub struct Persistence;

impl Model for Persistence {
    fn outputs(&self) -> &'static [&'static str] {
        &["persistence"]
    }

    fn forecast(&self, history: &History<'_>, origins: &[usize], horizons: &[usize]) -> Vec<Table> {
        let mut table = Table::unknown(origins.len(), horizons.len());
        for (row, origin) in origins.iter().enumerate() {
            table.row_mut(row).fill(history.filled[*origin]);
        }
        vec![table]
    }
}
