//! What is asked of kube-apiserver about a request: who a token is, and whether a user may.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authentication::v1::TokenReviewSpec;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::NonResourceAttributes;
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::authorization::v1::SubjectAccessReviewSpec;
use kube::Api;
use kube::Client;
use kube::api::PostParams;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::external::identity::User;
use crate::external::kept::Failed;
use crate::external::metrics::Metrics;
use crate::external::metrics::Review;
use crate::external::protocol::GROUP;
use crate::external::protocol::VERSION;

/// How long a review may take, with all its tries.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before the second try; each further one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const TRIES: u32 = 5;
/// Reviews under way at once for users that are known; more wait.
const AT_ONCE: usize = 64;
/// The same for what anybody in the cluster can send: rights of the anonymous, and tokens. Apart, and fewer, so that no flood of
/// them makes an HPA wait.
const OF_STRANGERS: usize = 8;

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Something with the values of a metric.
    Metric {
        /// The namespace of the HPA.
        namespace: String,
        /// The metric's name, which is the name of a resource to Kubernetes.
        metric: String,
        /// What, such as `list`.
        verb: &'static str,
    },
    /// Something with a path that is no resource.
    Path {
        /// The path.
        path: String,
        /// What: the HTTP method in lower case.
        verb: String,
    },
}

/// Who knows of tokens and rights.
pub trait Reviewer: fmt::Debug + Send + Sync {
    /// Returns whose token this is; `None` where it is nobody's.
    fn token(&self, token: String) -> BoxFuture<'static, Result<Option<User>, Failed>>;

    /// Returns whether the user may.
    fn access(&self, user: &User, action: &Action) -> BoxFuture<'static, Result<bool, Failed>>;
}

/// Asks kube-apiserver.
#[derive(Clone)]
pub struct KubernetesReviewer {
    client: Client,
    permits: Arc<Semaphore>,
    permits_of_strangers: Arc<Semaphore>,
    metrics: Metrics,
}

impl fmt::Debug for KubernetesReviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesReviewer").finish_non_exhaustive()
    }
}

impl KubernetesReviewer {
    /// Asks with `client`, whose user needs the ClusterRole `system:auth-delegator`.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        let [permits, permits_of_strangers] = [AT_ONCE, OF_STRANGERS].map(|count| Arc::new(Semaphore::new(count)));
        Self { client, permits, permits_of_strangers, metrics }
    }

    /// Sends a review, again after a failure that may pass. Its answer is in the status of what comes back.
    async fn review<R>(&self, review: R, permits: &Semaphore) -> Result<R, Failed>
    where
        R: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + fmt::Debug,
    {
        let tries = async {
            let _permit = permits.acquire().await.map_err(Failed::new)?;
            let api = Api::<R>::all(self.client.clone());
            let mut pause = FIRST_PAUSE;
            let mut tried = 1;
            loop {
                match api.create(&PostParams::default(), &review).await {
                    Ok(review) => return Ok(review),
                    Err(error) if tried == TRIES || !may_pass(&error) => return Err(Failed::new(error)),
                    Err(error) => tracing::debug!(%error, tried, "a review failed"),
                }
                tokio::time::sleep(pause).await;
                pause = pause * 3 / 2;
                tried += 1;
            }
        };
        tokio::time::timeout(TIMEOUT, tries).await.unwrap_or_else(|_| {
            Err(Failed::new(format!("kube-apiserver did not answer within {} s", TIMEOUT.as_secs())))
        })
    }
}

fn may_pass(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code >= 500 || status.code == 429,
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}

impl Reviewer for KubernetesReviewer {
    fn token(&self, token: String) -> BoxFuture<'static, Result<Option<User>, Failed>> {
        let this = self.clone();
        let spec = TokenReviewSpec { token: Some(token), audiences: None };
        Box::pin(async move {
            let review = TokenReview { spec, ..TokenReview::default() };
            let answer = this.review(review, &this.permits_of_strangers).await.map(|review| {
                let status = review.status.unwrap_or_default();
                if let Some(error) = status.error.filter(|error| !error.is_empty()) {
                    tracing::debug!(error, "a token was not taken");
                }
                status.user.filter(|_| status.authenticated == Some(true)).map(User::from)
            });
            this.metrics.reviewed(Review::Token, answer.as_ref().map(Option::is_some).ok());
            answer
        })
    }

    fn access(&self, user: &User, action: &Action) -> BoxFuture<'static, Result<bool, Failed>> {
        let this = self.clone();
        let spec = access_spec(user, action);
        let permits = Arc::clone(if user.is_anonymous() { &self.permits_of_strangers } else { &self.permits });
        Box::pin(async move {
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            let answer = this.review(review, &permits).await.map(|review| {
                let status = review.status.unwrap_or_default();
                status.allowed && status.denied != Some(true)
            });
            this.metrics.reviewed(Review::Access, answer.as_ref().copied().ok());
            answer
        })
    }
}

impl From<UserInfo> for User {
    fn from(info: UserInfo) -> Self {
        Self {
            name: info.username.unwrap_or_default(),
            uid: info.uid.unwrap_or_default(),
            groups: info.groups.unwrap_or_default(),
            extra: info.extra.unwrap_or_default(),
        }
    }
}

fn access_spec(user: &User, action: &Action) -> SubjectAccessReviewSpec {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (resource_attributes, non_resource_attributes) = match action {
        Action::Metric { namespace, metric, verb } => {
            let attributes = ResourceAttributes {
                namespace: Some(namespace.clone()),
                verb: Some((*verb).to_owned()),
                group: Some(GROUP.to_owned()),
                version: Some(VERSION.to_owned()),
                resource: Some(metric.clone()),
                ..ResourceAttributes::default()
            };
            (Some(attributes), None)
        }
        Action::Path { path, verb } => {
            let attributes = NonResourceAttributes { path: Some(path.clone()), verb: Some(verb.clone()) };
            (None, Some(attributes))
        }
    };
    let extra: BTreeMap<_, _> = user.extra.clone();
    SubjectAccessReviewSpec {
        user: some(&user.name),
        uid: some(&user.uid),
        groups: Some(user.groups.clone()),
        extra: (!extra.is_empty()).then_some(extra),
        resource_attributes,
        non_resource_attributes,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_review_says_who_wants_what() {
        let user = User {
            name: "system:serviceaccount:kube-system:horizontal-pod-autoscaler".to_owned(),
            groups: vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()],
            ..User::anonymous()
        };
        let metric =
            Action::Metric { namespace: "shop".to_owned(), metric: "cloudpulse-forecast".to_owned(), verb: "list" };
        assert_eq!(
            serde_json::to_value(access_spec(&user, &metric)).unwrap(),
            json!({"user": "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
                   "groups": ["system:serviceaccounts", "system:authenticated"],
                   "resourceAttributes": {"namespace": "shop", "verb": "list", "group": "external.metrics.k8s.io",
                                          "version": "v1beta1", "resource": "cloudpulse-forecast"}})
        );
        let aggregator = User { name: "system:kube-aggregator".to_owned(), groups: vec![], ..user };
        let path = Action::Path { path: "/apis".to_owned(), verb: "get".to_owned() };
        assert_eq!(
            serde_json::to_value(access_spec(&aggregator, &path)).unwrap(),
            json!({"user": "system:kube-aggregator", "groups": [],
                   "nonResourceAttributes": {"path": "/apis", "verb": "get"}})
        );
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let api = |code| kube::Error::Api(Box::new(kube::core::Status::failure("no", "Reason").with_code(code)));
        for (error, again) in [
            (api(500), true),
            (api(503), true),
            (api(429), true),
            (api(403), false),
            (api(400), false),
            (kube::Error::Service("connection refused".into()), true),
        ] {
            assert_eq!(may_pass(&error), again, "{error:?}");
        }
    }
}
