//! Files of `timestamp,value` in; evenly spaced series out, or the rows as they are.

use std::path::{Path, PathBuf};

use cloudpulse_forecast::series::{Series, SeriesError};

/// A series and where it came from.
#[derive(Debug, Clone)]
pub struct NamedSeries {
    /// Path inside the folder that was named, without `.csv`; or the labels of a Prometheus series.
    pub name: String,
    /// The samples on their grid.
    pub series: Series,
}

/// The rows of a series as they were read, and where they came from.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedRows {
    /// As in [`NamedSeries`].
    pub name: String,
    /// Usual distance of rows in seconds.
    pub step: i64,
    /// (Unix seconds, value); times never go back but may repeat. NaN is a gap.
    pub rows: Vec<(f64, f64)>,
}

/// Why a file is no series.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CsvError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The header is another one.
    #[error("{path}:1: the header is {got:?}, it must be \"timestamp,value\"")]
    Header {
        /// The file.
        path: PathBuf,
        /// First line.
        got: String,
    },
    /// A line cannot be read.
    #[error("{path}:{line}: {text:?} is no line of Unix seconds and a number")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// Timestamps go backwards.
    #[error("{path}: timestamps go backwards in line {lines}; sort the file by time")]
    Backwards {
        /// The file.
        path: PathBuf,
        /// Line numbers, from 1.
        lines: String,
    },
    /// The samples make no series.
    #[error("{path} holds no series")]
    Series {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SeriesError,
    },
    /// There is no file.
    #[error("{path} holds no .csv file")]
    NoFile {
        /// The folder.
        path: PathBuf,
    },
}

/// Samples of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// (Unix seconds, value) in ascending time; an empty value or `NaN` is a gap.
    pub samples: Vec<(f64, f64)>,
    /// Rows with the same timestamp as the row before; the last one wins.
    pub duplicates: usize,
}

/// Returns all series of files and folders, in the order given, folders sorted by name. A file that holds no series goes
/// to `skipped` when it lies in a folder; named itself, it is an error.
///
/// # Errors
/// The first [`CsvError`] of a file that was named itself, or of an unreadable or empty folder.
pub fn load(paths: &[PathBuf], skipped: &mut Vec<CsvError>) -> Result<Vec<NamedSeries>, CsvError> {
    load_each(paths, skipped, load_file)
}

/// As [`load`], but returns all rows, those of equal times too. A file without a row is left out like one that is no series.
///
/// # Errors
/// As [`load`].
pub fn load_rows(paths: &[PathBuf], skipped: &mut Vec<CsvError>) -> Result<Vec<NamedRows>, CsvError> {
    load_each(paths, skipped, load_rows_of_file)
}

fn load_each<T>(
    paths: &[PathBuf],
    skipped: &mut Vec<CsvError>,
    load_file: fn(&Path, String) -> Result<T, CsvError>,
) -> Result<Vec<T>, CsvError> {
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut files = Vec::new();
            collect(path, &mut files)?;
            files.sort();
            if files.is_empty() {
                return Err(CsvError::NoFile { path: path.clone() });
            }
            for file in files {
                let name = name_of(file.strip_prefix(path).unwrap_or(&file));
                match load_file(&file, name) {
                    Ok(series) => all.push(series),
                    Err(error) => skipped.push(error),
                }
            }
        } else {
            let name = name_of(path.file_name().map_or(path.as_path(), Path::new));
            all.push(load_file(path, name)?);
        }
    }
    Ok(all)
}

fn name_of(path: &Path) -> String {
    path.with_extension("").display().to_string()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), CsvError> {
    let unreadable = |source| CsvError::Unreadable { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "csv") {
            files.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, CsvError> {
    std::fs::read_to_string(path).map_err(|source| CsvError::Unreadable { path: path.to_owned(), source })
}

fn load_rows_of_file(path: &Path, name: String) -> Result<NamedRows, CsvError> {
    let rows = parse_rows(path, &read(path)?)?;
    if !rows.iter().any(|(_, value)| value.is_finite()) {
        return Err(CsvError::Series { path: path.to_owned(), source: SeriesError::Empty });
    }
    let times: Vec<f64> = rows.iter().map(|(time, _)| *time).collect();
    let equal = times.windows(2).filter(|pair| pair[0] == pair[1]).count();
    if equal > 0 {
        tracing::warn!(file = %path.display(), duplicates = equal, "rows with an equal timestamp: each is judged");
    }
    let step = Series::infer_step(&times).unwrap_or(60);
    Ok(NamedRows { name, step, rows })
}

fn load_file(path: &Path, name: String) -> Result<NamedSeries, CsvError> {
    let Samples { samples, duplicates } = parse(path, &read(path)?)?;
    if duplicates > 0 {
        tracing::warn!(file = %path.display(), duplicates, "rows with an equal timestamp: the last one wins");
    }
    let times: Vec<f64> = samples.iter().map(|(time, _)| *time).collect();
    let step = Series::infer_step(&times).unwrap_or(60);
    let series =
        Series::from_samples(&samples, step).map_err(|source| CsvError::Series { path: path.to_owned(), source })?;
    Ok(NamedSeries { name, series })
}

/// Reads the text of a file; `path` is used in errors only.
///
/// # Errors
/// [`CsvError`] for another header, an unreadable line, or timestamps that go backwards.
pub fn parse(path: &Path, text: &str) -> Result<Samples, CsvError> {
    let mut samples: Vec<(f64, f64)> = Vec::new();
    let mut duplicates = 0;
    for sample in parse_rows(path, text)? {
        match samples.last_mut() {
            Some(last) if sample.0 == last.0 => {
                duplicates += 1;
                *last = sample;
            }
            _ => samples.push(sample),
        }
    }
    Ok(Samples { samples, duplicates })
}

/// As [`parse`], but returns all rows in the order of the file, those of equal times too.
fn parse_rows(path: &Path, text: &str) -> Result<Vec<(f64, f64)>, CsvError> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default().trim_start_matches('\u{feff}').trim();
    if header.replace(' ', "") != "timestamp,value" {
        return Err(CsvError::Header { path: path.to_owned(), got: header.to_owned() });
    }
    let mut rows: Vec<(f64, f64)> = Vec::new();
    let mut backwards: Vec<usize> = Vec::new();
    for (number, line) in (2..).zip(lines) {
        if line.trim().is_empty() {
            continue;
        }
        let row = parse_line(line).ok_or_else(|| CsvError::Line {
            path: path.to_owned(),
            line: number,
            text: line.to_owned(),
        })?;
        match rows.last() {
            Some(last) if row.0 < last.0 => backwards.push(number),
            _ => rows.push(row),
        }
    }
    if backwards.is_empty() { Ok(rows) } else { Err(going_back(path, &backwards)) }
}

fn parse_line(line: &str) -> Option<(f64, f64)> {
    let (time, value) = line.split_once(',')?;
    let time: f64 = time.trim().parse().ok().filter(|time: &f64| time.is_finite())?;
    let value = value.trim();
    let value = if value.is_empty() { f64::NAN } else { value.parse().ok()? };
    Some((time, value))
}

fn going_back(path: &Path, lines: &[usize]) -> CsvError {
    const SHOWN: usize = 5;
    let mut text = lines.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if lines.len() > SHOWN {
        text = format!("{text} and {} more", lines.len() - SHOWN);
    }
    CsvError::Backwards { path: path.to_owned(), lines: text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Samples, String> {
        parse(Path::new("f.csv"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn gaps_and_duplicates() {
        let samples = read("timestamp,value\n0,1\n60,\n120,NaN\n120,3\n\n180,inf\n").unwrap();
        assert_eq!(samples.duplicates, 1);
        assert_eq!(samples.samples.len(), 4);
        assert!(samples.samples[1].1.is_nan());
        assert_eq!(samples.samples[2], (120.0, 3.0));
    }

    #[test]
    fn rows_keep_equal_times_in_their_order() {
        let rows = parse_rows(Path::new("f.csv"), "timestamp,value\n0,1\n60,2\n60,3\n120,4\n").unwrap();
        assert_eq!(rows, [(0.0, 1.0), (60.0, 2.0), (60.0, 3.0), (120.0, 4.0)]);
        assert!(parse_rows(Path::new("f.csv"), "timestamp,value\n60,1\n0,2\n").is_err());
    }

    #[test]
    fn going_back_is_refused_with_its_lines() {
        let error = read("timestamp,value\n0,1\n60,1\n30,1\n40,2\n").unwrap_err();
        assert_eq!(error, "f.csv: timestamps go backwards in line 4, 5; sort the file by time");
    }

    #[test]
    fn bad_lines_are_named() {
        assert_eq!(
            read("time,v\n1,2").unwrap_err(),
            "f.csv:1: the header is \"time,v\", it must be \"timestamp,value\""
        );
        assert!(read("timestamp,value\n0,1\nyesterday,4").unwrap_err().starts_with("f.csv:3: \"yesterday,4\""));
        assert!(read("timestamp,value\n0;1").unwrap_err().starts_with("f.csv:2"));
        assert!(read("").is_err());
    }
}
