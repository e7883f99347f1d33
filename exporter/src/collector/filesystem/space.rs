//! statvfs of each mount, with a deadline where it may never return.
//!
//! statvfs of a network filesystem whose server is gone, or of a FUSE filesystem whose program hangs, does not return
//! and cannot be interrupted. Each such mount is asked in a thread of its own; one that is late is not waited for again
//! until it has answered.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use cloudpulse_common::exposition::Number;
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::mounts::Mount;

/// How long one scrape waits for all mounts that may hang, together. Answers over a network take milliseconds; the scrape
/// timeout of Prometheus is ten seconds by default.
const DEADLINE: Duration = Duration::from_millis(500);
/// The threads only make one system call.
const STACK_BYTES: usize = 64 << 10;

/// Space and inodes of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) block_bytes: u64,
    pub(super) blocks: u64,
    pub(super) free: u64,
    pub(super) available: u64,
    pub(super) files: u64,
    pub(super) files_free: u64,
    pub(super) read_only: bool,
}

impl Space {
    /// Returns the bytes of so many blocks.
    pub(super) fn bytes(&self, blocks: u64) -> Number {
        let bytes = blocks.checked_mul(self.block_bytes);
        bytes.map_or(Number::Float(blocks as f64 * self.block_bytes as f64), Number::Integer)
    }
}

/// What a filesystem said.
#[derive(Debug)]
pub(super) enum Answer {
    Space(Space),
    Failed(io::Error),
    /// Nothing yet.
    Late,
}

type Ask = fn(&Path) -> io::Result<Space>;

/// Asks the filesystem at `path`. Blocks as long as the filesystem does.
pub(super) fn space_of(path: &Path) -> io::Result<Space> {
    let stat = statvfs(path)?;
    Ok(Space {
        block_bytes: stat.f_frsize,
        blocks: stat.f_blocks,
        free: stat.f_bfree,
        available: stat.f_bavail,
        files: stat.f_files,
        files_free: stat.f_ffree,
        read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// Asks mounts for their space within a deadline.
#[derive(Debug)]
pub(super) struct Guarded {
    ask: Ask,
    threads: HashMap<PathBuf, Thread>,
}

/// The thread that asks one mount. It ends when this is dropped, or when a late mount answers after that.
#[derive(Debug)]
struct Thread {
    questions: SyncSender<()>,
    answers: Receiver<io::Result<Space>>,
    /// A question is open.
    asked: bool,
    /// It was open when the last scrape ended.
    late: bool,
}

impl Guarded {
    pub(super) fn new(ask: Ask) -> Self {
        Self { ask, threads: HashMap::new() }
    }

    /// Returns an answer for each mount, in their order.
    pub(super) fn ask(&mut self, mounts: &[Mount]) -> Vec<Answer> {
        let may_hang: Vec<&Path> = mounts.iter().filter(|mount| mount.may_hang).map(|mount| &*mount.path).collect();
        self.threads.retain(|path, _| may_hang.contains(&path.as_path()));
        // All questions first, so that the mounts work side by side.
        let mut not_asked: HashMap<&Path, io::Error> = HashMap::new();
        for path in may_hang {
            if let Err(error) = self.question(path) {
                not_asked.insert(path, error);
            }
        }
        let deadline = Instant::now() + DEADLINE;
        let answer = |mount: &Mount| {
            if !mount.may_hang {
                return (self.ask)(&mount.path).map_or_else(Answer::Failed, Answer::Space);
            }
            match self.threads.get_mut(&mount.path) {
                Some(thread) => thread.answer(deadline),
                None => Answer::Failed(not_asked.remove(&*mount.path).unwrap_or_else(|| io::ErrorKind::Other.into())),
            }
        };
        mounts.iter().map(answer).collect()
    }

    fn question(&mut self, path: &Path) -> io::Result<()> {
        if !self.threads.contains_key(path) {
            self.threads.insert(path.to_owned(), Thread::start(path, self.ask)?);
        }
        if let Some(thread) = self.threads.get_mut(path) {
            thread.question();
        }
        Ok(())
    }
}

impl Thread {
    fn start(path: &Path, ask: Ask) -> io::Result<Self> {
        let (questions, to_answer) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let path = path.to_owned();
        std::thread::Builder::new().name("statvfs".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            while to_answer.recv().is_ok() {
                if answer.send(ask(&path)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { questions, answers, asked: false, late: false })
    }

    fn question(&mut self) {
        // What came after its scrape is old by now.
        if self.late && !matches!(self.answers.try_recv(), Err(TryRecvError::Empty)) {
            (self.late, self.asked) = (false, false);
        }
        if !self.asked {
            self.asked = self.questions.try_send(()).is_ok();
        }
    }

    fn answer(&mut self, deadline: Instant) -> Answer {
        let patience = if self.late { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
        match self.answers.recv_timeout(patience) {
            Ok(answer) => {
                (self.late, self.asked) = (false, false);
                answer.map_or_else(Answer::Failed, Answer::Space)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.late = true;
                Answer::Late
            }
            Err(RecvTimeoutError::Disconnected) => Answer::Failed(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;
    use crate::collector::filesystem::mounts;
    use crate::config::Filters;
    use crate::host::{Host, Roots};

    const SPACE: Space =
        Space { block_bytes: 512, blocks: 8, free: 4, available: 2, files: 9, files_free: 3, read_only: false };

    /// Whether the server of `/hangs` has come back.
    static BACK: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    fn hanging(path: &Path) -> io::Result<Space> {
        if path == Path::new("/hangs") {
            drop(BACK.1.wait_while(BACK.0.lock().unwrap(), |back| !*back).unwrap());
        }
        Ok(SPACE)
    }

    #[test]
    fn a_mount_that_hangs_is_late_until_it_answers_and_holds_up_nobody() {
        let table = b"1 1 0:1 / /hangs rw - nfs server:/ rw\n2 1 0:2 / /answers rw - nfs server:/b rw\n\
                      3 1 8:1 / /srv rw - ext4 /dev/sda1 rw\n";
        let mounts = mounts::read(table, &Filters::default(), &Host::new(Roots::default())).unwrap();
        let mut guarded = Guarded::new(hanging);
        for _ in 0..3 {
            let answers = guarded.ask(&mounts);
            assert!(matches!(answers[0], Answer::Late), "{answers:?}");
            assert!(matches!(answers[1..], [Answer::Space(SPACE), Answer::Space(SPACE)]), "{answers:?}");
        }
        *BACK.0.lock().unwrap() = true;
        BACK.1.notify_all();
        // The late answer is taken when it comes, and the next question gets a new one.
        while !matches!(guarded.ask(&mounts)[0], Answer::Space(SPACE)) {
            std::thread::yield_now();
        }
        assert!(matches!(guarded.ask(&mounts)[0], Answer::Space(SPACE)));
        assert_eq!(guarded.threads.len(), 2);
        guarded.ask(&mounts[2..]);
        assert!(guarded.threads.is_empty());
    }

    #[test]
    fn bytes_beyond_64_bits_are_still_a_number() {
        assert_eq!(SPACE.bytes(SPACE.blocks), Number::Integer(4096));
        let huge = Space { block_bytes: 1 << 40, ..SPACE };
        assert_eq!(huge.bytes(1 << 40), Number::Float(2_f64.powi(80)));
    }
}
