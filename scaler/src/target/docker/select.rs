//! Which containers belong to a group, and what has to be done to have so many. Pure.
//!
//! In: the engine's list of containers. Out: the members in order of their number, and a plan.

use std::collections::HashSet;

use bollard::models::ContainerSummary;
use bollard::models::ContainerSummaryStateEnum as State;

use crate::target::TargetError;
use crate::target::docker::group::Group;
use crate::target::docker::group::PROJECT_LABEL;
use crate::target::docker::group::REPLICA_LABEL;
use crate::target::docker::group::SERVICE_LABEL;

const ONEOFF_LABEL: &str = "com.docker.compose.oneoff";
const CONFIG_HASH_LABEL: &str = "com.docker.compose.config-hash";
const SWARM_LABEL: &str = "com.docker.swarm.service.name";

/// A container of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    /// Without the leading slash.
    pub(crate) name: String,
    /// Its number among the replicas.
    pub(crate) number: u32,
    /// Whether it was made here, and not by Compose or by hand.
    pub(crate) made: bool,
    pub(crate) life: Life,
    /// Whether it runs and, where it has a health check, is healthy.
    pub(crate) ready: bool,
    /// Networks that it is connected to.
    pub(crate) networks: HashSet<String>,
    pub(crate) config_hash: Option<String>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It runs, or the engine brings it up again.
    Up,
    /// It could be started.
    Stopped,
    /// It could be started, and never was.
    Created,
    /// It is going away.
    Leaving,
}

/// What has to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan<'m> {
    /// It is as it should be.
    Nothing,
    /// Start these, then create so many like `template` with numbers from `first_number` on.
    Up { start: Vec<&'m Member>, create: u32, first_number: u32, template: &'m Member },
    /// Stop `remove` and remove them; then stop `keep`, which stay.
    Down { remove: Vec<&'m Member>, keep: Vec<&'m Member> },
}

/// Returns the members of the group among `containers`, in ascending number. The engine filters by label too; what is of
/// another project or service, started by `compose run`, or a task of Swarm is never a member. Those in `stopping` count
/// as leaving.
///
/// # Errors
/// [`TargetError::NotScalable`] where tasks of a Swarm service are all there is, or a container with the label of a group
/// is of a Compose project.
pub(crate) fn members(
    containers: Vec<ContainerSummary>,
    group: &Group,
    stopping: &HashSet<String>,
) -> Result<Vec<Member>, TargetError> {
    let mut swarm_service = None;
    let mut members = Vec::new();
    for container in containers {
        let labels = container.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).map(String::as_str);
        let oneoff = label(ONEOFF_LABEL).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if !group.has(&labels) || oneoff {
            continue;
        }
        if let Some(name) = label(SWARM_LABEL) {
            swarm_service = Some(name.to_owned());
            continue;
        }
        let Some(id) = container.id else { continue };
        let name = container.names.unwrap_or_default().into_iter().next().unwrap_or_default();
        let name = name.trim_start_matches('/').to_owned();
        if let (Group::Labelled { .. }, Some(project)) = (group, label(PROJECT_LABEL)) {
            let service = label(SERVICE_LABEL).unwrap_or_default();
            return Err(TargetError::NotScalable(format!(
                "container {name} of {group} belongs to the Compose project {project}; use docker: {{project: {project}, service: {service}}}"
            )));
        }
        let life = if stopping.contains(&id) { Life::Leaving } else { life(container.state) };
        let runs = container.state == Some(State::RUNNING);
        members.push(Member {
            id,
            name,
            number: group.number(&labels),
            made: labels.contains_key(REPLICA_LABEL),
            life,
            ready: life == Life::Up && runs && passes_check(container.status.as_deref()),
            networks: container
                .network_settings
                .and_then(|settings| settings.networks)
                .map(|networks| networks.into_keys().collect())
                .unwrap_or_default(),
            config_hash: label(CONFIG_HASH_LABEL).map(str::to_owned),
        });
    }
    if let (true, Some(name)) = (members.is_empty(), swarm_service) {
        return Err(TargetError::NotScalable(format!(
            "the containers of {group} are tasks of the Swarm service {name}, which are never cloned; use swarm: {{service: {name}}}"
        )));
    }
    members.sort_by(|a, b| a.number.cmp(&b.number).then_with(|| a.made.cmp(&b.made)).then_with(|| a.name.cmp(&b.name)));
    Ok(members)
}

/// Returns how many members are up.
pub(crate) fn count_up(members: &[Member]) -> u32 {
    u32::try_from(members.iter().filter(|member| member.life == Life::Up).count()).unwrap_or(u32::MAX)
}

/// Returns how many members could serve.
pub(crate) fn count_ready(members: &[Member]) -> u32 {
    u32::try_from(members.iter().filter(|member| member.ready).count()).unwrap_or(u32::MAX)
}

/// Returns what brings the members to `desired` that are up. Stopped members of the same configuration are started
/// before any is created; the highest numbers are stopped first.
///
/// # Errors
/// [`TargetError::NotFound`] where there is no container, and so nothing to start or to clone, and
/// [`TargetError::NotScalable`] where only some of the containers would have to be stopped that were not made here.
pub(crate) fn plan<'m>(members: &'m [Member], desired: u32, group: &Group) -> Result<Plan<'m>, TargetError> {
    let up = count_up(members);
    if up == desired {
        return Ok(Plan::Nothing);
    }
    if up > desired {
        return down(members, desired, group);
    }
    let template = members
        .iter()
        .rev()
        .max_by_key(|member| match member.life {
            Life::Up => 2,
            Life::Stopped | Life::Created => 1,
            Life::Leaving => 0,
        })
        .ok_or_else(|| group.absent())?;
    let startable = |member: &&Member| {
        matches!(member.life, Life::Stopped | Life::Created) && member.config_hash == template.config_hash
    };
    let start: Vec<&Member> = members.iter().filter(startable).take((desired - up) as usize).collect();
    let create = desired - up - start.len() as u32;
    let first_number = members.iter().map(|member| member.number).max().unwrap_or(0).saturating_add(1);
    Ok(Plan::Up { start, create, first_number, template })
}

/// At zero the lowest number of a Compose service stays as template, stopped. Of plain containers, those that were not
/// made here stay at zero, and are stopped only all together.
fn down<'m>(members: &'m [Member], desired: u32, group: &Group) -> Result<Plan<'m>, TargetError> {
    let up = members.iter().filter(|member| member.life == Life::Up);
    let own_template = matches!(group, Group::Labelled { .. })
        && members.iter().any(|member| !member.made && member.life != Life::Leaving);
    let lowest = up.clone().next().filter(|_| desired == 0 && !own_template);
    let stays = |member: &&Member| {
        matches!(group, Group::Labelled { .. }) && !member.made || lowest.is_some_and(|lowest| lowest.id == member.id)
    };
    let (staying, others): (Vec<&Member>, Vec<&Member>) = up.partition(stays);
    if desired > 0 && others.is_empty() {
        let count = staying.len();
        return Err(TargetError::NotScalable(format!(
            "{group} has {count} containers that were not made by the scaler, which stops them only all together, at 0 replicas, and {desired} are desired; set minReplicas to {count}"
        )));
    }
    let left = (desired as usize).saturating_sub(staying.len()).min(others.len());
    // What was never started is what a scaler that was killed left half-made.
    let half_made = members.iter().filter(|member| member.made && member.life == Life::Created);
    let remove = half_made.chain(others[left..].iter().rev().copied()).collect();
    Ok(Plan::Down { remove, keep: if desired == 0 { staying } else { Vec::new() } })
}

/// Returns whether the health check is passed, by the status in the engine's words, such as `Up 3 seconds (healthy)`. One
/// without a health check passes.
fn passes_check(status: Option<&str>) -> bool {
    status.is_none_or(|status| !["(health: starting)", "(unhealthy)"].iter().any(|words| status.ends_with(words)))
}

fn life(state: Option<State>) -> Life {
    match state {
        Some(State::RUNNING | State::RESTARTING | State::PAUSED) => Life::Up,
        Some(State::EXITED) => Life::Stopped,
        Some(State::CREATED) => Life::Created,
        Some(State::REMOVING | State::DEAD | State::STOPPING | State::EMPTY) | None => Life::Leaving,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::target::docker::group::NUMBER_LABEL;

    fn container(number: u32, state: State, more: &[(&str, &str)]) -> ContainerSummary {
        let number = number.to_string();
        let labels = [
            (PROJECT_LABEL, "shop"),
            (SERVICE_LABEL, "web"),
            (ONEOFF_LABEL, "False"),
            (NUMBER_LABEL, number.as_str()),
            (CONFIG_HASH_LABEL, "h"),
        ];
        ContainerSummary {
            id: Some(format!("id{number}")),
            names: Some(vec![format!("/shop-web-{number}")]),
            state: Some(state),
            labels: Some(
                labels.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ),
            ..ContainerSummary::default()
        }
    }

    fn compose() -> Group {
        Group::Compose { project: "shop".to_owned(), service: "web".to_owned() }
    }

    fn labelled() -> Group {
        Group::Labelled { key: "app".to_owned(), value: "web".to_owned() }
    }

    fn members_of(containers: Vec<ContainerSummary>) -> Vec<Member> {
        members(containers, &compose(), &HashSet::from(["id9".to_owned()])).unwrap()
    }

    /// A plain container with the label; number 0 was not made here.
    fn plain(name: &str, number: u32, state: State) -> ContainerSummary {
        let mut labels = HashMap::from([("app".to_owned(), "web".to_owned())]);
        if number > 0 {
            labels.insert(REPLICA_LABEL.to_owned(), number.to_string());
        }
        ContainerSummary {
            id: Some(format!("id of {name}")),
            names: Some(vec![format!("/{name}")]),
            state: Some(state),
            labels: Some(labels),
            ..ContainerSummary::default()
        }
    }

    fn names<'m>(members: &[&'m Member]) -> Vec<&'m str> {
        members.iter().map(|member| member.name.as_str()).collect()
    }

    fn numbers(members: &[&Member]) -> Vec<u32> {
        members.iter().map(|member| member.number).collect()
    }

    #[test]
    fn strangers_are_never_members() {
        let found = members_of(vec![
            container(1, State::RUNNING, &[]),
            container(2, State::RUNNING, &[(PROJECT_LABEL, "other")]),
            container(3, State::RUNNING, &[(SERVICE_LABEL, "db")]),
            container(4, State::RUNNING, &[(ONEOFF_LABEL, "True")]),
            container(5, State::RUNNING, &[(SWARM_LABEL, "shop_web")]),
            ContainerSummary::default(),
        ]);
        assert_eq!(numbers(&found.iter().collect::<Vec<_>>()), [1]);
    }

    #[test]
    fn tasks_of_swarm_are_refused() {
        let tasks = vec![container(1, State::RUNNING, &[(SWARM_LABEL, "shop_web")])];
        let error = members(tasks, &compose(), &HashSet::new()).unwrap_err();
        assert!(error.to_string().contains("Swarm service shop_web"), "{error}");
    }

    #[test]
    fn stopped_ones_are_started_before_new_ones_are_made() {
        let found = members_of(vec![
            container(3, State::EXITED, &[]),
            container(1, State::RUNNING, &[]),
            container(2, State::CREATED, &[]),
            container(4, State::EXITED, &[(CONFIG_HASH_LABEL, "of an older file")]),
            container(9, State::RUNNING, &[]), // being stopped
        ]);
        assert_eq!(count_up(&found), 1);
        let Plan::Up { start, create, first_number, template } = plan(&found, 5, &compose()).unwrap() else { panic!() };
        assert_eq!((numbers(&start), create, first_number, template.number), (vec![2, 3], 2, 10, 1));
        let Plan::Up { start, create, .. } = plan(&found, 2, &compose()).unwrap() else { panic!() };
        assert_eq!((numbers(&start), create), (vec![2], 0));
    }

    #[test]
    fn ready_is_running_and_not_failing_its_check() {
        let cases = [
            (State::RUNNING, "Up 3 seconds", true),
            (State::RUNNING, "Up 3 seconds (healthy)", true),
            (State::RUNNING, "Up 3 seconds (health: starting)", false),
            (State::RUNNING, "Up 3 minutes (unhealthy)", false),
            (State::PAUSED, "Up 3 minutes (Paused)", false),
            (State::RESTARTING, "Restarting (1) 2 seconds ago", false),
            (State::EXITED, "Exited (0) 2 seconds ago", false),
        ];
        for (state, status, ready) in cases {
            let container = ContainerSummary { status: Some(status.to_owned()), ..container(1, state, &[]) };
            assert_eq!(count_ready(&members_of(vec![container])), u32::from(ready), "{status}");
        }
        assert_eq!(count_ready(&members_of(vec![container(9, State::RUNNING, &[])])), 0, "being stopped");
    }

    #[test]
    fn the_highest_numbers_go_first() {
        let found = members_of((1..=5).map(|number| container(number, State::RUNNING, &[])).collect());
        let Plan::Down { remove, keep } = plan(&found, 2, &compose()).unwrap() else { panic!() };
        assert_eq!((numbers(&remove), numbers(&keep)), (vec![5, 4, 3], vec![]));
        assert_eq!(plan(&found, 5, &compose()).unwrap(), Plan::Nothing);
    }

    #[test]
    fn at_zero_the_lowest_stays_as_template() {
        let found = members_of(vec![
            container(1, State::EXITED, &[]),
            container(2, State::RUNNING, &[]),
            container(3, State::RUNNING, &[]),
        ]);
        let Plan::Down { remove, keep } = plan(&found, 0, &compose()).unwrap() else { panic!() };
        assert_eq!((numbers(&remove), numbers(&keep)), (vec![3], vec![2]));
        let found = members_of(vec![container(2, State::EXITED, &[])]);
        assert_eq!(plan(&found, 0, &compose()).unwrap(), Plan::Nothing);
        let Plan::Up { start, create, first_number, .. } = plan(&found, 3, &compose()).unwrap() else { panic!() };
        assert_eq!((numbers(&start), create, first_number), (vec![2], 2, 3));
    }

    #[test]
    fn what_was_left_half_made_is_started_or_removed() {
        let found = members_of(vec![
            container(1, State::RUNNING, &[]),
            container(2, State::RUNNING, &[]),
            container(3, State::CREATED, &[(REPLICA_LABEL, "3")]),
            container(4, State::CREATED, &[]), // by Compose, which will start it
        ]);
        let Plan::Up { start, create, .. } = plan(&found, 3, &compose()).unwrap() else { panic!() };
        assert_eq!((numbers(&start), create), (vec![3], 0));
        let Plan::Down { remove, .. } = plan(&found, 1, &compose()).unwrap() else { panic!() };
        assert_eq!(numbers(&remove), [3, 2]);
    }

    #[test]
    fn plain_containers_that_were_not_made_here_go_last_and_stay() {
        let found = vec![
            plain("web-3", 3, State::RUNNING),
            plain("web", 0, State::RUNNING),
            plain("web-2", 2, State::RUNNING),
            plain("web-b", 0, State::RUNNING),
        ];
        let found = members(found, &labelled(), &HashSet::new()).unwrap();
        assert_eq!(names(&found.iter().collect::<Vec<_>>()), ["web", "web-b", "web-2", "web-3"]);
        let down = |desired| match plan(&found, desired, &labelled()).unwrap() {
            Plan::Down { remove, keep } => (names(&remove), names(&keep)),
            other => panic!("{other:?}"),
        };
        assert_eq!(down(3), (vec!["web-3"], vec![]));
        assert_eq!(down(1), (vec!["web-3", "web-2"], vec![]), "half of the others is not stopped");
        assert_eq!(down(0), (vec!["web-3", "web-2"], vec!["web", "web-b"]));
        let error = plan(&found[..2], 1, &labelled()).unwrap_err().to_string();
        assert!(error.contains("set minReplicas to 2"), "{error}");
        let Plan::Up { first_number, template, .. } = plan(&found[..2], 3, &labelled()).unwrap() else { panic!() };
        assert_eq!((first_number, template.name.as_str()), (2, "web"));
        // Where the first was removed by others, the lowest takes its place.
        let Plan::Down { remove, keep } = plan(&found[2..], 0, &labelled()).unwrap() else { panic!() };
        assert_eq!((names(&remove), names(&keep)), (vec!["web-3"], vec!["web-2"]));
    }

    #[test]
    fn plain_containers_are_of_no_project() {
        let mut container = plain("shop-web-1", 0, State::RUNNING);
        let labels = container.labels.as_mut().unwrap();
        labels.insert(PROJECT_LABEL.to_owned(), "shop".to_owned());
        labels.insert(SERVICE_LABEL.to_owned(), "web".to_owned());
        let error = members(vec![container.clone()], &labelled(), &HashSet::new()).unwrap_err().to_string();
        assert!(error.contains("use docker: {project: shop, service: web}"), "{error}");
        container.labels.as_mut().unwrap().insert(ONEOFF_LABEL.to_owned(), "True".to_owned());
        let task = ContainerSummary {
            labels: Some(HashMap::from([
                ("app".to_owned(), "web".to_owned()),
                (SWARM_LABEL.to_owned(), "w".to_owned()),
            ])),
            ..plain("w.1", 0, State::RUNNING)
        };
        let found = vec![container, task, plain("web", 0, State::RUNNING)];
        assert_eq!(members(found, &labelled(), &HashSet::new()).unwrap().len(), 1);
    }

    #[test]
    fn without_a_container_there_is_nothing_to_clone() {
        let error = plan(&[], 2, &compose()).unwrap_err();
        assert!(error.to_string().contains("docker compose up --detach web"), "{error}");
        assert_eq!(plan(&[], 0, &compose()).unwrap(), Plan::Nothing);
    }
}
