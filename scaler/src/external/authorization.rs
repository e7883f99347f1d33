//! Whether a user may: a user and an action in; yes or no out.

use std::sync::Arc;
use std::time::Duration;

use crate::external::identity::User;
use crate::external::kept::Failed;
use crate::external::kept::Kept;
use crate::external::review::Action;
use crate::external::review::Reviewer;

/// How long a yes and a no are kept; Kubernetes' own time.
const KEEP: Duration = Duration::from_secs(10);
const DECISIONS: usize = 4096;
/// Apart, so that whoever sends anything without a name does not push out what is known of others.
const DECISIONS_ON_ANONYMOUS: usize = 256;

/// Tells whether a user may. `system:masters` may; all others, kube-apiserver knows about.
#[derive(Debug)]
pub struct Authorizer {
    reviewer: Arc<dyn Reviewer>,
    decisions: Kept<(User, Action), bool>,
    on_anonymous: Kept<(User, Action), bool>,
}

impl Authorizer {
    /// Asks `reviewer`, and keeps what it says for 10 s: so long a right that is taken away, or given, may go unseen.
    pub fn new(reviewer: Arc<dyn Reviewer>) -> Self {
        Self { reviewer, decisions: Kept::new(DECISIONS, KEEP), on_anonymous: Kept::new(DECISIONS_ON_ANONYMOUS, KEEP) }
    }

    /// Returns whether `user` may.
    ///
    /// # Errors
    /// Where it cannot be found out; that is no yes.
    pub async fn may(&self, user: User, action: Action) -> Result<bool, Failed> {
        if user.is_master() {
            return Ok(true);
        }
        let decisions = if user.is_anonymous() { &self.on_anonymous } else { &self.decisions };
        decisions.get((user, action), |(user, action)| self.reviewer.access(user, action)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;

    use super::*;

    /// Lets alice list, knows nothing of eve, and counts.
    #[derive(Debug, Default)]
    struct Rights(AtomicUsize);

    impl Reviewer for Rights {
        fn token(&self, _: String) -> BoxFuture<'static, Result<Option<User>, Failed>> {
            async { Ok(None) }.boxed()
        }

        fn access(&self, user: &User, action: &Action) -> BoxFuture<'static, Result<bool, Failed>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let lists = matches!(action, Action::Metric { verb: "list", .. });
            let answer = if user.name == "eve" { Err(Failed::new("away")) } else { Ok(user.name == "alice" && lists) };
            async { answer }.boxed()
        }
    }

    fn user(name: &str, groups: &[&str]) -> User {
        let groups = groups.iter().map(ToString::to_string).collect();
        User { name: name.to_owned(), groups, ..User::anonymous() }
    }

    fn action(verb: &'static str) -> Action {
        Action::Metric { namespace: "shop".to_owned(), metric: "load".to_owned(), verb }
    }

    #[tokio::test]
    async fn yes_and_no_are_kept_and_a_failure_is_neither() {
        let rights = Arc::new(Rights::default());
        let authorizer = Authorizer::new(Arc::clone(&rights) as Arc<dyn Reviewer>);
        for _ in 0..3 {
            assert_eq!(authorizer.may(user("alice", &[]), action("list")).await, Ok(true));
            assert_eq!(authorizer.may(user("bob", &[]), action("list")).await, Ok(false));
            assert_eq!(authorizer.may(user("alice", &[]), action("watch")).await, Ok(false));
        }
        assert_eq!(rights.0.load(Ordering::SeqCst), 3);
        for tries in 4..6 {
            assert_eq!(authorizer.may(user("eve", &[]), action("list")).await, Err(Failed::new("away")));
            assert_eq!(rights.0.load(Ordering::SeqCst), tries);
        }
    }

    #[tokio::test]
    async fn a_flood_without_a_name_pushes_nobody_out() {
        let rights = Arc::new(Rights::default());
        let authorizer = Authorizer::new(Arc::clone(&rights) as Arc<dyn Reviewer>);
        authorizer.may(user("alice", &[]), action("list")).await.unwrap();
        let flood = DECISIONS + 10;
        for number in 0..flood {
            let path = Action::Path { path: format!("/{number}"), verb: "get".to_owned() };
            assert_eq!(authorizer.may(User::anonymous(), path).await, Ok(false));
        }
        authorizer.may(user("alice", &[]), action("list")).await.unwrap();
        assert_eq!(rights.0.load(Ordering::SeqCst), flood + 1);
    }

    #[tokio::test]
    async fn groups_make_another_user_and_masters_need_not_be_asked_about() {
        let rights = Arc::new(Rights::default());
        let authorizer = Authorizer::new(Arc::clone(&rights) as Arc<dyn Reviewer>);
        assert_eq!(authorizer.may(user("eve", &["system:masters"]), action("delete")).await, Ok(true));
        assert_eq!(rights.0.load(Ordering::SeqCst), 0);
        authorizer.may(user("alice", &["a"]), action("list")).await.unwrap();
        authorizer.may(user("alice", &["b"]), action("list")).await.unwrap();
        assert_eq!(rights.0.load(Ordering::SeqCst), 2);
    }
}
