//! Asks the engine what its containers are called, beside the scrape: a question goes out only for a container that is not
//! known yet, and a scrape that asked waits a moment for the answer, once. An engine that hangs holds up nobody after that.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::{Descriptions, EngineError, Wanted, containers};

/// How long the scrape that asked waits, so that a new container's first samples already have its name. Engines answer in
/// some milliseconds.
const PATIENCE: Duration = Duration::from_millis(100);
/// When the question is given up.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two questions; doubled as long as the engine does not answer.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The thread of a question has one buffer of 16 KiB.
const STACK_BYTES: usize = 256 << 10;

/// Where the thread of a question leaves the answer. A channel can do more, at 15 kB.
type Slot = Arc<(Mutex<Option<Result<Descriptions, EngineError>>>, Condvar)>;

/// Asks one engine.
#[derive(Debug)]
pub(super) struct Names {
    socket: PathBuf,
    wanted: Arc<[Wanted]>,
    /// The open question, and where its answer comes.
    question: Option<(Slot, JoinHandle<()>)>,
    /// The engine did not answer in time, and has not since.
    late: bool,
    not_before: Option<Instant>,
    pause: Duration,
    /// The last question failed, which was said.
    failed: bool,
}

impl Names {
    /// Returns one that has not asked anything yet.
    pub(super) fn new(socket: PathBuf, wanted: Vec<Wanted>) -> Self {
        let wanted = wanted.into();
        Self { socket, wanted, question: None, late: false, not_before: None, pause: SHORTEST_PAUSE, failed: false }
    }

    /// Asks, unless a question is open or the last one was a moment ago. Returns whether it asked.
    pub(super) fn ask(&mut self) -> bool {
        if self.question.is_some() || self.not_before.is_some_and(|moment| Instant::now() < moment) {
            return false;
        }
        let slot = Slot::default();
        let (socket, wanted, to_fill) = (self.socket.clone(), Arc::clone(&self.wanted), Arc::clone(&slot));
        let ask = move || {
            let answer = containers(&socket, &wanted, DEADLINE);
            *to_fill.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
            to_fill.1.notify_all();
        };
        let thread = std::thread::Builder::new().name("containers".to_owned()).stack_size(STACK_BYTES).spawn(ask);
        match thread {
            Ok(thread) => self.question = Some((slot, thread)),
            Err(error) => self.fail(&error.into()),
        }
        self.question.is_some()
    }

    /// Returns the answer to the open question, if there is one and it came.
    pub(super) fn answer(&mut self) -> Option<Descriptions> {
        let (slot, thread) = self.question.as_ref()?;
        let patience = if self.late { Duration::ZERO } else { PATIENCE };
        // Asked first: one that ends after this has filled the slot before.
        let ended = thread.is_finished();
        let (lock, filled) = &**slot;
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = filled.wait_timeout_while(guard, patience, |answer| answer.is_none());
        let answer = waited.unwrap_or_else(PoisonError::into_inner).0.take();
        match answer {
            Some(Ok(descriptions)) => {
                if self.failed {
                    tracing::info!(socket = %self.socket.display(), "the engine says the names of containers again");
                }
                (self.question, self.late, self.failed, self.pause) = (None, false, false, SHORTEST_PAUSE);
                self.not_before = Some(Instant::now() + self.pause);
                Some(descriptions)
            }
            Some(Err(error)) => {
                self.fail(&error);
                None
            }
            // It ended without an answer, which only a fault of ours could bring about.
            None if ended => {
                self.fail(&std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
                None
            }
            None => {
                self.late = true;
                None
            }
        }
    }

    fn fail(&mut self, error: &EngineError) {
        if !self.failed {
            tracing::info!(socket = %self.socket.display(), %error, "containers have no names: the engine does not say them");
        }
        (self.question, self.failed) = (None, true);
        self.not_before = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn names(socket: PathBuf) -> Names {
        Names::new(socket, Vec::new())
    }

    #[test]
    fn an_engine_that_hangs_is_waited_for_once_and_its_late_answer_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut names = names(socket);
        assert!(names.answer().is_none() && !names.late, "nothing was asked");
        assert!(names.ask());
        assert!(!names.ask(), "one question at a time");
        assert!(names.answer().is_none() && names.late);
        assert!(names.answer().is_none());

        let (mut stream, _) = listener.accept().unwrap();
        let read = stream.read(&mut [0; 1024]).unwrap();
        assert!(read > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[{\"Id\":\"a\"}]").unwrap();
        drop(stream);
        let deadline = Instant::now() + DEADLINE;
        let descriptions = loop {
            if let Some(descriptions) = names.answer() {
                break descriptions;
            }
            assert!(Instant::now() < deadline && names.question.is_some());
            std::thread::yield_now();
        };
        assert!(descriptions.contains_key("a") && !names.late);
        assert!(!names.ask(), "not again at once");
        names.not_before = None;
        assert!(names.ask());
    }

    #[test]
    fn an_engine_that_is_away_is_asked_less_and_less_often() {
        let folder = tempfile::tempdir().unwrap();
        let mut names = names(folder.path().join("none"));
        for pause in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(names.pause, Duration::from_secs(pause));
            names.not_before = None;
            assert!(names.ask());
            while names.question.is_some() {
                assert!(names.answer().is_none());
            }
            assert!(names.failed && !names.ask());
        }
    }
}
