//! Labels and numbers as bytes of an exposition page.

use std::io::Write as _;

use super::Number;

pub(super) fn write_labels<'l>(buffer: &mut Vec<u8>, labels: impl Iterator<Item = (&'l str, &'l str)>) {
    let mut any = false;
    for (name, value) in labels {
        buffer.push(if any { b',' } else { b'{' });
        any = true;
        buffer.extend_from_slice(name.as_bytes());
        buffer.extend_from_slice(b"=\"");
        escape(buffer, value, true);
        buffer.push(b'"');
    }
    if any {
        buffer.push(b'}');
    }
}

/// Escapes backslash and line feed, and with `quotes` the double quote too.
pub(super) fn escape(buffer: &mut Vec<u8>, text: &str, quotes: bool) {
    let special = |byte: &u8| matches!(byte, b'\\' | b'\n') || (quotes && *byte == b'"');
    if !text.as_bytes().iter().any(special) {
        buffer.extend_from_slice(text.as_bytes());
        return;
    }
    for byte in text.bytes() {
        match byte {
            b'\\' => buffer.extend_from_slice(b"\\\\"),
            b'\n' => buffer.extend_from_slice(b"\\n"),
            b'"' if quotes => buffer.extend_from_slice(b"\\\""),
            other => buffer.push(other),
        }
    }
}

/// Largest whole number below which every integer is exact in f64.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub(super) fn write_value(buffer: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        buffer.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        buffer.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if (0.0..EXACT).contains(&value) && value.fract() == 0.0 {
        write_integer(buffer, value as u64);
    } else if value.abs() >= 1e17 || (value != 0.0 && value.abs() < 1e-5) {
        let _ = write!(buffer, "{value:e}");
    } else {
        let _ = write!(buffer, "{value}");
    }
}

pub(super) fn write_number(buffer: &mut Vec<u8>, value: Number) {
    match value {
        Number::Float(value) => write_value(buffer, value),
        Number::Integer(value) => write_integer(buffer, value),
        Number::Decimal { digits, places } => {
            let scale = 10_u64.pow(places.min(19));
            write_integer(buffer, digits / scale);
            let mut rest = digits % scale;
            if rest == 0 {
                return;
            }
            buffer.push(b'.');
            let mut unit = scale / 10;
            while rest > 0 {
                buffer.push(b'0' + (rest / unit) as u8);
                rest %= unit;
                unit /= 10;
            }
        }
    }
}

/// A bucket's bound: always with a decimal point, as OpenMetrics wants it.
pub(super) fn write_bound(buffer: &mut Vec<u8>, bound: f64) {
    if bound.is_finite() && bound.fract() == 0.0 && bound.abs() < EXACT {
        let _ = write!(buffer, "{bound:.1}");
    } else {
        write_value(buffer, bound);
    }
}

pub(super) fn write_integer(buffer: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    buffer.extend_from_slice(&digits[at..]);
}
