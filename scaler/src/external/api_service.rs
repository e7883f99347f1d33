//! The APIService that sends HPAs to a server of external metrics: there is one in a cluster, and several want it. Whose it
//! is, in; the CAs that kube-apiserver is to trust, into ours. Another's is left alone.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::Client;
use kube::api::Patch;
use kube::api::PatchParams;
use kube::api::PostParams;
use serde_json::json;

use crate::external::metrics::Metrics;
use crate::external::protocol::GROUP;
use crate::external::protocol::VERSION;

/// The name that Kubernetes gives the object.
pub const NAME: &str = "v1beta1.external.metrics.k8s.io";
const PORT: u16 = 443;
const TRIES: u32 = 5;
/// Low, as all metrics servers have it.
const PRIORITY: u16 = 100;

/// A name in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaced {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// A text that is no name in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be NAMESPACE/NAME, both of small letters, digits, - and .")]
pub struct NotNamespaced;

impl FromStr for Namespaced {
    type Err = NotNamespaced;

    fn from_str(text: &str) -> Result<Self, NotNamespaced> {
        let sound = |part: &str| {
            let inner = part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.');
            inner && !part.is_empty() && part.len() <= 253
        };
        match text.split_once('/') {
            Some((namespace, name)) if sound(namespace) && sound(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(NotNamespaced),
        }
    }
}

impl fmt::Display for Namespaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whose the APIService is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// It leads to our Service.
    Ours,
    /// It leads elsewhere: where to.
    Foreign(String),
    /// There is none.
    Absent,
}

impl Owner {
    /// Returns whose `found` is where ours leads to `service`.
    pub fn of(found: Option<&APIService>, service: &Namespaced) -> Self {
        let Some(found) = found else { return Self::Absent };
        let reference = found.spec.as_ref().and_then(|spec| spec.service.as_ref());
        let Some(reference) = reference else { return Self::Foreign("kube-apiserver itself".to_owned()) };
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let leads_to = Namespaced { namespace: part(&reference.namespace), name: part(&reference.name) };
        if leads_to == *service { Self::Ours } else { Self::Foreign(leads_to.to_string()) }
    }
}

/// The APIService, and what was last said of it.
#[derive(Debug)]
pub struct Registration {
    api: Api<APIService>,
    service: Namespaced,
    create: bool,
    metrics: Metrics,
    said: Option<Owner>,
}

impl Registration {
    /// Looks after the APIService that should lead to `service`; makes it where there is none, if `create` is set.
    pub fn new(client: Client, service: Namespaced, create: bool, metrics: Metrics) -> Self {
        Self { api: Api::all(client), service, create, metrics, said: None }
    }

    /// Finds out whose the APIService is, and has kube-apiserver trust the CAs in `bundle`, if given and if it is ours. When
    /// this returns, either kube-apiserver was told, or nobody comes to us through it.
    ///
    /// # Errors
    /// Where the APIService cannot be read or written.
    pub async fn keep(&mut self, bundle: Option<&str>) -> Result<Owner, kube::Error> {
        let mut tried = 1;
        loop {
            match self.try_to_keep(bundle).await {
                // Another replica did the same at the same time, or somebody took it: to be looked at again.
                Err(kube::Error::Api(status)) if status.code == 409 && tried < TRIES => tried += 1,
                kept => return kept,
            }
        }
    }

    async fn try_to_keep(&mut self, bundle: Option<&str>) -> Result<Owner, kube::Error> {
        let mut found = self.api.get_opt(NAME).await?;
        let mut owner = Owner::of(found.as_ref(), &self.service);
        if let (Owner::Absent, true, Some(bundle)) = (&owner, self.create, bundle) {
            let made = self.api.create(&PostParams::default(), &self.ours(bundle)).await?;
            tracing::info!("made the APIService {NAME}");
            owner = Owner::Ours;
            found = Some(made);
        }
        self.say(&owner);
        if let (Owner::Ours, Some(bundle), Some(found)) = (&owner, bundle, found)
            && let Some(patch) = trust(&found, bundle)
        {
            self.api.patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            tracing::info!("told kube-apiserver in the APIService {NAME} which CAs to trust");
        }
        Ok(owner)
    }

    fn say(&mut self, owner: &Owner) {
        self.metrics.api_service(owner);
        if self.said.as_ref() == Some(owner) {
            return;
        }
        match owner {
            Owner::Ours => tracing::info!("the APIService {NAME} leads HPAs to {}", self.service),
            Owner::Foreign(to) => tracing::warn!(
                leads_to = to,
                "the APIService {NAME} belongs to another server and is left alone: HPAs ask that one, not {}",
                self.service
            ),
            Owner::Absent => tracing::warn!(
                "there is no APIService {NAME}: no HPA reaches the external metrics; apply the manifest, or give \
                 --external-metrics.manage-api-service"
            ),
        }
        self.said = Some(owner.clone());
    }

    fn ours(&self, bundle: &str) -> APIService {
        use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIServiceSpec;
        use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::ServiceReference;
        let spec = APIServiceSpec {
            group: Some(GROUP.to_owned()),
            version: Some(VERSION.to_owned()),
            group_priority_minimum: i32::from(PRIORITY),
            version_priority: i32::from(PRIORITY),
            service: Some(ServiceReference {
                namespace: Some(self.service.namespace.clone()),
                name: Some(self.service.name.clone()),
                port: Some(i32::from(PORT)),
            }),
            ca_bundle: Some(k8s_openapi::ByteString(bundle.as_bytes().to_vec())),
            insecure_skip_tls_verify: None,
        };
        let metadata = kube::api::ObjectMeta { name: Some(NAME.to_owned()), ..kube::api::ObjectMeta::default() };
        APIService { metadata, spec: Some(spec), status: None }
    }
}

/// Returns the patch that makes kube-apiserver trust `bundle` and check certificates; `None` where it does. It names the
/// version that it is for, so that it fails where another took the APIService in the meantime.
fn trust(found: &APIService, bundle: &str) -> Option<serde_json::Value> {
    let spec = found.spec.as_ref()?;
    let trusted = spec.ca_bundle.as_ref().is_some_and(|known| known.0 == bundle.as_bytes());
    let checks = spec.insecure_skip_tls_verify != Some(true);
    let wanted = json!({
        "metadata": {"resourceVersion": found.metadata.resource_version},
        "spec": {"caBundle": k8s_openapi::ByteString(bundle.as_bytes().to_vec()), "insecureSkipTLSVerify": null},
    });
    (!trusted || !checks).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Namespaced {
        "cloudpulse/cloudpulse-scaler".parse().unwrap()
    }

    fn found(spec: &serde_json::Value) -> APIService {
        let object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                            "metadata": {"name": NAME, "resourceVersion": "7"}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn spec(namespace: &str, bundle: Option<&str>, insecure: bool) -> serde_json::Value {
        let bundle = bundle.map(|bundle| k8s_openapi::ByteString(bundle.as_bytes().to_vec()));
        json!({"group": GROUP, "version": VERSION, "groupPriorityMinimum": 100, "versionPriority": 100, "caBundle": bundle,
               "insecureSkipTLSVerify": insecure, "service": {"namespace": namespace, "name": "cloudpulse-scaler"}})
    }

    #[test]
    fn the_owner_is_who_it_leads_to() {
        assert_eq!(Owner::of(None, &service()), Owner::Absent);
        assert_eq!(Owner::of(Some(&found(&spec("cloudpulse", None, false))), &service()), Owner::Ours);
        let keda = Owner::of(Some(&found(&spec("keda", None, false))), &service());
        assert_eq!(keda, Owner::Foreign("keda/cloudpulse-scaler".to_owned()));
        let local = found(&json!({"groupPriorityMinimum": 1, "versionPriority": 1}));
        assert!(matches!(Owner::of(Some(&local), &service()), Owner::Foreign(_)));
    }

    #[test]
    fn what_is_not_trusted_yet_is_patched_and_certificates_are_always_checked() {
        assert_eq!(trust(&found(&spec("cloudpulse", Some("pem"), false)), "pem"), None);
        for insecure in [spec("cloudpulse", Some("pem"), true), spec("cloudpulse", Some("old"), false)] {
            assert_eq!(
                trust(&found(&insecure), "pem").unwrap(),
                json!({"metadata": {"resourceVersion": "7"}, "spec": {"caBundle": "cGVt", "insecureSkipTLSVerify": null}})
            );
        }
    }

    #[test]
    fn names_have_a_namespace() {
        assert_eq!(service().to_string(), "cloudpulse/cloudpulse-scaler");
        for wrong in ["cloudpulse-scaler", "/a", "a/", "a/b/c", "A/b", "a b/c"] {
            assert_eq!(wrong.parse::<Namespaced>(), Err(NotNamespaced), "{wrong}");
        }
    }
}
