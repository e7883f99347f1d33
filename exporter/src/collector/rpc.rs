//! `/proc/net/rpc/*`: lines of a key and the counts behind it.

use cloudpulse_common::exposition::{Labels, Number, Page};

use super::family::Family;
use crate::parse::{integer, lines, words};

/// Returns the counts of the line that begins with `key`; none where there is no such line.
pub(super) fn counts<'c>(content: &'c [u8], key: &str) -> impl Iterator<Item = Option<u64>> + use<'c> {
    let line = lines(content).find_map(|line| {
        let mut words = words(line);
        (words.next() == Some(key.as_bytes())).then_some(words)
    });
    line.into_iter().flatten().map(integer)
}

/// Writes a sample for each place of a line that has a name in `labels`; labels of a place without one are `None`.
pub(super) fn write<'l>(
    family: &mut Family<'_>,
    content: &[u8],
    key: &str,
    labels: impl IntoIterator<Item = Option<&'l [(&'l str, &'l str)]>>,
    page: &mut Page<'_>,
) {
    for (labels, count) in labels.into_iter().zip(counts(content, key)) {
        if let (Some(labels), Some(count)) = (labels, count) {
            family.labelled(page, &Labels::new(labels), Number::Integer(count));
        }
    }
}

/// Writes the counts of the procedures of a version, whose line says first how many follow. Places without a name are not shown.
pub(super) fn write_procedures(
    family: &mut Family<'_>,
    content: &[u8],
    key: &str,
    protocol: &str,
    methods: &[&str],
    page: &mut Page<'_>,
) {
    for (method, count) in methods.iter().zip(counts(content, key).skip(1)) {
        if let (false, Some(count)) = (method.is_empty(), count) {
            let labels = Labels::new(&[("proto", protocol), ("method", method)]);
            family.labelled(page, &labels, Number::Integer(count));
        }
    }
}

/// Writes a family of one count, which is at a place of a line.
pub(super) fn write_one(mut family: Family<'_>, content: &[u8], key: &str, at: usize, page: &mut Page<'_>) {
    if let Some(count) = counts(content, key).nth(at).flatten() {
        family.single(page, Number::Integer(count));
    }
}

#[cfg(test)]
mod tests {
    use cloudpulse_common::exposition::Format;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_content_is_read(content: Vec<u8>, text in "((rc|th|proc3|rpc) [0-9x ]{0,40}\n)*") {
            for content in [&content[..], text.as_bytes()] {
                let mut buffer = Vec::new();
                let mut page = Page::new(&mut buffer, Format::Text);
                write_one(Family::counter("a_total", "A."), content, "rc", 2, &mut page);
                write_procedures(&mut Family::counter("b_total", "B."), content, "proc3", "3", &["a", "", "b"], &mut page);
                let _ = counts(content, "th").count();
            }
        }
    }
}
