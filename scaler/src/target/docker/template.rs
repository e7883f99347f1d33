//! From one container of a service to the request that makes another one, such that Compose takes it for its own. Pure.
//!
//! What differs between two replicas is the number label, the name, the aliases that hold the name, the addresses, and a
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
use crate::target::docker::select::NUMBER_LABEL;
use crate::target::docker::select::REPLACE_LABEL;

/// Length of the id that Docker gives as host name and alias.
const SHORT_ID: usize = 12;

/// A container that can be cloned.
#[derive(Debug)]
pub(crate) struct Template {
    id: String,
    name: String,
    /// What stands before the number in the names: `shop-web-` or `shop_web_`.
    name_prefix: String,
    config: ContainerConfig,
    host_config: HostConfig,
    image: String,
    networks: HashMap<String, EndpointSettings>,
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
    ///
    /// # Errors
    /// [`TargetError::NotScalable`] where it has a fixed name or a single fixed host port, or more replicas are desired
    /// than its range of host ports holds.
    pub(crate) fn new(
        container: ContainerInspectResponse,
        project: &str,
        service: &str,
        image: String,
        desired: u32,
    ) -> Result<Self, TargetError> {
        let name = container.name.unwrap_or_default().trim_start_matches('/').to_owned();
        let name_prefix = name_prefix(&name, project, service).ok_or_else(|| {
            TargetError::NotScalable(format!(
                "service {service} of project {project} has the fixed container_name {name}, so it can have one replica only; remove container_name"
            ))
        })?;
        let host_config = container.host_config.unwrap_or_default();
        check_ports(&host_config, project, service, desired)?;
        Ok(Self {
            id: container.id.unwrap_or_default(),
            name,
            name_prefix,
            config: container.config.unwrap_or_default(),
            host_config,
            image,
            networks: container.network_settings.and_then(|settings| settings.networks).unwrap_or_default(),
        })
    }

    /// Returns the container with `number`.
    pub(crate) fn clone_as(&self, number: u32) -> Clone {
        let name = format!("{}{number}", self.name_prefix);
        let mut networks: Vec<(String, EndpointSettings)> =
            self.networks.iter().map(|(network, endpoint)| (network.clone(), self.endpoint(endpoint, &name))).collect();
        networks.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mode = self.host_config.network_mode.as_deref().unwrap_or_default();
        // "host", "none" and "container:ID" are no networks to connect to.
        let joinable = networks.iter().any(|(network, _)| network == mode) && !matches!(mode, "host" | "none");
        // Before API 1.44 one network only may be named at creation: the one of the network mode.
        let (first, further_networks) = if joinable {
            networks.into_iter().partition(|(network, _)| network == mode)
        } else {
            (Vec::new(), Vec::new())
        };
        Clone { name, body: self.body(number, first), further_networks }
    }

    /// Returns the endpoint settings for a member with this `name` on one of the template's networks.
    pub(crate) fn endpoint_of(&self, network: &str, name: &str) -> Option<EndpointSettings> {
        self.networks.get(network).map(|endpoint| self.endpoint(endpoint, name))
    }

    /// Returns the names of the template's networks.
    pub(crate) fn network_names(&self) -> impl Iterator<Item = &String> {
        self.networks.keys()
    }

    fn body(&self, number: u32, networks: Vec<(String, EndpointSettings)>) -> ContainerCreateBody {
        let config = self.config.clone();
        let mut labels = config.labels.unwrap_or_default();
        labels.insert(NUMBER_LABEL.to_owned(), number.to_string());
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

/// Returns what stands before the number in the name that Compose gives, with its hyphens or (version 1) underscores;
/// `None` where the name is not of that form. While Compose replaces a container, an id stands before its name.
fn name_prefix(name: &str, project: &str, service: &str) -> Option<String> {
    let replacing =
        name.split_once('_').filter(|(id, _)| id.len() == SHORT_ID && id.bytes().all(|b| b.is_ascii_hexdigit()));
    let name = replacing.map_or(name, |(_, rest)| rest);
    ['-', '_'].into_iter().find_map(|separator| {
        let prefix = format!("{project}{separator}{service}{separator}");
        let number = name.strip_prefix(&prefix)?;
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(prefix)
    })
}

/// A host port can be bound once: a single one allows one replica, a range as many as it holds, a random one any number.
fn check_ports(host_config: &HostConfig, project: &str, service: &str, desired: u32) -> Result<(), TargetError> {
    for (container_port, bindings) in host_config.port_bindings.iter().flatten() {
        for PortBinding { host_port, .. } in bindings.iter().flatten() {
            let Some(room) = host_port.as_deref().and_then(port_room) else { continue };
            if room < desired {
                let host_port = host_port.as_deref().unwrap_or_default();
                let what = if room == 1 { "the single fixed host port" } else { "the host ports" };
                return Err(TargetError::NotScalable(format!(
                    "service {service} of project {project} publishes {container_port} on {what} {host_port}, so it can have {room} replica(s) but {desired} are desired; publish a range or no fixed port"
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

    fn template(container: ContainerInspectResponse, desired: u32) -> Result<Template, TargetError> {
        Template::new(container, "shop", "web", "image".to_owned(), desired)
    }

    #[test]
    fn a_clone_differs_in_number_name_and_addresses_only() {
        let clone = template(inspected("shop-web-1"), 3).unwrap().clone_as(7);
        assert_eq!(clone.name, "shop-web-7");
        let labels = clone.body.labels.unwrap();
        assert_eq!((labels[NUMBER_LABEL].as_str(), labels["own"].as_str()), ("7", "kept"));
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
        assert_eq!(template(container, 2).unwrap().clone_as(2).body.hostname.as_deref(), Some("web.example"));
    }

    #[test]
    fn the_host_network_is_not_connected_to() {
        let mut container = inspected("shop-web-1");
        container.host_config.as_mut().unwrap().network_mode = Some("host".to_owned());
        let networks = HashMap::from([("host".to_owned(), EndpointSettings::default())]);
        container.network_settings.as_mut().unwrap().networks = Some(networks);
        let clone = template(container, 2).unwrap().clone_as(2);
        assert_eq!((clone.body.networking_config, clone.further_networks.len()), (None, 0));
    }

    #[test]
    fn names_of_both_compose_versions_are_known() {
        assert_eq!(name_prefix("shop-web-1", "shop", "web").as_deref(), Some("shop-web-"));
        assert_eq!(name_prefix("shop_web_12", "shop", "web").as_deref(), Some("shop_web_"));
        assert_eq!(name_prefix("0123456789ab_shop-web-1", "shop", "web").as_deref(), Some("shop-web-"));
        for fixed in ["web", "shop-web", "shop-web-", "shop-web-one", "other-web-1", "my-web-1"] {
            assert_eq!(name_prefix(fixed, "shop", "web"), None, "{fixed}");
        }
        let error = template(inspected("storefront"), 2).unwrap_err().to_string();
        assert!(error.contains("fixed container_name storefront"), "{error}");
    }

    #[test]
    fn host_ports_limit_the_replicas() {
        for (host_port, allowed) in [("", u32::MAX), ("0", u32::MAX), ("8080", 1), ("8080-8083", 4)] {
            let mut container = inspected("shop-web-1");
            let binding = PortBinding { host_ip: None, host_port: Some(host_port.to_owned()) };
            let bindings = HashMap::from([("80/tcp".to_owned(), Some(vec![binding]))]);
            container.host_config.as_mut().unwrap().port_bindings = Some(bindings);
            assert!(template(container.clone(), allowed.min(1000)).is_ok(), "{host_port}");
            if allowed < u32::MAX {
                let error = template(container, allowed + 1).unwrap_err().to_string();
                assert!(error.contains("80/tcp on the") && error.contains(host_port), "{error}");
            }
        }
    }
}
