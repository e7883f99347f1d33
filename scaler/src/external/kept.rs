//! Answers that are kept for a while: a question in; the answer out, asked for once however many wait for it.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::future::Shared;
use tokio::sync::oneshot;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub Arc<str>);

impl Failed {
    /// Returns a failure in words.
    pub fn new(words: impl fmt::Display) -> Self {
        Self(words.to_string().into())
    }
}

/// A bounded memory of answers. Failures are not kept, but all who wait share one.
pub struct Kept<K, V> {
    slots: Arc<Mutex<Slots<K, V>>>,
    capacity: usize,
    keep: Duration,
}

type Slots<K, V> = HashMap<K, Slot<V>>;

enum Slot<V> {
    Known { answer: V, until: Instant },
    Asked(Shared<oneshot::Receiver<Result<V, Failed>>>),
}

/// Leaves the questions out: they may be secret.
impl<K, V> fmt::Debug for Kept<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("capacity", &self.capacity).field("keep", &self.keep).finish_non_exhaustive()
    }
}

impl<K, V> Kept<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns an empty memory of at most `capacity` answers, each kept for `keep`.
    pub fn new(capacity: usize, keep: Duration) -> Self {
        Self { slots: Arc::default(), capacity, keep }
    }

    /// Returns the answer that is kept for `question`; else that of `ask`, which goes on when the caller goes away, for those
    /// who wait with it.
    ///
    /// # Errors
    /// That of `ask`; or when more questions are being asked than may be kept.
    pub async fn get<F>(&self, question: K, ask: F) -> Result<V, Failed>
    where
        F: FnOnce(&K) -> BoxFuture<'static, Result<V, Failed>>,
    {
        let asked = {
            // Looked up and put in under one lock: so that two who come at once do not both ask.
            let mut slots = lock(&self.slots);
            match slots.get(&question) {
                Some(Slot::Known { answer, until }) if Instant::now() < *until => return Ok(answer.clone()),
                // One whose end was never told, because asking panicked, is asked anew.
                Some(Slot::Asked(asked)) if !matches!(asked.peek(), Some(Err(_))) => asked.clone(),
                _ => {
                    self.make_room(&mut slots, &question)?;
                    let (tell, asked) = oneshot::channel();
                    let asked = asked.shared();
                    slots.insert(question.clone(), Slot::Asked(asked.clone()));
                    let answer = ask(&question);
                    tokio::spawn(settle(Arc::clone(&self.slots), self.keep, question, answer, tell));
                    asked
                }
            }
        };
        asked.await.unwrap_or_else(|_| Err(Failed::new("the question was given up")))
    }

    fn make_room(&self, slots: &mut Slots<K, V>, question: &K) -> Result<(), Failed> {
        if slots.len() < self.capacity || slots.contains_key(question) {
            return Ok(());
        }
        let now = Instant::now();
        slots.retain(|_, slot| !matches!(slot, Slot::Known { until, .. } if *until <= now));
        if slots.len() >= self.capacity {
            let known = slots.iter().find(|(_, slot)| matches!(slot, Slot::Known { .. }));
            let victim = known.map(|(question, _)| question.clone());
            slots.remove(&victim.ok_or_else(|| Failed::new("too many questions at once"))?);
        }
        Ok(())
    }
}

/// Waits for the answer, keeps it, and tells it to all who wait.
async fn settle<K: Eq + Hash, V: Clone>(
    slots: Arc<Mutex<Slots<K, V>>>,
    keep: Duration,
    question: K,
    answer: BoxFuture<'static, Result<V, Failed>>,
    tell: oneshot::Sender<Result<V, Failed>>,
) {
    let answer = answer.await;
    {
        let mut slots = lock(&slots);
        match &answer {
            Ok(answer) => {
                slots.insert(question, Slot::Known { answer: answer.clone(), until: Instant::now() + keep });
            }
            Err(_) => drop(slots.remove(&question)),
        }
    }
    // Whoever asked may be gone.
    let _ = tell.send(answer);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    async fn count(kept: &Kept<u8, usize>, question: u8, asked: &Arc<AtomicUsize>) -> Result<usize, Failed> {
        let asked = Arc::clone(asked);
        kept.get(question, move |_| async move { Ok(asked.fetch_add(1, Ordering::SeqCst)) }.boxed()).await
    }

    #[tokio::test]
    async fn an_answer_is_kept_and_then_asked_for_anew() {
        let asked = Arc::default();
        let kept = Kept::new(10, LONG);
        assert_eq!(count(&kept, 1, &asked).await, Ok(0));
        assert_eq!(count(&kept, 1, &asked).await, Ok(0));
        assert_eq!(count(&kept, 2, &asked).await, Ok(1));
        let not_kept = Kept::new(10, Duration::ZERO);
        assert_eq!(count(&not_kept, 1, &asked).await, Ok(2));
        assert_eq!(count(&not_kept, 1, &asked).await, Ok(3));
    }

    #[tokio::test]
    async fn many_who_wait_ask_once_and_share_a_failure_that_is_not_kept() {
        let kept = Arc::new(Kept::<u8, u8>::new(10, LONG));
        let asked = Arc::new(AtomicUsize::new(0));
        let (release, held) = oneshot::channel::<()>();
        let held = held.shared();
        let waiters: Vec<_> = (0..5)
            .map(|_| {
                let (kept, asked, held) = (Arc::clone(&kept), Arc::clone(&asked), held.clone());
                let ask = move |_: &u8| {
                    async move {
                        asked.fetch_add(1, Ordering::SeqCst);
                        let _ = held.await;
                        Err(Failed::new("away"))
                    }
                    .boxed()
                };
                tokio::spawn(async move { kept.get(1, ask).await })
            })
            .collect();
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), Err(Failed::new("away")));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(kept.get(1, |_| async { Ok(7) }.boxed()).await, Ok(7));
    }

    #[tokio::test]
    async fn memory_is_bounded_and_old_answers_make_room() {
        let asked = Arc::default();
        let kept = Kept::new(2, LONG);
        for question in 0..100 {
            count(&kept, question, &asked).await.unwrap();
            assert!(lock(&kept.slots).len() <= 2);
        }
    }

    #[tokio::test]
    async fn when_all_room_is_taken_by_questions_more_are_refused() {
        let kept = Arc::new(Kept::<u8, u8>::new(1, LONG));
        let (_never, held) = oneshot::channel::<()>();
        let first = Arc::clone(&kept);
        let ask = |_: &u8| async { held.await.map(|()| 0).map_err(Failed::new) }.boxed();
        let first = tokio::spawn(async move { first.get(1, ask).await });
        while lock(&kept.slots).is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(kept.get(2, |_| async { Ok(1) }.boxed()).await.is_err());
        first.abort();
    }

    #[tokio::test]
    async fn a_question_whose_asker_panicked_is_asked_anew() {
        let kept = Kept::<u8, u8>::new(4, LONG);
        assert!(kept.get(1, |_| async { panic!("for a test") }.boxed()).await.is_err());
        assert_eq!(kept.get(1, |_| async { Ok(1) }.boxed()).await, Ok(1));
    }
}
