//! Aligned columns on stdout.

/// Prints rows as a table; the first row is the heading, the first column is aligned left.
#[allow(clippy::print_stdout, reason = "the result of the benchmark")]
pub(crate) fn print(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Prints one line.
#[allow(clippy::print_stdout, reason = "the result of the benchmark")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Says on stderr what comes next, because it takes a while.
#[allow(clippy::print_stderr, reason = "stdout has the result alone")]
pub(crate) fn progress(text: &str) {
    eprintln!("{text} ...");
}

/// Returns the middle, the least and the largest of some values; NaN without any.
pub(crate) fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.first(), sorted.last()) {
        (Some(least), Some(most)) => (sorted[sorted.len() / 2], *least, *most),
        _ => (f64::NAN, f64::NAN, f64::NAN),
    }
}
