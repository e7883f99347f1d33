//! What the tasks of a Swarm service tell: how many run, and how long new ones took to. Pure.

use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

use bollard::models::Task;
use bollard::models::TaskState;
use cloudpulse_policy::Replicas;

use crate::target::moment;

/// Start times that are kept for who asks; the oldest go first.
const MAX_KEPT: usize = 1000;

/// What is known from the looks at the tasks.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    ready: Option<Replicas>,
    /// Tasks that ran at the last look; `None` before the first.
    running: Option<HashSet<String>>,
    took: Vec<Duration>,
}

impl Tasks {
    /// Notes all tasks of the service, those that have ended too. Start times are those of tasks that did not run at the
    /// look before and are the first in their slot: one that replaces another waits for its end as well.
    pub(crate) fn look(&mut self, tasks: &[Task]) {
        let running: Vec<&Task> = tasks.iter().filter(|task| runs(task)).collect();
        self.ready = Some(Replicas::try_from(running.len()).unwrap_or(Replicas::MAX));
        let mut in_slot: HashMap<i64, usize> = HashMap::new();
        for slot in tasks.iter().filter_map(|task| task.slot) {
            *in_slot.entry(slot).or_default() += 1;
        }
        if let Some(before) = &self.running {
            let is_new = |task: &&&Task| {
                let first = task.slot.is_some_and(|slot| in_slot.get(&slot) == Some(&1));
                first && task.id.as_ref().is_some_and(|id| !before.contains(id))
            };
            self.took.extend(running.iter().filter(is_new).filter_map(|task| start_time(task)));
            let surplus = self.took.len().saturating_sub(MAX_KEPT);
            self.took.drain(..surplus);
        }
        self.running = Some(running.into_iter().filter_map(|task| task.id.clone()).collect());
    }

    /// Notes that it is not known any more what is ready.
    pub(crate) const fn unknown(&mut self) {
        self.ready = None;
    }

    /// Returns how many tasks ran at the last look; `None` where that is not known.
    pub(crate) const fn ready(&self) -> Option<Replicas> {
        self.ready
    }

    /// Returns how long tasks took from creation until they ran, of those that did since the last call.
    pub(crate) fn take_starts(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.took)
    }
}

fn runs(task: &Task) -> bool {
    let state = task.status.as_ref().and_then(|status| status.state);
    state == Some(TaskState::RUNNING) && task.desired_state == Some(TaskState::RUNNING)
}

/// Returns the time from a task's creation until it ran, which is when its state last changed.
fn start_time(task: &Task) -> Option<Duration> {
    let created = moment::parse(task.created_at.as_deref()?)?;
    moment::parse(task.status.as_ref()?.timestamp.as_deref()?)?.checked_sub(created)
}

#[cfg(test)]
mod tests {
    use bollard::models::TaskStatus;

    use super::*;

    fn task(id: &str, slot: i64, state: TaskState, desired: TaskState) -> Task {
        Task {
            id: Some(id.to_owned()),
            slot: Some(slot),
            created_at: Some("2026-11-25T01:00:00Z".to_owned()),
            desired_state: Some(desired),
            status: Some(TaskStatus {
                timestamp: Some("2026-11-25T01:00:02.5Z".to_owned()),
                state: Some(state),
                ..TaskStatus::default()
            }),
            ..Task::default()
        }
    }

    fn running(id: &str, slot: i64) -> Task {
        task(id, slot, TaskState::RUNNING, TaskState::RUNNING)
    }

    #[test]
    fn ready_is_what_runs_and_is_to_run() {
        let mut tasks = Tasks::default();
        assert_eq!(tasks.ready(), None);
        tasks.look(&[
            running("a", 1),
            task("b", 2, TaskState::STARTING, TaskState::RUNNING),
            task("c", 3, TaskState::RUNNING, TaskState::SHUTDOWN),
            task("d", 4, TaskState::FAILED, TaskState::SHUTDOWN),
        ]);
        assert_eq!(tasks.ready(), Some(1));
        tasks.unknown();
        assert_eq!(tasks.ready(), None);
        tasks.look(&[]);
        assert_eq!(tasks.ready(), Some(0));
    }

    #[test]
    fn start_times_are_those_of_new_replicas() {
        let mut tasks = Tasks::default();
        tasks.look(&[running("a", 1)]);
        assert!(tasks.take_starts().is_empty(), "it ran before the first look");
        tasks.look(&[running("a", 1), task("b", 2, TaskState::STARTING, TaskState::RUNNING)]);
        assert!(tasks.take_starts().is_empty());
        let failed = task("c", 3, TaskState::FAILED, TaskState::SHUTDOWN);
        let look = [running("a", 1), running("b", 2), failed, running("d", 3), running("e", 4)];
        tasks.look(&look);
        assert_eq!(tasks.take_starts(), [Duration::from_millis(2500); 2], "b and e; d took the place of c");
        tasks.look(&look);
        assert!(tasks.take_starts().is_empty(), "told once");
    }

    #[test]
    fn times_that_are_none_are_no_start_times() {
        let mut tasks = Tasks::default();
        tasks.look(&[]);
        let odd = [
            Task { created_at: None, ..running("a", 1) },
            Task { created_at: Some("2026-11-25T02:00:00Z".to_owned()), ..running("b", 2) },
        ];
        tasks.look(&odd);
        assert_eq!((tasks.ready(), tasks.take_starts()), (Some(2), Vec::new()));
    }
}
