//! What the kernel knows of its clock's discipline: adjtimex(2), as a value, read and never set.
//!
//! A crate of its own so that the one `unsafe` block of the workspace is where everybody can review it.

use std::io;
use std::mem::MaybeUninit;

/// State of the kernel's clock, in the units of adjtimex(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timex {
    /// Whether a reliable server disciplines the clock: the call did not return `TIME_ERROR`.
    pub is_synchronized: bool,
    /// Whether `offset` and `jitter` are nanoseconds, not microseconds.
    pub is_nano: bool,
    /// Offset between the clock and its reference.
    pub offset: i64,
    /// Frequency offset, in units of 2^-16 ppm.
    pub frequency: i64,
    /// Maximum error in microseconds.
    pub max_error: i64,
    /// Estimated error in microseconds.
    pub estimated_error: i64,
    /// Bits of the status.
    pub status: i32,
    /// Time constant of the phase-locked loop.
    pub constant: i64,
    /// Microseconds between two ticks.
    pub tick: i64,
    /// Frequency of the pulse per second, in units of 2^-16 ppm.
    pub pps_frequency: i64,
    /// Its jitter.
    pub jitter: i64,
    /// Its interval, as a power of two of seconds.
    pub shift: i32,
    /// Its stability, in units of 2^-16 ppm.
    pub stability: i64,
    /// How often its jitter was too large.
    pub jitter_exceeded: i64,
    /// Its calibration intervals.
    pub calibrations: i64,
    /// Errors of its calibration.
    pub calibration_errors: i64,
    /// How often its stability was too bad.
    pub stability_exceeded: i64,
    /// Seconds by which international atomic time is ahead of UTC.
    pub tai: i32,
}

/// Asks the kernel.
///
/// # Errors
/// When the call is not permitted, as a filter of system calls around a container may have it.
pub fn read() -> io::Result<Timex> {
    let mut buffer = MaybeUninit::<libc::timex>::zeroed();
    #[expect(unsafe_code, reason = "no library has this call")]
    // SAFETY: the pointer is that of a live `timex` of ours, which the kernel fills and does not keep. All of it is zero before:
    // `modes` is 0, so that the kernel only reads out its state and needs no privilege.
    let state = unsafe { libc::adjtimex(buffer.as_mut_ptr()) };
    if state == -1 {
        return Err(io::Error::last_os_error());
    }
    #[expect(unsafe_code, reason = "as above")]
    // SAFETY: it was zeroed, and zero is a value of each of its fields, which are integers.
    let timex = unsafe { buffer.assume_init() };
    // `c_long` is not the same everywhere.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "it is 64 bits only on some machines")]
    let long = |value: libc::c_long| value as i64;
    Ok(Timex {
        is_synchronized: state != libc::TIME_ERROR,
        is_nano: timex.status & libc::STA_NANO != 0,
        offset: long(timex.offset),
        frequency: long(timex.freq),
        max_error: long(timex.maxerror),
        estimated_error: long(timex.esterror),
        status: timex.status,
        constant: long(timex.constant),
        tick: long(timex.tick),
        pps_frequency: long(timex.ppsfreq),
        jitter: long(timex.jitter),
        shift: timex.shift,
        stability: long(timex.stabil),
        jitter_exceeded: long(timex.jitcnt),
        calibrations: long(timex.calcnt),
        calibration_errors: long(timex.errcnt),
        stability_exceeded: long(timex.stbcnt),
        tai: timex.tai,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_is_read_and_not_changed() {
        let (first, second) = (super::read().unwrap(), super::read().unwrap());
        // A tick is 1/100 s, give or take the tenth by which it may be adjusted.
        assert!((9_000..=11_000).contains(&first.tick), "{first:?}");
        assert_eq!((first.tick, first.constant, first.tai), (second.tick, second.constant, second.tai));
    }
}
