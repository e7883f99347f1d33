//! Which containers belong to a service, and what has to be done to have so many. Pure.
//!
//! In: the engine's list of containers. Out: the members in order of their number, and a plan.

use std::collections::HashMap;
use std::collections::HashSet;

use bollard::models::ContainerSummary;
use bollard::models::ContainerSummaryStateEnum as State;

use crate::target::TargetError;

pub(crate) const PROJECT_LABEL: &str = "com.docker.compose.project";
pub(crate) const SERVICE_LABEL: &str = "com.docker.compose.service";
pub(crate) const NUMBER_LABEL: &str = "com.docker.compose.container-number";
pub(crate) const ONEOFF_LABEL: &str = "com.docker.compose.oneoff";
pub(crate) const REPLACE_LABEL: &str = "com.docker.compose.replace";
const CONFIG_HASH_LABEL: &str = "com.docker.compose.config-hash";
const SWARM_LABEL: &str = "com.docker.swarm.service.name";

/// A container of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    /// Without the leading slash.
    pub(crate) name: String,
    /// `com.docker.compose.container-number`.
    pub(crate) number: u32,
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
    /// Stop these and remove them.
    Down { stop: Vec<&'m Member> },
}

/// Returns the members of the service among `containers`, in ascending number. The engine filters by label too; what is
/// of another project or service, started by `compose run`, or a task of Swarm is never a member. Those in `stopping`
/// count as leaving.
///
/// # Errors
/// [`TargetError::NotScalable`] where tasks of a Swarm service are all there is.
pub(crate) fn members(
    containers: Vec<ContainerSummary>,
    project: &str,
    service: &str,
    stopping: &HashSet<String>,
) -> Result<Vec<Member>, TargetError> {
    let mut swarm_service = None;
    let mut members = Vec::new();
    for container in containers {
        let labels = container.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).map(String::as_str);
        let ours = label(PROJECT_LABEL) == Some(project) && label(SERVICE_LABEL) == Some(service);
        let oneoff = label(ONEOFF_LABEL).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if !ours || oneoff {
            continue;
        }
        if let Some(name) = label(SWARM_LABEL) {
            swarm_service = Some(name.to_owned());
            continue;
        }
        let Some(id) = container.id else { continue };
        let name = container.names.unwrap_or_default().into_iter().next().unwrap_or_default();
        let life = if stopping.contains(&id) { Life::Leaving } else { life(container.state) };
        let runs = container.state == Some(State::RUNNING);
        members.push(Member {
            id,
            name: name.trim_start_matches('/').to_owned(),
            number: label(NUMBER_LABEL).and_then(|number| number.parse().ok()).unwrap_or(0),
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
        let message = format!(
            "the containers of {project}/{service} are tasks of the Swarm service {name}, which are never cloned"
        );
        return Err(TargetError::NotScalable(message));
    }
    members.sort_by(|a, b| a.number.cmp(&b.number).then_with(|| a.id.cmp(&b.id)));
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
/// [`TargetError::NotFound`] where there is no container, and so nothing to start or to clone.
pub(crate) fn plan<'m>(
    members: &'m [Member],
    desired: u32,
    project: &str,
    service: &str,
) -> Result<Plan<'m>, TargetError> {
    let up = count_up(members);
    if up == desired {
        return Ok(Plan::Nothing);
    }
    if up > desired {
        let surplus = (up - desired) as usize;
        let stop = members.iter().rev().filter(|member| member.life == Life::Up).take(surplus).collect();
        return Ok(Plan::Down { stop });
    }
    let template = members
        .iter()
        .rev()
        .max_by_key(|member| match member.life {
            Life::Up => 2,
            Life::Stopped => 1,
            Life::Leaving => 0,
        })
        .ok_or_else(|| {
            TargetError::NotFound(format!(
                "service {service} of project {project} has no container, so there is nothing to clone; start it once with docker compose up --detach {service}"
            ))
        })?;
    let startable = |member: &&Member| member.life == Life::Stopped && member.config_hash == template.config_hash;
    let start: Vec<&Member> = members.iter().filter(startable).take((desired - up) as usize).collect();
    let create = desired - up - start.len() as u32;
    let first_number = members.iter().map(|member| member.number).max().unwrap_or(0).saturating_add(1);
    Ok(Plan::Up { start, create, first_number, template })
}

/// Returns the filters of the list request.
pub(crate) fn filters(project: &str, service: &str) -> HashMap<String, Vec<String>> {
    let labels = vec![format!("{PROJECT_LABEL}={project}"), format!("{SERVICE_LABEL}={service}")];
    HashMap::from([("label".to_owned(), labels)])
}

/// Returns whether the health check is passed, by the status in the engine's words, such as `Up 3 seconds (healthy)`. One
/// without a health check passes.
fn passes_check(status: Option<&str>) -> bool {
    status.is_none_or(|status| !["(health: starting)", "(unhealthy)"].iter().any(|words| status.ends_with(words)))
}

fn life(state: Option<State>) -> Life {
    match state {
        Some(State::RUNNING | State::RESTARTING | State::PAUSED) => Life::Up,
        Some(State::CREATED | State::EXITED) => Life::Stopped,
        Some(State::REMOVING | State::DEAD | State::STOPPING | State::EMPTY) | None => Life::Leaving,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn members_of(containers: Vec<ContainerSummary>) -> Vec<Member> {
        members(containers, "shop", "web", &HashSet::from(["id9".to_owned()])).unwrap()
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
        let error = members(tasks, "shop", "web", &HashSet::new()).unwrap_err();
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
        let Plan::Up { start, create, first_number, template } = plan(&found, 5, "shop", "web").unwrap() else {
            panic!()
        };
        assert_eq!((numbers(&start), create, first_number, template.number), (vec![2, 3], 2, 10, 1));
        let Plan::Up { start, create, .. } = plan(&found, 2, "shop", "web").unwrap() else { panic!() };
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
        let Plan::Down { stop } = plan(&found, 2, "shop", "web").unwrap() else { panic!() };
        assert_eq!(numbers(&stop), [5, 4, 3]);
        assert_eq!(plan(&found, 5, "shop", "web").unwrap(), Plan::Nothing);
    }

    #[test]
    fn without_a_container_there_is_nothing_to_clone() {
        let error = plan(&[], 2, "shop", "web").unwrap_err();
        assert!(error.to_string().contains("docker compose up --detach web"), "{error}");
        assert_eq!(plan(&[], 0, "shop", "web").unwrap(), Plan::Nothing);
    }
}
