//! Basic authentication (RFC 7617): users with bcrypt hashes and the header of a request in; whether it may pass out.
//!
//! bcrypt is slow on purpose, and a scrape comes each few seconds. So what was found out is kept, not as passwords but as
//! their digests under a key that lives as long as the process; and one bcrypt runs at a time, in a thread of its own.

use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

/// Wrong pairs of user and password that are kept: enough for a few clients that were set up badly, and come again and again.
const REFUSED: usize = 64;
/// Requests that may wait for their turn at bcrypt; more are turned away, so that a flood of guesses holds no memory.
const WAITING: usize = 64;
/// bcrypt's own bounds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// Who may pass, and by which hash.
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// A hash that no password has, as costly as the costliest: a name that does not exist takes as long as one that does.
    nobody: String,
}

impl Users {
    /// Returns the users, or for each whose hash is none the name and why.
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Result<Self, Vec<(String, String)>> {
        let cost = |hash: &str| match HashParts::from_str(hash).map(|parts| parts.get_cost()) {
            Ok(cost) if COSTS.contains(&cost) => Ok(cost),
            Ok(cost) => Err(format!("bcrypt has no cost {cost}; take one from 4 to 31, such as 10")),
            // Not the library's words alone: the value may be a password in clear, and is not repeated.
            Err(_) => Err("is no bcrypt hash; make one with: htpasswd -nBC 10 USER".to_owned()),
        };
        let mut highest = *COSTS.start();
        let mut wrong = Vec::new();
        for (name, hash) in &hashes {
            match cost(hash) {
                Ok(cost) => highest = highest.max(cost),
                Err(why) => wrong.push((name.clone(), why)),
            }
        }
        if wrong.is_empty() {
            let nobody = format!("$2b${highest:02}${}", ".".repeat(53));
            Ok(Self { hashes, nobody })
        } else {
            Err(wrong)
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }
}

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may.
    Pass,
    /// It brings no user, or not with the right password.
    Refused,
    /// Too many others are being looked at.
    Busy,
}

type Tag = [u8; 32];

/// Looks at requests.
pub(super) struct Gate {
    key: hmac::Key,
    known: Mutex<Known>,
    turn: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// What was found out. A user has one password, so `passed` is bounded by the users; guesses cannot drive it out.
#[derive(Default)]
struct Known {
    passed: BTreeMap<String, Tag>,
    refused: VecDeque<Tag>,
}

impl Gate {
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn new() -> Result<Self, ring::error::Unspecified> {
        Ok(Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())?,
            known: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            places: Arc::new(Semaphore::new(WAITING)),
        })
    }

    /// Looks at a request by its `Authorization`.
    pub(super) async fn look(&self, users: &Users, authorization: Option<&HeaderValue>) -> Verdict {
        let Some((name, password)) = authorization.and_then(credentials) else { return Verdict::Refused };
        let hash = users.hashes.get(&name);
        // With the hash: a new one makes what was found out with the old one worthless.
        let tag = self.tag(&name, hash, &password);
        if let Some(verdict) = self.known(&name, hash.is_some(), &tag) {
            return verdict;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return Verdict::Busy };
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return Verdict::Busy };
        // Another request may have brought the same, and been first.
        if let Some(verdict) = self.known(&name, hash.is_some(), &tag) {
            return verdict;
        }
        let tried = hash.unwrap_or(&users.nobody).clone();
        let right = tokio::task::spawn_blocking(move || {
            let right = bcrypt::verify(password, &tried).unwrap_or(false);
            // Held by the thread, which goes on when the client goes away.
            drop((turn, place));
            right
        });
        let passes = right.await.unwrap_or(false) && hash.is_some();
        self.note(name, hash.is_some(), tag, passes);
        if passes { Verdict::Pass } else { Verdict::Refused }
    }

    fn tag(&self, name: &str, hash: Option<&String>, password: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name.as_bytes(), hash.map_or(&[][..], |hash| hash.as_bytes()), password] {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }

    /// What is known of a tag. The comparison may tell how much of it was right: nobody can make a tag without the key.
    fn known(&self, name: &str, exists: bool, tag: &Tag) -> Option<Verdict> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if exists && known.passed.get(name) == Some(tag) {
            Some(Verdict::Pass)
        } else {
            known.refused.contains(tag).then_some(Verdict::Refused)
        }
    }

    fn note(&self, name: String, exists: bool, tag: Tag, passes: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if passes && exists {
            known.passed.insert(name, tag);
        } else {
            if known.refused.len() == REFUSED {
                known.refused.pop_front();
            }
            known.refused.push_back(tag);
        }
    }
}

/// Reads `Basic base64(name:password)`; a name has no colon.
fn credentials(authorization: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = authorization.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut name = STANDARD.decode(encoded).ok()?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let password = name.split_off(colon + 1);
    name.truncate(colon);
    Some((String::from_utf8(name).ok()?, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(list: &[(&str, &str)]) -> Users {
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        Users::new(list.iter().map(|(name, password)| ((*name).to_owned(), hash(password))).collect())
            .unwrap_or_else(|wrong| panic!("{wrong:?}"))
    }

    fn basic(name: &str, password: &str) -> HeaderValue {
        format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))).parse().unwrap()
    }

    async fn look(gate: &Gate, users: &Users, header: &HeaderValue) -> Verdict {
        gate.look(users, Some(header)).await
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_user_passes_the_first_time_and_again() {
        let (gate, users) = (Gate::new().unwrap(), users(&[("ann", "a:b c"), ("bob", "")]));
        for _ in 0..2 {
            for (header, verdict) in [
                (basic("ann", "a:b c"), Verdict::Pass),
                (basic("bob", ""), Verdict::Pass),
                (basic("ann", "a:b"), Verdict::Refused),
                (basic("ann", ""), Verdict::Refused),
                (basic("bob", "a:b c"), Verdict::Refused),
                (basic("eve", "a:b c"), Verdict::Refused),
                (basic("", ""), Verdict::Refused),
            ] {
                assert_eq!(look(&gate, &users, &header).await, verdict, "{header:?}");
            }
        }
        assert_eq!(gate.look(&users, None).await, Verdict::Refused);
    }

    #[test]
    fn what_is_not_basic_authentication_is_nobody() {
        let read = |text: &str| credentials(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("basic YTpiOmM="), Some(("a".to_owned(), b"b:c".to_vec())));
        for text in ["Basic", "Basic ", "Basic YTpi!", "Basic YWI=", "Bearer YTpi", "YTpi", "Basic YTpi YTpi"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn a_new_hash_counts_at_once_and_a_user_that_went_is_nobody() {
        let gate = Gate::new().unwrap();
        let before = users(&[("ann", "old")]);
        assert_eq!(look(&gate, &before, &basic("ann", "old")).await, Verdict::Pass);
        let after = users(&[("ann", "new")]);
        assert_eq!(look(&gate, &after, &basic("ann", "old")).await, Verdict::Refused);
        assert_eq!(look(&gate, &after, &basic("ann", "new")).await, Verdict::Pass);
        assert_eq!(look(&gate, &users(&[("bob", "new")]), &basic("ann", "new")).await, Verdict::Refused);
    }

    /// Where bcrypt has no turn to give, only what is known can be answered.
    #[tokio::test]
    async fn what_is_known_costs_no_bcrypt_and_guesses_do_not_drive_it_out() {
        let (gate, users) = (Gate::new().unwrap(), users(&[("ann", "right")]));
        assert_eq!(look(&gate, &users, &basic("ann", "right")).await, Verdict::Pass);
        for guess in 0..REFUSED + 3 {
            assert_eq!(look(&gate, &users, &basic("ann", &guess.to_string())).await, Verdict::Refused);
        }
        assert_eq!(gate.known.lock().unwrap().refused.len(), REFUSED);
        let _turn = gate.turn.acquire().await.unwrap();
        assert_eq!(look(&gate, &users, &basic("ann", "right")).await, Verdict::Pass);
        assert_eq!(look(&gate, &users, &basic("ann", &(REFUSED + 2).to_string())).await, Verdict::Refused);
        let another = basic("ann", "another");
        let unknown = tokio::time::timeout(std::time::Duration::from_millis(50), look(&gate, &users, &another));
        assert!(unknown.await.is_err(), "it waits for bcrypt");
    }

    #[tokio::test]
    async fn a_flood_is_turned_away() {
        let (gate, users) = (Gate::new().unwrap(), users(&[("ann", "right")]));
        let _places = gate.places.acquire_many(WAITING as u32).await.unwrap();
        assert_eq!(look(&gate, &users, &basic("ann", "guess")).await, Verdict::Busy);
    }

    #[test]
    fn a_user_that_does_not_exist_is_as_costly_as_the_costliest() {
        let hash = |cost| bcrypt::hash("x", cost).unwrap();
        let users = Users::new([("a".to_owned(), hash(4)), ("b".to_owned(), hash(6))].into()).ok().unwrap();
        assert_eq!(HashParts::from_str(&users.nobody).unwrap().get_cost(), 6);
        assert!(!bcrypt::verify("", &users.nobody).unwrap() && !bcrypt::verify("fakepassword", &users.nobody).unwrap());
    }

    #[test]
    fn a_hash_that_is_none_is_said_without_it() {
        let wrong = [
            ("a", "hunter2"),
            ("b", "$2y$99$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"),
            ("c", "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"),
        ];
        let wrong = Users::new(wrong.map(|(name, hash)| (name.to_owned(), hash.to_owned())).into()).err().unwrap();
        assert_eq!(wrong.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(!wrong[0].1.contains("hunter2") && wrong[1].1.contains("99"), "{wrong:?}");
    }
}
