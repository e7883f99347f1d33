//! From one container of a group to the request that makes another one, such that Compose takes it for its own. Pure.
//!
//! What differs between two replicas is the number labels, the name, the aliases that hold the name, the addresses, and a
//! host name that is the container's id. All else is copied.

use std::collections::HashMap;

use bollard::models::ContainerConfig;
use bollard::models::ContainerCreateBody;
use bollard::models::ContainerInspectResponse;
use bollard::models::EndpointSettings;
use bollard::models::HostConfig;
use bollard::models::NetworkingConfig;
use bollard::models::PortBinding;

use crate::target::TargetError;
use crate::target::docker::group::Group;
use crate::target::docker::group::SHORT_ID;

const REPLACE_LABEL: &str = "com.docker.compose.replace";

/// A container that can be cloned.
#[derive(Debug)]
pub(crate) struct Template {
    group: Group,
    id: String,
    name: String,
    config: ContainerConfig,
    host_config: HostConfig,
    image: String,
    networks: HashMap<String, EndpointSettings>,
}

/// Makes the clones of a template.
#[derive(Debug)]
pub(crate) struct Mould<'t> {
    template: &'t Template,
    /// What stands before the number in the names: `shop-web-` or `shop_web_`.
    name_prefix: String,
}

/// A new container: the request that creates it, and the networks to connect it to before its start.
#[derive(Debug)]
pub(crate) struct Clone {
    pub(crate) name: String,
    pub(crate) body: ContainerCreateBody,
    pub(crate) further_networks: Vec<(String, EndpointSettings)>,
}

impl Template {
    /// Returns the template that an inspected container is. `image` names the image that it runs.
    pub(crate) fn new(container: ContainerInspectResponse, group: &Group, image: String) -> Self {
        Self {
            group: group.clone(),
            id: container.id.unwrap_or_default(),
            name: container.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            config: container.config.unwrap_or_default(),
            host_config: container.host_config.unwrap_or_default(),
            image,
            networks: container.network_settings.and_then(|settings| settings.networks).unwrap_or_default(),
        }
    }

    /// Returns whether the engine removes the container by itself when it is stopped (`docker run --rm`).
    pub(crate) fn vanishes(&self) -> bool {
        self.host_config.auto_remove == Some(true)
    }

    /// Returns what makes clones, where there can be `desired` replicas.
    ///
    /// # Errors
    /// [`TargetError::NotScalable`] where the service has a fixed name or a single fixed host port, or more replicas are
    /// desired than its range of host ports holds.
    pub(crate) fn mould(&self, desired: u32) -> Result<Mould<'_>, TargetError> {
        let number = self.config.labels.as_ref().map_or(1, |labels| self.group.number(labels));
        let name_prefix = self.group.name_prefix(&self.name, number)?;
        check_ports(&self.host_config, &self.group, desired)?;
        Ok(Mould { template: self, name_prefix })
    }

    /// Returns the networks of a member with this `name`, in their order.
    pub(crate) fn endpoints(&self, name: &str) -> Vec<(String, EndpointSettings)> {
        let mut networks: Vec<(String, EndpointSettings)> = self
            .networks
            .iter()
            // The engine's own network is joined by its mode alone, and takes no aliases.
            .filter(|(network, _)| !(self.network_mode() == "default" && *network == "bridge"))
            .map(|(network, endpoint)| (network.clone(), self.endpoint(endpoint, name)))
            .collect();
        networks.sort_by(|(a, _), (b, _)| a.cmp(b));
        networks
    }

    fn network_mode(&self) -> &str {
        self.host_config.network_mode.as_deref().unwrap_or_default()
    }

    fn body(&self, number: u32, networks: Vec<(String, EndpointSettings)>) -> ContainerCreateBody {
        let config = self.config.clone();
        let mut labels = config.labels.unwrap_or_default();
        self.group.set_number(&mut labels, number);
        labels.remove(REPLACE_LABEL);
        ContainerCreateBody {
            hostname: config.hostname.filter(|hostname| !self.id.starts_with(hostname.as_str())),
            domainname: config.domainname,
            user: config.user,
            attach_stdin: config.attach_stdin,
            attach_stdout: config.attach_stdout,
            attach_stderr: config.attach_stderr,
            exposed_ports: config.exposed_ports,
            tty: config.tty,
            open_stdin: config.open_stdin,
            stdin_once: config.stdin_once,
            env: config.env,
            cmd: config.cmd,
            healthcheck: config.healthcheck,
            args_escaped: config.args_escaped,
            image: Some(self.image.clone()),
            volumes: config.volumes,
            working_dir: config.working_dir,
            entrypoint: config.entrypoint,
            network_disabled: config.network_disabled,
            on_build: config.on_build,
            labels: Some(labels),
            stop_signal: config.stop_signal,
            stop_timeout: config.stop_timeout,
            shell: config.shell,
            host_config: Some(self.host_config.clone()),
            networking_config: (!networks.is_empty())
                .then(|| NetworkingConfig { endpoints_config: Some(networks.into_iter().collect()) }),
        }
    }

    /// What a replica keeps of an endpoint: no address, no id, and its own name among the aliases.
    fn endpoint(&self, endpoint: &EndpointSettings, name: &str) -> EndpointSettings {
        let is_short_id = |alias: &str| alias.len() == SHORT_ID && alias.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut aliases: Vec<String> = endpoint.aliases.clone().unwrap_or_default();
        aliases.retain(|alias| *alias != self.name && !is_short_id(alias));
        aliases.insert(0, name.to_owned());
        EndpointSettings {
            aliases: Some(aliases),
            links: endpoint.links.clone(),
            driver_opts: endpoint.driver_opts.clone(),
            ..EndpointSettings::default()
        }
    }
}

impl Mould<'_> {
    /// Returns the container with `number`.
    pub(crate) fn clone_as(&self, number: u32) -> Clone {
        let template = self.template;
        let name = format!("{}{number}", self.name_prefix);
        let mode = template.network_mode();
        let networks = template.endpoints(&name);
        // "host", "none" and "container:ID" are no networks to connect to.
        let joinable = mode == "default" || networks.iter().any(|(network, _)| network == mode);
        // Before API 1.44 one network only may be named at creation: the one of the network mode.
        let (first, further_networks) = if joinable && !matches!(mode, "host" | "none") {
            networks.into_iter().partition(|(network, _)| network == mode)
        } else {
            (Vec::new(), Vec::new())
        };
        Clone { name, body: template.body(number, first), further_networks }
    }
}

/// A host port can be bound once: a single one allows one replica, a range as many as it holds, a random one any number.
fn check_ports(host_config: &HostConfig, group: &Group, desired: u32) -> Result<(), TargetError> {
    for (container_port, bindings) in host_config.port_bindings.iter().flatten() {
        for PortBinding { host_port, .. } in bindings.iter().flatten() {
            let Some(room) = host_port.as_deref().and_then(port_room) else { continue };
            if room < desired {
                let host_port = host_port.as_deref().unwrap_or_default();
                let what = if room == 1 { "the single fixed host port" } else { "the host ports" };
                return Err(TargetError::NotScalable(format!(
                    "{group} publishes {container_port} on {what} {host_port}, so it can have {room} replica(s) but {desired} are desired; publish a range or no fixed port"
                )));
            }
        }
    }
    Ok(())
}

/// Returns how many replicas a host port allows: the size of `8080-8090`; `None` for a random one.
fn port_room(host_port: &str) -> Option<u32> {
    let (first, last) = host_port.split_once('-').unwrap_or((host_port, host_port));
    let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0).then(|| last.saturating_sub(first) + 1)
}

#[cfg(test)]
mod tests {
    use bollard::models::EndpointIpamConfig;
    use bollard::models::NetworkSettings;

    use super::*;
    use crate::target::docker::group::NUMBER_LABEL;
    use crate::target::docker::group::REPLICA_LABEL;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn inspected(name: &str) -> ContainerInspectResponse {
        let endpoint = |aliases: &[&str]| EndpointSettings {
            aliases: Some(aliases.iter().map(|alias| (*alias).to_owned()).collect()),
            ip_address: Some("172.18.0.2".to_owned()),
            mac_address: Some("02:42:ac:12:00:02".to_owned()),
            endpoint_id: Some("e".to_owned()),
            ipam_config: Some(EndpointIpamConfig { ipv4_address: Some("172.18.0.2".to_owned()), ..Default::default() }),
            ..EndpointSettings::default()
        };
        ContainerInspectResponse {
            id: Some(ID.to_owned()),
            name: Some(format!("/{name}")),
            config: Some(ContainerConfig {
                hostname: Some(ID[..SHORT_ID].to_owned()),
                env: Some(vec!["A=b".to_owned()]),
                labels: Some(HashMap::from([
                    (NUMBER_LABEL.to_owned(), "1".to_owned()),
                    (REPLACE_LABEL.to_owned(), "shop-web-1".to_owned()),
                    ("own".to_owned(), "kept".to_owned()),
                ])),
                ..ContainerConfig::default()
            }),
            host_config: Some(HostConfig {
                network_mode: Some("shop_default".to_owned()),
                init: Some(true),
                ..HostConfig::default()
            }),
            network_settings: Some(NetworkSettings {
                networks: Some(HashMap::from([
                    ("shop_default".to_owned(), endpoint(&[name, "web", &ID[..SHORT_ID]])),
                    ("shop_back".to_owned(), endpoint(&[name, "web", "backend"])),
                ])),
                ..NetworkSettings::default()
            }),
            ..ContainerInspectResponse::default()
        }
    }

    fn template(container: ContainerInspectResponse) -> Template {
        let group = Group::Compose { project: "shop".to_owned(), service: "web".to_owned() };
        Template::new(container, &group, "image".to_owned())
    }

    #[test]
    fn a_clone_differs_in_number_name_and_addresses_only() {
        let clone = template(inspected("shop-web-1")).mould(3).unwrap().clone_as(7);
        assert_eq!(clone.name, "shop-web-7");
        let labels = clone.body.labels.unwrap();
        assert_eq!((labels[NUMBER_LABEL].as_str(), labels["own"].as_str()), ("7", "kept"));
        assert_eq!(labels[REPLICA_LABEL], "7");
        assert!(!labels.contains_key(REPLACE_LABEL));
        assert_eq!((clone.body.hostname, clone.body.env), (None, Some(vec!["A=b".to_owned()])));
        assert_eq!(clone.body.host_config.unwrap().init, Some(true));
        let first = clone.body.networking_config.unwrap().endpoints_config.unwrap();
        assert_eq!(first.len(), 1);
        let expected = |aliases: &[&str]| EndpointSettings {
            aliases: Some(aliases.iter().map(|alias| (*alias).to_owned()).collect()),
            ..EndpointSettings::default()
        };
        assert_eq!(first["shop_default"], expected(&["shop-web-7", "web"]));
        assert_eq!(clone.further_networks, [("shop_back".to_owned(), expected(&["shop-web-7", "web", "backend"]))]);
    }

    #[test]
    fn a_chosen_host_name_stays() {
        let mut container = inspected("shop-web-1");
        container.config.as_mut().unwrap().hostname = Some("web.example".to_owned());
        assert_eq!(template(container).mould(2).unwrap().clone_as(2).body.hostname.as_deref(), Some("web.example"));
    }

    #[test]
    fn the_host_network_is_not_connected_to() {
        let mut container = inspected("shop-web-1");
        container.host_config.as_mut().unwrap().network_mode = Some("host".to_owned());
        let networks = HashMap::from([("host".to_owned(), EndpointSettings::default())]);
        container.network_settings.as_mut().unwrap().networks = Some(networks);
        let clone = template(container).mould(2).unwrap().clone_as(2);
        assert_eq!((clone.body.networking_config, clone.further_networks.len()), (None, 0));
    }

    #[test]
    fn a_plain_container_on_the_engine_s_own_network_keeps_the_others() {
        let mut container = inspected("web");
        container.host_config.as_mut().unwrap().network_mode = Some("default".to_owned());
        let networks = ["bridge", "back"].map(|network| (network.to_owned(), EndpointSettings::default()));
        container.network_settings.as_mut().unwrap().networks = Some(HashMap::from(networks));
        let group = Group::Labelled { key: "app".to_owned(), value: "web".to_owned() };
        let clone = Template::new(container, &group, "image".to_owned()).mould(2).unwrap().clone_as(2);
        assert_eq!((clone.name.as_str(), clone.body.networking_config), ("web-2", None));
        let further: Vec<&str> = clone.further_networks.iter().map(|(network, _)| network.as_str()).collect();
        assert_eq!(further, ["back"]);
        assert_eq!(clone.body.labels.unwrap()[REPLICA_LABEL], "2");
    }

    #[test]
    fn a_fixed_name_has_no_clones() {
        let error = template(inspected("storefront")).mould(2).unwrap_err().to_string();
        assert!(error.contains("fixed container_name storefront"), "{error}");
    }

    #[test]
    fn host_ports_limit_the_replicas() {
        for (host_port, allowed) in [("", u32::MAX), ("0", u32::MAX), ("8080", 1), ("8080-8083", 4)] {
            let mut container = inspected("shop-web-1");
            let binding = PortBinding { host_ip: None, host_port: Some(host_port.to_owned()) };
            let bindings = HashMap::from([("80/tcp".to_owned(), Some(vec![binding]))]);
            container.host_config.as_mut().unwrap().port_bindings = Some(bindings);
            let template = template(container);
            assert!(template.mould(allowed.min(1000)).is_ok(), "{host_port}");
            if allowed < u32::MAX {
                let error = template.mould(allowed + 1).unwrap_err().to_string();
                assert!(error.contains("80/tcp on the") && error.contains(host_port), "{error}");
            }
        }
    }
}
