//! How a replica that was started gets on: what the engine says of its container in; ready, failed or still to wait for,
//! out. Pure; the caller gives the time.
//!
//! With a health check a replica is ready when the engine calls it healthy. Without one it is ready as soon as it runs,
//! but has proven nothing before it has run for 10 s, after which the engine too counts a restart as a new beginning.

use std::fmt;
use std::time::Duration;
use std::time::Instant;

use bollard::models::ContainerInspectResponse;
use bollard::models::ContainerStateStatusEnum as Status;
use bollard::models::Health;
use bollard::models::HealthStatusEnum;

use crate::target::moment;

/// How long a replica without health check has to run until it counts as one that works.
const PROBATION: Duration = Duration::from_secs(10);
/// How much of what a health check said is kept.
const MAX_OUTPUT: usize = 200;

/// What the engine says of a container, cut to what matters here. Times are since the epoch, by the engine's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Look {
    phase: Phase,
    check: Check,
    created: Option<Duration>,
    started: Option<Duration>,
    /// The state in the engine's word, with the exit code where it has ended.
    state: String,
    restarts: i64,
    last_output: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    Running,
    Ended,
    #[default]
    Between,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Check {
    #[default]
    None,
    Starting,
    /// Since when, where the engine still knows.
    Healthy(Option<Duration>),
    Unhealthy,
}

/// Why a replica does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Name of the container.
    pub(crate) name: String,
    /// What it did instead: `ended (exited, exit code 3)`.
    pub(crate) what: String,
    /// The last that its health check said, cut to 200 characters.
    pub(crate) last_output: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.what)?;
        match &self.last_output {
            Some(output) => write!(f, ", its health check last said {output:?}"),
            None => Ok(()),
        }
    }
}

/// What a look brought; several at once are possible.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// It became ready, after so long.
    pub(crate) took: Option<Duration>,
    /// It works, which says that others started like it would too.
    pub(crate) proven: bool,
    /// It does not work. Said once of a replica.
    pub(crate) failure: Option<Failure>,
    /// There is nothing more to wait for.
    pub(crate) over: bool,
}

/// A replica that was started, until it is ready, ended or given up.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) id: String,
    name: String,
    at: Instant,
    /// How long starting it again took; `None` for a new one.
    again: Option<Duration>,
    /// Which start of the container runs, and since when it was seen to.
    run: Option<(Option<Duration>, Instant)>,
    ready: bool,
    failed: bool,
}

impl Started {
    /// Notes a container that was started at `at`. `again` is how long it took to start one that was there already; its
    /// time counts from that start, that of a new one from its creation.
    pub(crate) const fn new(id: String, name: String, at: Instant, again: Option<Duration>) -> Self {
        Self { id, name, at, again, run: None, ready: false, failed: false }
    }

    /// Returns what a look at `now` brings; `None` is one that the engine did not answer. After `patience` it is over.
    pub(crate) fn look(&mut self, look: Option<&Look>, patience: Duration, now: Instant) -> News {
        let mut news = look.map_or_else(News::default, |look| self.progress(look, now));
        if !news.over && now.saturating_duration_since(self.at) >= patience {
            news.over = true;
            let state = look.map_or("unknown", |look| look.state.as_str());
            let what = format!("is not ready after {} s (state {state})", patience.as_secs());
            self.fail(&mut news, what, look);
        }
        news
    }

    fn progress(&mut self, look: &Look, now: Instant) -> News {
        let mut news = News::default();
        match (look.phase, look.check) {
            (Phase::Ended, _) => {
                news.over = true;
                self.fail(&mut news, format!("ended ({})", look.state), Some(look));
            }
            (Phase::Running, Check::Healthy(since)) => {
                news = News { took: self.took(look, since, now), proven: true, failure: None, over: true };
            }
            (Phase::Running, Check::None) => {
                let since = match self.run {
                    Some((run, since)) if run == look.started => since,
                    _ => now,
                };
                self.run = Some((look.started, since));
                let proven = now.saturating_duration_since(since) >= PROBATION;
                if look.restarts == 0 || proven {
                    news.took = self.took(look, look.started, now);
                }
                (news.proven, news.over) = (proven, proven);
            }
            (Phase::Running, Check::Unhealthy) => {
                self.fail(&mut news, format!("is unhealthy ({})", look.state), Some(look));
            }
            (Phase::Running, Check::Starting) | (Phase::Between, _) => {}
        }
        news
    }

    /// Returns how long it took to be ready at `ready`, the first time that it is; by our clock where the engine's times
    /// are not known.
    fn took(&mut self, look: &Look, ready: Option<Duration>, now: Instant) -> Option<Duration> {
        if std::mem::replace(&mut self.ready, true) {
            return None;
        }
        let from = if self.again.is_some() { look.started } else { look.created };
        let by_engine = ready.zip(from).and_then(|(ready, from)| ready.checked_sub(from));
        let took = by_engine.map(|took| took + self.again.unwrap_or_default());
        Some(took.unwrap_or_else(|| now.saturating_duration_since(self.at)))
    }

    fn fail(&mut self, news: &mut News, what: String, look: Option<&Look>) {
        if !std::mem::replace(&mut self.failed, true) {
            let last_output = look.and_then(|look| look.last_output.clone());
            news.failure = Some(Failure { name: self.name.clone(), what, last_output });
        }
    }
}

impl Look {
    /// Returns what matters of an inspected container.
    pub(crate) fn of(container: ContainerInspectResponse) -> Self {
        let created = container.created.as_deref().and_then(moment::parse);
        let Some(state) = container.state else { return Self { created, ..Self::default() } };
        let started = state.started_at.as_deref().and_then(moment::parse);
        let status = state.status.unwrap_or(Status::EMPTY);
        let phase = match status {
            Status::RUNNING => Phase::Running,
            Status::EXITED | Status::DEAD => Phase::Ended,
            _ => Phase::Between,
        };
        let words = match (phase, state.exit_code) {
            (Phase::Ended, Some(code)) => format!("{status}, exit code {code}"),
            _ => status.to_string(),
        };
        Self {
            phase,
            check: state.health.as_ref().map_or(Check::None, |health| check(health, started)),
            created,
            started,
            state: words,
            restarts: container.restart_count.unwrap_or(0),
            last_output: state.health.and_then(last_output),
        }
    }
}

fn check(health: &Health, started: Option<Duration>) -> Check {
    match health.status {
        Some(HealthStatusEnum::HEALTHY) => Check::Healthy(healthy_since(health, started)),
        Some(HealthStatusEnum::UNHEALTHY) => Check::Unhealthy,
        Some(HealthStatusEnum::STARTING) => Check::Starting,
        Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => Check::None,
    }
}

/// Returns the end of the first check that went well after the last that did not, among those that the engine keeps of
/// this start.
fn healthy_since(health: &Health, started: Option<Duration>) -> Option<Duration> {
    let mut since = None;
    for result in health.log.iter().flatten() {
        let end = result.end.as_deref().and_then(moment::parse);
        if result.exit_code != Some(0) {
            since = None;
        } else if since.is_none() && end >= started {
            since = end;
        }
    }
    since
}

fn last_output(health: Health) -> Option<String> {
    let output = health.log?.pop()?.output?;
    let output: String = output.trim().chars().take(MAX_OUTPUT).collect();
    (!output.is_empty()).then_some(output)
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerState;
    use bollard::models::HealthcheckResult;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(600);

    fn inspected(status: Status, health: Option<Health>) -> ContainerInspectResponse {
        ContainerInspectResponse {
            created: Some("2026-11-25T01:00:00Z".to_owned()),
            state: Some(ContainerState {
                status: Some(status),
                exit_code: Some(3),
                started_at: Some("2026-11-25T01:00:00.5Z".to_owned()),
                health,
                ..ContainerState::default()
            }),
            ..ContainerInspectResponse::default()
        }
    }

    fn health(status: HealthStatusEnum, log: &[(i64, &str)]) -> Option<Health> {
        let log = log.iter().map(|(code, end)| HealthcheckResult {
            exit_code: Some(*code),
            end: Some(format!("2026-11-25T{end}")),
            output: Some(format!(" said {code} {}\n", "x".repeat(300))),
            ..HealthcheckResult::default()
        });
        Some(Health { status: Some(status), failing_streak: None, log: Some(log.collect()) })
    }

    fn started(again: Option<Duration>) -> (Started, Instant) {
        let now = Instant::now();
        (Started::new("id".to_owned(), "web-2".to_owned(), now, again), now)
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn healthy_is_ready_since_the_first_good_check() {
        let look = |status, log: &[_]| Look::of(inspected(status, health(HealthStatusEnum::HEALTHY, log)));
        let log = [(0, "00:59:59Z"), (1, "01:00:02Z"), (0, "03:00:03.25+02:00"), (0, "01:00:05Z")];
        let (mut replica, now) = started(None);
        let starting = Look::of(inspected(Status::RUNNING, health(HealthStatusEnum::STARTING, &log[..2])));
        assert_eq!(replica.look(Some(&starting), PATIENCE, now + seconds(1)), News::default());
        let news = replica.look(Some(&look(Status::RUNNING, &log)), PATIENCE, now + seconds(5));
        let expected = News { took: Some(Duration::from_millis(3250)), proven: true, failure: None, over: true };
        assert_eq!(news, expected);
        // One started again counts from that start, with what the engine took for it.
        let (mut replica, now) = started(Some(Duration::from_millis(100)));
        let news = replica.look(Some(&look(Status::RUNNING, &log)), PATIENCE, now + seconds(5));
        assert_eq!(news.took, Some(Duration::from_millis(2850)));
        // Where the engine no longer knows, our clock does.
        let (mut replica, now) = started(None);
        let news = replica.look(Some(&look(Status::RUNNING, &log[..1])), PATIENCE, now + seconds(5));
        assert_eq!(news.took, Some(seconds(5)));
    }

    #[test]
    fn without_a_check_it_is_ready_when_it_runs_and_proven_later() {
        let (mut replica, now) = started(None);
        let look = Look::of(inspected(Status::RUNNING, None));
        let news = replica.look(Some(&look), PATIENCE, now + seconds(1));
        assert_eq!(news, News { took: Some(Duration::from_millis(500)), ..News::default() });
        assert_eq!(replica.look(Some(&look), PATIENCE, now + seconds(2)), News::default(), "told once");
        let news = replica.look(Some(&look), PATIENCE, now + seconds(11));
        assert_eq!(news, News { proven: true, over: true, ..News::default() });
    }

    #[test]
    fn one_that_ends_again_and_again_proves_nothing() {
        let (mut replica, now) = started(None);
        for second in 1..40 {
            let mut container = inspected(Status::RUNNING, None);
            container.restart_count = Some(1);
            container.state.as_mut().unwrap().started_at = Some(format!("2026-11-25T01:00:{:02}Z", second / 9 * 9));
            let news = replica.look(Some(&Look::of(container)), PATIENCE, now + seconds(second));
            assert_eq!(news, News::default(), "{second}");
        }
    }

    #[test]
    fn an_end_is_a_failure_with_its_code() {
        let (mut replica, now) = started(None);
        replica.look(Some(&Look::of(inspected(Status::RUNNING, None))), PATIENCE, now + seconds(1));
        let ended = Look::of(inspected(Status::EXITED, None));
        let news = replica.look(Some(&ended), PATIENCE, now + seconds(3));
        assert!(news.over && !news.proven);
        assert_eq!(news.failure.unwrap().to_string(), "web-2 ended (exited, exit code 3)");
    }

    #[test]
    fn unhealthy_is_a_failure_said_once_and_may_still_get_well() {
        let (mut replica, now) = started(None);
        let sick = Look::of(inspected(Status::RUNNING, health(HealthStatusEnum::UNHEALTHY, &[(1, "01:00:02Z")])));
        let failure = replica.look(Some(&sick), PATIENCE, now + seconds(3)).failure.unwrap();
        let output = failure.last_output.clone().unwrap();
        assert_eq!((output.chars().count(), output.starts_with("said 1 xx")), (200, true));
        assert!(failure.to_string().starts_with("web-2 is unhealthy (running), its health check last said \"said 1"));
        assert_eq!(replica.look(Some(&sick), PATIENCE, now + seconds(4)), News::default());
        let well = Look::of(inspected(Status::RUNNING, health(HealthStatusEnum::HEALTHY, &[(0, "01:00:09Z")])));
        assert_eq!(replica.look(Some(&well), PATIENCE, now + seconds(10)).took, Some(seconds(9)));
    }

    #[test]
    fn patience_ends() {
        let (mut replica, now) = started(None);
        let log = [(1, "01:00:02Z")];
        let starting = Look::of(inspected(Status::RUNNING, health(HealthStatusEnum::STARTING, &log)));
        assert_eq!(replica.look(Some(&starting), PATIENCE, now + seconds(599)), News::default());
        let news = replica.look(Some(&starting), PATIENCE, now + seconds(600));
        let words = news.failure.unwrap().to_string();
        assert!(news.over && words.starts_with("web-2 is not ready after 600 s (state running)"), "{words}");
        let (mut replica, now) = started(None);
        assert_eq!(replica.look(None, PATIENCE, now + seconds(1)), News::default());
        let words = replica.look(None, PATIENCE, now + PATIENCE).failure.unwrap().to_string();
        assert_eq!(words, "web-2 is not ready after 600 s (state unknown)");
    }
}
