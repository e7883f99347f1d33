//! Fine-tuned networks in the state folder: what stands before their weights, and all of them for who wants a list.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::format::read_file;
use super::{STATE, folder_name, names, numbered};

/// Folder of the networks in that of a forecast.
pub(super) const NETWORKS: &str = "lstm";

/// What stands before the weights of a network that was fine-tuned. Losses are shares of persistence's error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkHeader {
    /// Name of the forecast whose series it learnt from.
    pub forecast: String,
    /// When it was made, Unix seconds.
    pub made_at: i64,
    /// Series that it learnt from.
    pub series: usize,
    /// Windows to train, to stop and to compare on.
    pub windows: [usize; 3],
    /// Training steps.
    pub steps: usize,
    /// Loss on the newest windows: of the bundled weights, of those before, of these.
    pub losses: [f64; 3],
}

/// A network as it was read: its header and weights, or what is wrong with the file.
pub type ReadNetwork = Result<(NetworkHeader, Vec<u8>), String>;

/// Returns the numbers, headers and weights of the networks of a forecast under `root`, the oldest first, whoever holds the
/// folder; what is not whole is said in place of the header.
///
/// # Errors
/// When the folder is there and cannot be listed.
pub fn list_networks(root: &Path, forecast: &str) -> io::Result<Vec<(u64, ReadNetwork)>> {
    let folder = root.join(folder_name(forecast)).join(NETWORKS);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let read = |number: u64| {
        let (header, mut entries) = read_file(&folder.join(format!("{number}{STATE}")))?;
        let (_, weights) = entries.pop().ok_or("it holds no weights")?;
        Ok((header, weights))
    };
    Ok(numbered(&folder, STATE)?.into_iter().map(|number| (number, read(number))).collect())
}

/// Returns the forecasts that have a folder under `root`, by name.
///
/// # Errors
/// When it cannot be listed.
pub fn list_forecasts(root: &Path) -> io::Result<Vec<String>> {
    let mut found: Vec<String> =
        names(root)?.iter().filter(|name| root.join(name).is_dir()).map(|name| forecast_name(name)).collect();
    found.sort();
    Ok(found)
}

/// Returns the forecast whose [`folder_name`] it is.
fn forecast_name(folder: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), folder.as_bytes());
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_tells_the_forecast() {
        for name in ["load", "a/b", "node.cpu:rate", "%2F", "Größe"] {
            assert_eq!(forecast_name(&folder_name(name)), name);
        }
    }
}
