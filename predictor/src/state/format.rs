//! The file of a state: header and series in, checked bytes out; and back, or what is wrong with them.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Entry;

/// First bytes of every state.
const MAGIC: [u8; 8] = *b"CPSTATE\n";
/// Changes with the layout of the file, around the series or in them.
pub(super) const FORMAT: u32 = 2;

/// Writes through a checksum and a count.
struct Summed<W> {
    inner: W,
    checksum: crc32fast::Hasher,
    bytes: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.checksum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Layout: magic, format, header, series, each with its length before it, and the CRC-32 of all of that. Integers of
/// fixed size are little-endian.
pub(super) fn write_file(
    path: &Path,
    header: &impl Serialize,
    entries: impl IntoIterator<Item = io::Result<Entry>>,
) -> io::Result<u64> {
    let mut file = Summed { inner: BufWriter::new(File::create(path)?), checksum: crc32fast::Hasher::new(), bytes: 0 };
    file.write_all(&MAGIC)?;
    file.write_all(&FORMAT.to_le_bytes())?;
    let part = |file: &mut Summed<_>, bytes: postcard::Result<Vec<u8>>| -> io::Result<()> {
        let bytes = bytes.map_err(io::Error::other)?;
        file.write_all(&(bytes.len() as u64).to_le_bytes())?;
        file.write_all(&bytes)
    };
    part(&mut file, postcard::to_stdvec(header))?;
    for entry in entries {
        part(&mut file, postcard::to_stdvec(&entry?))?;
    }
    let checksum = file.checksum.clone().finalize();
    file.write_all(&checksum.to_le_bytes())?;
    file.flush()?;
    file.inner.get_ref().sync_all()?;
    Ok(file.bytes)
}

/// Returns what is in a state, or what is wrong with it.
pub(super) fn read_file<H: DeserializeOwned>(path: &Path) -> Result<(H, Vec<Entry>), String> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
    parse(&bytes)
}

fn parse<H: DeserializeOwned>(bytes: &[u8]) -> Result<(H, Vec<Entry>), String> {
    let (body, checksum) = bytes.split_last_chunk::<4>().ok_or("it is empty")?;
    let rest = body.strip_prefix(&MAGIC).ok_or("it does not begin like a state")?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err("its checksum does not match".to_owned());
    }
    let (format, mut rest) = rest.split_first_chunk::<4>().ok_or("it ends too early")?;
    let format = u32::from_le_bytes(*format);
    if format != FORMAT {
        return Err(format!("it has format {format}, and this program reads {FORMAT}"));
    }
    let header = next_part(&mut rest)?;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        entries.push(next_part(&mut rest)?);
    }
    Ok((header, entries))
}

fn next_part<T: DeserializeOwned>(rest: &mut &[u8]) -> Result<T, String> {
    let (length, after) = rest.split_first_chunk::<8>().ok_or("it ends too early")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| "a length is too large")?;
    let (part, after) = after.split_at_checked(length).ok_or("it ends too early")?;
    *rest = after;
    postcard::from_bytes(part).map_err(|error| error.to_string())
}
