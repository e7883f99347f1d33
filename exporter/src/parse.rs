//! Bytes of kernel files in, lines, words and numbers out. Never allocates, never panics on any input.

use cloudpulse_common::exposition::Number;

/// A kernel file does not have the form that its documentation promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{expected} expected, found {found:?}")]
pub struct Malformed {
    expected: &'static str,
    found: String,
}

impl Malformed {
    /// Returns an error that shows the beginning of `found`.
    pub(crate) fn new(expected: &'static str, found: &[u8]) -> Self {
        const SHOWN: usize = 100;
        let found = &found[..found.len().min(SHOWN)];
        Self { expected, found: String::from_utf8_lossy(found).into_owned() }
    }
}

/// Returns the lines without their ends. A last line without an end counts, an empty one after the last end does not.
pub(crate) fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut rest = content;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let line;
        match memchr::memchr(b'\n', rest) {
            Some(end) => (line, rest) = (&rest[..end], &rest[end + 1..]),
            None => (line, rest) = (rest, &[]),
        }
        Some(line)
    })
}

/// Returns the words between spaces and tabs.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut rest = line;
    std::iter::from_fn(move || {
        let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
        let start = rest.iter().position(|byte| !blank(byte))?;
        let length = rest[start..].iter().position(blank).unwrap_or(rest.len() - start);
        let word = &rest[start..start + length];
        rest = &rest[start + length..];
        Some(word)
    })
}

/// Returns the value of a word of decimal digits; `None` for anything else and beyond 64 bits.
pub(crate) fn integer(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Returns the value of `12.34` exactly; `None` for anything but digits with at most one point between them.
pub(crate) fn decimal(word: &[u8]) -> Option<Number> {
    let Some(point) = word.iter().position(|byte| *byte == b'.') else { return integer(word).map(Number::Integer) };
    let (whole, fraction) = (integer(&word[..point])?, integer(&word[point + 1..])?);
    let places = u32::try_from(word.len() - point - 1).ok().filter(|places| *places <= 19)?;
    let digits = whole.checked_mul(10_u64.checked_pow(places)?)?.checked_add(fraction)?;
    Some(Number::Decimal { digits, places })
}

/// Returns the value of hexadecimal digits, without `0x`; `None` for anything else and beyond 64 bits.
pub(crate) fn hexadecimal(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |value, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        value.checked_mul(16)?.checked_add(u64::from(digit))
    })
}

/// How a whole number of the kernel becomes a value in base units: times `factor`, divided by 10^`places`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    factor: u64,
    places: u32,
}

impl Scale {
    /// As it is.
    pub(crate) const WHOLE: Self = Self::divided(0);
    /// Thousandths.
    pub(crate) const MILLI: Self = Self::divided(3);
    /// Millionths.
    pub(crate) const MICRO: Self = Self::divided(6);
    /// Thousands.
    pub(crate) const KILO: Self = Self::times(1000);

    pub(crate) const fn times(factor: u64) -> Self {
        Self { factor, places: 0 }
    }

    pub(crate) const fn divided(places: u32) -> Self {
        Self { factor: 1, places }
    }
}

/// Returns a decimal number with or without sign, or one in hexadecimal after `0x`, in base units; `None` for anything else.
pub(crate) fn scaled(word: &[u8], scale: Scale) -> Option<Number> {
    let (is_negative, digits) = match word.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    let value = match digits.strip_prefix(b"0x") {
        Some(digits) => hexadecimal(digits)?,
        None => integer(digits)?,
    };
    let digits = value.checked_mul(scale.factor)?;
    Some(if is_negative {
        Number::Float(-(digits as f64) / f64::from(10_u32.checked_pow(scale.places)?))
    } else {
        Number::Decimal { digits, places: scale.places }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_and_words_are_what_is_between() {
        assert_eq!(lines(b"a\n\nb").collect::<Vec<_>>(), [&b"a"[..], b"", b"b"]);
        assert_eq!(lines(b"a\n").count(), 1);
        assert_eq!(lines(b"").count(), 0);
        assert_eq!(words(b"  a \tbc  ").collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
        assert_eq!(words(b" ").count(), 0);
    }

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        assert_eq!(integer(b"18446744073709551615"), Some(u64::MAX));
        for word in [&b""[..], b"18446744073709551616", b"-1", b"+1", b"1a", b"1.0", b" 1"] {
            assert_eq!(integer(word), None, "{word:?}");
        }
        assert_eq!(decimal(b"0.05"), Some(Number::Decimal { digits: 5, places: 2 }));
        assert_eq!(decimal(b"12"), Some(Number::Integer(12)));
        for word in [&b"."[..], b"1.", b".5", b"1.2.3", b"-1.5", b"1.00000000000000000000000"] {
            assert_eq!(decimal(word), None, "{word:?}");
        }
    }

    #[test]
    fn numbers_of_the_kernel_become_base_units() {
        let decimal = |digits, places| Some(Number::Decimal { digits, places });
        assert_eq!(scaled(b"45500", Scale::MILLI), decimal(45_500, 3));
        assert_eq!(scaled(b"0x1003", Scale::WHOLE), decimal(4099, 0));
        assert_eq!(scaled(b"1000", Scale::times(125_000)), decimal(125_000_000, 0));
        assert_eq!(scaled(b"-1500", Scale::MILLI), Some(Number::Float(-1.5)));
        for word in [&b""[..], b"-", b"0x", b"0xg", b"1.5", b"18446744073709551616"] {
            assert_eq!(scaled(word, Scale::WHOLE), None, "{word:?}");
        }
        assert_eq!((hexadecimal(b"0000ef9d"), hexadecimal(b"")), (Some(61_341), None));
    }

    proptest! {
        #[test]
        fn any_number_is_read_back(value: u64) {
            prop_assert_eq!(integer(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn no_bytes_are_lost_or_invented(content: Vec<u8>) {
            let longest = lines(&content).map(<[u8]>::len).sum::<usize>() + lines(&content).count();
            prop_assert!(longest == content.len() || longest == content.len() + 1);
            let _ = decimal(&content);
            for line in lines(&content) {
                for word in words(line) {
                    prop_assert!(!word.is_empty() && word.iter().all(|byte| *byte != b' ' && *byte != b'\t'));
                }
            }
        }
    }
}
