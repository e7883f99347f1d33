//! A connection to the bus of the system, or to systemd itself, that answers within a deadline or fails.
//!
//! By hand: of the libraries, zbus takes half a megabyte of everybody's memory for a collector that is off by default, and rustbus,
//! which takes more than this too, has had no change since 2024 and waits without end for a bus that hangs while it logs in.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::message::{self, Call, FIXED};

/// Calls that are open at a time: a bus takes 128 of one connection.
const BATCH: usize = 64;

/// An open connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    until: Instant,
    serial: u32,
    /// What came and was not looked at yet.
    came: Vec<u8>,
}

impl Bus {
    /// Connects and says who we are: our user, which the other side asks the kernel for.
    pub(super) fn connect(path: &Path, until: Instant) -> io::Result<Self> {
        // With one that waits, a bus that no longer accepts would hold up the caller.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        let mut bus = Self { stream, until, serial: 0, came: Vec::new() };
        let user: String =
            rustix::process::geteuid().as_raw().to_string().bytes().map(|b| format!("{b:02x}")).collect();
        bus.send(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        let answer = loop {
            if let Some(end) = memchr::memchr(b'\n', &bus.came) {
                break bus.came.drain(..=end).collect::<Vec<u8>>();
            }
            bus.receive()?;
        };
        if !answer.starts_with(b"OK ") {
            let said = String::from_utf8_lossy(&answer);
            return Err(io::Error::new(ErrorKind::PermissionDenied, format!("it lets us not in: {}", said.trim_end())));
        }
        bus.send(b"BEGIN\r\n")?;
        Ok(bus)
    }

    /// Calls all and gives `answer` the place of each call with the signature and body of its answer, or the name of its error.
    pub(super) fn call(
        &mut self,
        calls: &[Call<'_>],
        mut answer: impl FnMut(usize, Result<(&str, &[u8]), &str>),
    ) -> io::Result<()> {
        for (batch, calls) in calls.chunks(BATCH).enumerate() {
            let first = self.serial + 1;
            let mut out = Vec::new();
            for call in calls {
                self.serial += 1;
                message::write(call, self.serial, &mut out);
            }
            self.send(&out)?;
            let mut open = calls.len();
            while open > 0 {
                let message = self.message()?;
                let came = message::read(&message).ok_or_else(no_message)?;
                let place = came.answers.and_then(|serial| serial.checked_sub(first)).map(|place| place as usize);
                if let Some(place) = place.filter(|place| *place < calls.len()) {
                    answer(batch * BATCH + place, came.content);
                    open -= 1;
                }
            }
        }
        Ok(())
    }

    fn message(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if self.came.len() >= FIXED {
                let length = message::length(&self.came[..FIXED]).ok_or_else(no_message)?;
                if self.came.len() >= length {
                    return Ok(self.came.drain(..length).collect());
                }
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(self.rest()?))?;
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.came.extend(&buffer[..length]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(late(error)),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.rest()?))?;
        self.stream.write_all(bytes).map_err(late)
    }

    fn rest(&self) -> io::Result<Duration> {
        let rest = self.until.saturating_duration_since(Instant::now());
        if rest.is_zero() { Err(late(ErrorKind::TimedOut.into())) } else { Ok(rest) }
    }
}

/// The kernel calls a socket whose time is up one that would block.
fn late(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => io::Error::new(ErrorKind::TimedOut, "no answer in time"),
        _ => error,
    }
}

fn no_message() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "what came is no message of D-Bus")
}
