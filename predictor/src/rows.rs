//! The rows that `forecast` and `backtest` print: the contract with scripts.

use std::io::{self, Write};

/// Header of the CSV form.
pub const HEADER: &str = "series,kind,origin,horizon_seconds,model,quantile,value";

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The value at origin + horizon.
    Point,
    /// The highest value in (origin, origin + horizon].
    Peak,
}

impl Kind {
    /// Returns the word in the rows.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Point => "point",
            Self::Peak => "peak",
        }
    }
}

/// One forecast value.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Row {
    /// Name of the series.
    pub series: String,
    /// Value or peak.
    pub kind: Kind,
    /// Time of the last sample that was known, Unix seconds.
    pub origin: i64,
    /// Distance of the target in seconds.
    pub horizon_seconds: i64,
    /// Model.
    pub model: String,
    /// Quantile, 0 to 1.
    pub quantile: f64,
    /// Forecast in the unit of the series.
    pub value: f64,
}

/// Writes rows as CSV, without the header.
///
/// # Errors
/// When the output cannot be written.
pub fn write_csv(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    for Row { series, kind, origin, horizon_seconds, model, quantile, value } in rows {
        let series = quoted(series);
        writeln!(out, "{series},{},{origin},{horizon_seconds},{model},{quantile},{value}", kind.word())?;
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_quoted() {
        let row = Row {
            series: "{a=\"b\", c=\"d\"}".to_owned(),
            kind: Kind::Peak,
            origin: 5,
            horizon_seconds: 300,
            model: "ensemble".to_owned(),
            quantile: 0.9,
            value: 0.1 + 0.2,
        };
        let mut out = Vec::new();
        write_csv(&mut out, &[row]).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"{a=\"\"b\"\", c=\"\"d\"\"}\",peak,5,300,ensemble,0.9,0.30000000000000004\n"
        );
    }
}
