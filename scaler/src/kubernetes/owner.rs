//! Who else scales a workload: a workload in; the HorizontalPodAutoscaler or ScaledObject that owns its replicas out.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::ApiResource;
use kube::api::DynamicObject;
use kube::api::ListParams;
use kube::core::GroupVersionKind;

use crate::kubernetes::cluster::Cluster;
use crate::kubernetes::cluster::call;
use crate::target::TargetError;
use crate::target::Workload;

/// Annotation of a HorizontalPodAutoscaler that a rule keeps: the rule's name.
pub const RULE_ANNOTATION: &str = "cloudpulse.io/rule";

/// One that scales a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The rule that keeps it; `None` where it is a stranger's.
    pub rule: Option<String>,
}

/// Returns all that scale the workload: HorizontalPodAutoscalers, and KEDA's ScaledObjects where the cluster has them.
///
/// # Errors
/// Where the cluster does not tell: then nobody may scale, for somebody else might.
pub async fn owners(cluster: &Cluster, workload: &Workload) -> Result<Vec<Owner>, TargetError> {
    let client = cluster.client();
    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), &workload.namespace);
    let hpas = call("list the HorizontalPodAutoscalers", hpas.list(&ListParams::default().match_any())).await?;
    let mut owners: Vec<Owner> = hpas.items.into_iter().filter_map(|hpa| of_hpa(hpa, workload)).collect();
    let kind = GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
    let scaled: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &workload.namespace, &ApiResource::from_gvk(&kind));
    match call("list KEDA's ScaledObjects", scaled.list(&ListParams::default().match_any())).await {
        Ok(scaled) => owners.extend(scaled.items.into_iter().filter_map(|scaled| of_scaled_object(scaled, workload))),
        // A cluster without KEDA.
        Err(TargetError::NotFound(_)) => {}
        // KEDA scales through an HPA, which was seen above; without the right to see more that has to do.
        Err(TargetError::Failed { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(owners)
}

fn of_hpa(hpa: HorizontalPodAutoscaler, workload: &Workload) -> Option<Owner> {
    let target = hpa.spec?.scale_target_ref;
    let group =
        target.api_version.as_deref().map_or("", |version| version.split_once('/').map_or("", |(group, _)| group));
    let same = target.kind == workload.kind && target.name == workload.name && group == workload.group();
    let rule = hpa.metadata.annotations.and_then(|mut annotations| annotations.remove(RULE_ANNOTATION));
    same.then(|| Owner { kind: "HorizontalPodAutoscaler", name: hpa.metadata.name.unwrap_or_default(), rule })
}

fn of_scaled_object(scaled: DynamicObject, workload: &Workload) -> Option<Owner> {
    let target = scaled.data.get("spec")?.get("scaleTargetRef")?;
    let text = |field: &str| target.get(field).and_then(serde_json::Value::as_str);
    let same = text("name") == Some(&workload.name)
        && text("kind").unwrap_or("Deployment") == workload.kind
        && text("apiVersion").unwrap_or("apps/v1").split('/').next() == workload.api_version.split('/').next();
    same.then(|| Owner { kind: "ScaledObject", name: scaled.metadata.name.unwrap_or_default(), rule: None })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn web() -> Workload {
        Workload {
            namespace: "shop".to_owned(),
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: "web".to_owned(),
        }
    }

    #[test]
    fn an_hpa_owns_what_it_names() {
        let hpa = |api_version: &str, kind: &str, name: &str, annotations: serde_json::Value| {
            let hpa = json!({
                "metadata": {"name": "h", "annotations": annotations},
                "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": name}},
            });
            of_hpa(serde_json::from_value(hpa).unwrap(), &web())
        };
        let owner = hpa("apps/v1beta2", "Deployment", "web", json!({})).unwrap();
        assert_eq!((owner.name.as_str(), owner.rule), ("h", None));
        assert_eq!(
            hpa("apps/v1", "Deployment", "web", json!({RULE_ANNOTATION: "web"})).unwrap().rule.as_deref(),
            Some("web")
        );
        assert_eq!(hpa("apps/v1", "Deployment", "other", json!({})), None);
        assert_eq!(hpa("apps/v1", "StatefulSet", "web", json!({})), None);
        assert_eq!(hpa("example.io/v1", "Deployment", "web", json!({})), None);
    }

    #[test]
    fn a_scaled_object_owns_what_it_names() {
        let scaled = |target: serde_json::Value| {
            let object = json!({"metadata": {"name": "s"}, "spec": {"scaleTargetRef": target}});
            of_scaled_object(serde_json::from_value(object).unwrap(), &web())
        };
        assert!(scaled(json!({"name": "web"})).is_some());
        assert!(scaled(json!({"name": "web", "kind": "Deployment", "apiVersion": "apps/v1"})).is_some());
        assert!(scaled(json!({"name": "web", "kind": "StatefulSet"})).is_none());
        assert!(scaled(json!({"name": "db"})).is_none());
    }
}
