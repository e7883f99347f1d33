//! A serving certificate from the scaler's own CAs, which all replicas share in a Secret: what the Secret holds in; a
//! certificate out, which kube-apiserver already trusts.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::Client;
use kube::api::PostParams;

use crate::external::api_service::Namespaced;
use crate::external::api_service::Registration;
use crate::external::certificates::now;
use crate::external::certificates::own::Authorities;
use crate::external::certificates::own::Lifetimes;
use crate::external::tls::Serving;

const CERTIFICATES: &str = "ca.crt";
const KEYS: &str = "ca.key";
/// Another replica may write at the same time, but not often.
const TRIES: usize = 5;

/// The CAs in the Secret, and the certificate that was made last.
#[derive(Debug)]
pub struct Own {
    api: Api<Secret>,
    secret: Namespaced,
    names: Vec<String>,
    lifetimes: Lifetimes,
    authorities: Authorities,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    /// When its CA was made.
    signer: i64,
    renew_at: i64,
}

/// A certificate that was made, and the end of its CA.
#[derive(Debug)]
pub struct Made {
    /// The certificate.
    pub serving: Serving,
    /// The Unix time at which its CA ends.
    pub authority_not_after: i64,
}

impl Own {
    /// Takes CAs from `secret`, for certificates of `service`.
    pub fn new(client: Client, secret: Namespaced, service: &Namespaced, lifetimes: Lifetimes) -> Self {
        let api = Api::namespaced(client, &secret.namespace);
        let Namespaced { namespace, name } = service;
        // The first is the name that kube-apiserver checks.
        let names = vec![
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{name}.{namespace}"),
        ];
        Self { api, secret, names, lifetimes, authorities: Authorities::default(), held: None }
    }

    /// Agrees with the other replicas on the CAs, has them trusted, and returns a certificate where it is time for one. A
    /// certificate of another CA than before comes only once kube-apiserver was told of that CA.
    ///
    /// # Errors
    /// Where the Secret or the APIService cannot be read or written. A certificate that is due is made all the same, from
    /// the CA that is trusted already.
    pub async fn turn(&mut self, registration: &mut Registration) -> anyhow::Result<Option<Made>> {
        let agreed = self.agree().await;
        if self.authorities.is_empty() {
            return agreed.map(|()| None);
        }
        let bundle = self.authorities.bundle();
        let told = registration.keep(Some(&bundle)).await.context("the APIService cannot be read or written");
        let made = self.make(agreed.is_ok() && told.is_ok())?;
        if made.is_none() {
            agreed?;
            told?;
        }
        Ok(made)
    }

    /// Returns a certificate where there is none, where the last one is at two thirds of its life, or where another CA signs
    /// now, if `change` allows for that.
    fn make(&mut self, change: bool) -> anyhow::Result<Option<Made>> {
        let now = now();
        let Some(signer) = self.authorities.signer(now, &self.lifetimes) else { return Ok(None) };
        let signer = match &self.held {
            Some(held) if !change => self.authorities.by_creation(held.signer).unwrap_or(signer),
            _ => signer,
        };
        if self.held.as_ref().is_some_and(|held| held.signer == signer.created() && now < held.renew_at) {
            return Ok(None);
        }
        let serving = signer.issue(&self.names, now, &self.lifetimes)?;
        self.held = Some(Held { signer: signer.created(), renew_at: now + (serving.not_after() - now) * 2 / 3 });
        tracing::info!(not_after = serving.not_after(), "made a serving certificate for the external metrics API");
        Ok(Some(Made { serving, authority_not_after: signer.not_after() }))
    }

    /// Reads the Secret and writes it where the CAs have to change. Who writes second reads what the first wrote.
    async fn agree(&mut self) -> anyhow::Result<()> {
        for _ in 0..TRIES {
            let found = self.api.get_opt(&self.secret.name).await.with_context(|| format!("Secret {}", self.secret))?;
            let mut authorities = self.read(found.as_ref())?;
            let lost = authorities.is_empty() && !self.authorities.is_empty();
            if lost {
                // Others trust what is served now: a new CA would break that.
                tracing::warn!("Secret {} has lost its CAs; they are written again", self.secret);
                std::mem::swap(&mut authorities, &mut self.authorities);
            }
            let changed = authorities.advance(now(), &self.lifetimes)?;
            if !changed && !lost {
                self.authorities = authorities;
                return Ok(());
            }
            let wrote = self.write(found, &authorities).await;
            if lost || wrote.is_ok() {
                self.authorities = authorities;
            }
            match wrote {
                Ok(()) => {
                    tracing::info!("wrote the CAs of the external metrics API to Secret {}", self.secret);
                    return Ok(());
                }
                // Another replica was first.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error).with_context(|| format!("Secret {} cannot be written", self.secret)),
            }
        }
        anyhow::bail!("Secret {} is written by others all the time", self.secret)
    }

    fn read(&self, found: Option<&Secret>) -> anyhow::Result<Authorities> {
        let data = found.and_then(|secret| secret.data.as_ref());
        let part = |key| data.and_then(|data| data.get(key)).map(|part| part.0.as_slice()).unwrap_or_default();
        Authorities::read(part(CERTIFICATES), part(KEYS))
            .with_context(|| format!("Secret {}; empty its {CERTIFICATES} and {KEYS} for new CAs", self.secret))
    }

    async fn write(&self, found: Option<Secret>, authorities: &Authorities) -> Result<(), kube::Error> {
        let bytes = |text: String| ByteString(text.into_bytes());
        let data = [(CERTIFICATES, bytes(authorities.bundle())), (KEYS, bytes(authorities.keys()))];
        let data: BTreeMap<String, ByteString> = data.map(|(key, value)| (key.to_owned(), value)).into();
        match found {
            Some(mut secret) => {
                secret.data.get_or_insert_default().extend(data);
                self.api.replace(&self.secret.name, &PostParams::default(), &secret).await?;
            }
            None => {
                let metadata = kube::api::ObjectMeta {
                    name: Some(self.secret.name.clone()),
                    namespace: Some(self.secret.namespace.clone()),
                    ..kube::api::ObjectMeta::default()
                };
                let secret = Secret { metadata, data: Some(data), ..Secret::default() };
                self.api.create(&PostParams::default(), &secret).await?;
            }
        }
        Ok(())
    }
}
