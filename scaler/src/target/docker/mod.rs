//! A service of a Docker Compose project, scaled by cloning its containers so that Compose takes them for its own, or
//! plain containers with one label.
//!
//! `group` says how the two differ, `select` which containers are members and what has to be done, `template` how a clone
//! looks; here is the engine's I/O. Only containers of the group are ever touched. Stops are graceful, side by side, and
//! go on behind the call; what is being stopped no longer counts. At zero one container stays, stopped, to be started and
//! cloned again.

mod backoff;
mod group;
mod progress;
mod select;
mod starts;
mod template;
mod watch;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::NetworkConnectRequest;
use bollard::query_parameters::CreateContainerOptions;
use bollard::query_parameters::InspectContainerOptions;
use bollard::query_parameters::ListContainersOptions;
use bollard::query_parameters::RemoveContainerOptions;
use bollard::query_parameters::StartContainerOptions;
use bollard::query_parameters::StopContainerOptions;
use cloudpulse_policy::Replicas;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::future::join_all;
use tokio_util::task::TaskTracker;

use crate::target::ScaleTarget;
use crate::target::TargetError;
use crate::target::docker::backoff::Held;
use crate::target::docker::group::Group;
use crate::target::docker::select::Life;
use crate::target::docker::select::Member;
use crate::target::docker::select::Plan;
use crate::target::docker::starts::Starts;
use crate::target::docker::template::Template;
use crate::target::docker::watch::Watch;
use crate::target::engine::Engine;

/// Deadline of a graceful stop: no service is given longer to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(3600);
/// After others stopped a member: longer than Compose takes from one stop to the next with its grace period of 10 s.
const QUIET: Duration = Duration::from_secs(30);
/// Names of strangers that are passed over in one call.
const MAX_SKIPPED: u32 = 10;

/// A Compose service, or plain containers with one label, on one engine.
#[derive(Debug)]
pub struct DockerTarget {
    group: Group,
    engine: Engine,
    watch: Arc<Mutex<Watch>>,
    starts: Arc<Starts>,
    ready: Mutex<Option<Replicas>>,
    quiet: Duration,
    background: TaskTracker,
}

impl DockerTarget {
    /// Returns the target of a Compose service; nothing is connected to yet. `host` is an address in the form of
    /// DOCKER_HOST; where absent, DOCKER_HOST or the default socket is used. `background` keeps the stops, and what watches
    /// the new replicas until they are ready, which ends when it is closed.
    ///
    /// While others stop members, as `docker compose down` does, nothing is started until it has been quiet for 30 s.
    pub fn new(project: String, service: String, host: Option<String>, background: TaskTracker) -> Self {
        Self::of(Group::Compose { project, service }, host, background)
    }

    /// Returns the target of all plain containers that have the label `key` with this `value`; the rest as [`Self::new`].
    pub fn labelled(key: String, value: String, host: Option<String>, background: TaskTracker) -> Self {
        Self::of(Group::Labelled { key, value }, host, background)
    }

    fn of(group: Group, host: Option<String>, background: TaskTracker) -> Self {
        Self {
            group,
            engine: Engine::new(host),
            watch: Arc::default(),
            starts: Arc::default(),
            ready: Mutex::default(),
            quiet: QUIET,
            background,
        }
    }

    /// Returns the target with another time of quiet than 30 s.
    #[must_use]
    pub fn with_quiet(self, quiet: Duration) -> Self {
        Self { quiet, ..self }
    }

    async fn members(&self, engine: &Docker) -> Result<Vec<Member>, TargetError> {
        let filters = Some(self.group.filters());
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let containers = engine
            .list_containers(Some(options))
            .await
            .map_err(|source| self.engine.error(source, "list containers"))?;
        let mut watch = lock(&self.watch);
        let members = select::members(containers, &self.group, &watch.stopping())?;
        watch.look(&members, Instant::now());
        drop(watch);
        self.starts.watch(engine, &self.background);
        Ok(members)
    }

    async fn count(&self) -> Result<Replicas, TargetError> {
        // What was ready at an earlier look is not known now.
        *lock(&self.ready) = None;
        let members = self.members(self.engine.client().await?).await?;
        if members.is_empty() {
            return Err(self.group.absent());
        }
        *lock(&self.ready) = Some(select::count_ready(&members));
        Ok(select::count_up(&members))
    }

    async fn scale(&self, desired: Replicas) -> Result<(), TargetError> {
        let engine = self.engine.client().await?;
        let members = self.members(engine).await?;
        match select::plan(&members, desired, &self.group)? {
            Plan::Nothing => Ok(()),
            Plan::Down { remove, keep } => self.stop(engine, &remove, &keep).await,
            Plan::Up { start, create, first_number, template } => {
                self.check_backoff()?;
                self.check_quiet()?;
                let template = self.template(engine, &template.id).await?;
                let result = self.start_and_create(engine, &template, &start, desired, (first_number, create)).await;
                self.starts.watch(engine, &self.background);
                result
            }
        }
    }

    async fn start_and_create(
        &self,
        engine: &Docker,
        template: &Template,
        start: &[&Member],
        desired: Replicas,
        (first_number, create): (u32, u32),
    ) -> Result<(), TargetError> {
        let mould = if create > 0 { Some(template.mould(desired)?) } else { None };
        for member in start {
            let result = self.start_again(engine, member, template).await;
            // Such a container may never start: an engine that was killed at its start finds a task under its id each time. The next
            // call makes another.
            if matches!(result, Err(TargetError::Failed { .. })) && member.made && member.life == Life::Created {
                discard(engine, &member.id, &member.name).await;
            }
            result?;
        }
        let Some(mould) = mould else { return Ok(()) };
        let (mut number, mut created, mut skipped) = (first_number, 0, 0);
        while created < create {
            match self.create(engine, mould.clone_as(number)).await? {
                Created::Yes => created += 1,
                Created::NameTaken if skipped < MAX_SKIPPED && !self.is_member(engine, number).await? => skipped += 1,
                Created::NameTaken => {
                    return Err(TargetError::Busy(format!(
                        "replica {number} of {} was just made by someone else; it is looked at anew",
                        self.group
                    )));
                }
            }
            number = number.saturating_add(1);
        }
        Ok(())
    }

    async fn is_member(&self, engine: &Docker, number: u32) -> Result<bool, TargetError> {
        Ok(self.members(engine).await?.iter().any(|member| member.number == number))
    }

    fn check_backoff(&self) -> Result<(), TargetError> {
        let Some(Held { failures, last, again_in }) = self.starts.held() else { return Ok(()) };
        Err(TargetError::NeverReady(format!(
            "the last {failures} containers started for {} did not get ready: {last}; the next is started in {} s",
            self.group,
            again_in.as_secs() + 1
        )))
    }

    fn check_quiet(&self) -> Result<(), TargetError> {
        match lock(&self.watch).disturbed(self.quiet, Instant::now()) {
            None => Ok(()),
            Some(ago) => Err(TargetError::Busy(format!(
                "a container of {} was stopped by someone else {} s ago; none is started until it has been quiet for {} s",
                self.group,
                ago.as_secs(),
                self.quiet.as_secs()
            ))),
        }
    }

    async fn template(&self, engine: &Docker, id: &str) -> Result<Template, TargetError> {
        let container = engine
            .inspect_container(id, None::<InspectContainerOptions>)
            .await
            .map_err(|source| self.engine.error(source, format!("inspect container {id}")))?;
        let id = container.image.clone().unwrap_or_default();
        let name = container.config.as_ref().and_then(|config| config.image.clone()).unwrap_or_default();
        // The name may have moved to another image since; a replica runs what its siblings run.
        let current = engine.inspect_image(&name).await.ok().and_then(|image| image.id);
        let image = if current.is_some_and(|current| current == id) || id.is_empty() { name } else { id };
        Ok(Template::new(container, &self.group, image))
    }

    /// Starts a stopped member; one that was made here is first connected to the networks that an interrupted creation
    /// may have left out.
    async fn start_again(&self, engine: &Docker, member: &Member, template: &Template) -> Result<(), TargetError> {
        let endpoints = if member.made { template.endpoints(&member.name) } else { Vec::new() };
        for (network, endpoint) in endpoints.into_iter().filter(|(network, _)| !member.networks.contains(network)) {
            let request = NetworkConnectRequest { container: member.id.clone(), endpoint_config: Some(endpoint) };
            engine.connect_network(&network, request).await.map_err(|source| {
                self.engine.error(source, format!("connect container {} to network {network}", member.name))
            })?;
        }
        let began = Instant::now();
        self.start(engine, &member.id, &member.name).await?;
        self.starts.add(&member.id, &member.name, began, Some(began.elapsed()));
        Ok(())
    }

    async fn create(&self, engine: &Docker, clone: template::Clone) -> Result<Created, TargetError> {
        let template::Clone { name, body, further_networks } = clone;
        let began = Instant::now();
        let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
        let created = match engine.create_container(Some(options), body).await {
            Ok(created) => created,
            Err(Error::DockerResponseServerError { status_code: 409, .. }) => return Ok(Created::NameTaken),
            Err(source) => return Err(self.engine.error(source, format!("create container {name}"))),
        };
        let bring_up = async {
            for (network, endpoint) in further_networks {
                let request = NetworkConnectRequest { container: created.id.clone(), endpoint_config: Some(endpoint) };
                engine.connect_network(&network, request).await.map_err(|source| {
                    self.engine.error(source, format!("connect container {name} to network {network}"))
                })?;
            }
            self.start(engine, &created.id, &name).await
        };
        let result = bring_up.await;
        if result.is_err() {
            discard(engine, &created.id, &name).await;
        } else {
            self.starts.add(&created.id, &name, began, None);
        }
        result.map(|()| Created::Yes)
    }

    async fn start(&self, engine: &Docker, id: &str, name: &str) -> Result<(), TargetError> {
        match engine.start_container(id, None::<StartContainerOptions>).await {
            Ok(()) => {
                tracing::info!(container = name, "started");
                Ok(())
            }
            Err(source) => Err(self.engine.error(source, format!("start container {name}"))),
        }
    }

    /// Stops members with their own signals and grace periods, all behind the call: `remove`, which are then removed, and
    /// after them `keep`.
    ///
    /// # Errors
    /// [`TargetError::NotScalable`] where the engine would remove one of `keep` by itself; nothing is stopped then.
    async fn stop(&self, engine: &Docker, remove: &[&Member], keep: &[&Member]) -> Result<(), TargetError> {
        for member in keep {
            if self.template(engine, &member.id).await?.vanishes() {
                return Err(TargetError::NotScalable(format!(
                    "container {} of {} was started with --rm, so it would be gone once stopped and nothing could be started again; start it without --rm, or set minReplicas to 1",
                    member.name, self.group
                )));
            }
        }
        let engine = engine.clone().with_timeout(STOP_TIMEOUT);
        let stop = |member: &&Member, removed: bool| {
            lock(&self.watch).begin_stop(&member.id);
            self.starts.forget(&member.id);
            stop_one(engine.clone(), (*member).clone(), removed, Arc::clone(&self.watch))
        };
        let first: Vec<_> = remove.iter().map(|member| stop(member, true)).collect();
        let then: Vec<_> = keep.iter().map(|member| stop(member, false)).collect();
        self.background.spawn(async move {
            join_all(first).await;
            join_all(then).await;
        });
        Ok(())
    }
}

/// What came of a creation.
enum Created {
    /// There is one more.
    Yes,
    /// Another container has the name.
    NameTaken,
}

/// Removes a container that never started, so nothing is lost; where this fails too, the next call starts it. Not by force: another
/// scaler may have started it.
async fn discard(engine: &Docker, id: &str, name: &str) {
    if let Err(error) = engine.remove_container(id, None::<RemoveContainerOptions>).await {
        tracing::warn!(%error, container = name, "a container that did not start could not be removed");
    }
}

async fn stop_one(engine: Docker, member: Member, removed: bool, watch: Arc<Mutex<Watch>>) {
    let Member { id, name, .. } = member;
    let result = match gone_is_well(engine.stop_container(&id, None::<StopContainerOptions>).await) {
        Ok(()) if removed => gone_is_well(engine.remove_container(&id, None::<RemoveContainerOptions>).await),
        result => result,
    };
    match result {
        Ok(()) => tracing::info!(container = name, removed, "stopped"),
        Err(error) => tracing::warn!(%error, container = name, "could not be stopped and removed"),
    }
    lock(&watch).end_stop(&id);
}

impl ScaleTarget for DockerTarget {
    fn replicas(&self) -> BoxFuture<'_, Result<Replicas, TargetError>> {
        self.count().boxed()
    }

    fn scale_to(&self, desired: Replicas) -> BoxFuture<'_, Result<(), TargetError>> {
        self.scale(desired).boxed()
    }

    fn ready(&self) -> Option<Replicas> {
        *lock(&self.ready)
    }

    fn take_starts(&self) -> Vec<Duration> {
        self.starts.take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A container that is already stopped (304), gone (404) or being removed (409) is what was wanted.
fn gone_is_well(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::DockerResponseServerError { status_code: 304 | 404, .. }) => Ok(()),
        Err(Error::DockerResponseServerError { status_code: 409, message }) if message.contains("in progress") => {
            Ok(())
        }
        other => other,
    }
}
