//! Alertmanager's API v2: matchers and silences in; alerts and silences out, or why there are none.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use cloudpulse_common::query::http_client;
use reqwest::Method;
use reqwest::RequestBuilder;
use reqwest::StatusCode;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::AlertmanagerArgs;
use super::matcher::Matcher;

/// Most of a foreign answer that an error shows.
const SHOWN_CHARACTERS: usize = 200;

/// An alert that Alertmanager has.
#[derive(Debug, Deserialize)]
pub(super) struct Alert {
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) status: AlertStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AlertStatus {
    /// Ids of the silences that hold for it.
    pub(super) silenced_by: Vec<String>,
}

/// A silence to be set. Times are in RFC 3339.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewSilence {
    pub(super) matchers: Vec<Matcher>,
    pub(super) starts_at: String,
    pub(super) ends_at: String,
    pub(super) created_by: String,
    pub(super) comment: String,
}

/// A silence that Alertmanager has.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Silence {
    pub(super) id: String,
    pub(super) matchers: Vec<Matcher>,
    pub(super) starts_at: String,
    pub(super) ends_at: String,
    pub(super) created_by: String,
    pub(super) comment: String,
    pub(super) status: SilenceStatus,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SilenceStatus {
    /// `active`, `pending` or `expired`.
    pub(super) state: String,
}

/// A server, and how to be let in.
#[derive(Debug)]
pub(super) struct Alertmanager {
    url: String,
    client: reqwest::Client,
    bearer: Option<String>,
    basic: Option<(String, String)>,
}

impl Alertmanager {
    /// # Errors
    /// When the URL is none, or a file with a secret cannot be read.
    pub(super) fn new(args: AlertmanagerArgs) -> anyhow::Result<Self> {
        let AlertmanagerArgs { url, timeout, bearer_token_file, username, password_file } = args;
        anyhow::ensure!(
            url.starts_with("http://") || url.starts_with("https://"),
            "--alertmanager {url:?} is no URL; write it as http://HOST:9093"
        );
        let basic = username.zip(password_file);
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            client: http_client().timeout(timeout.0).build()?,
            bearer: bearer_token_file.as_deref().map(secret).transpose()?,
            basic: basic.map(|(name, file)| anyhow::Ok((name, secret(&file)?))).transpose()?,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the alerts that fire, those that are silenced or inhibited among them.
    ///
    /// # Errors
    /// When Alertmanager does not answer.
    pub(super) async fn alerts(&self, matchers: &[Matcher]) -> anyhow::Result<Vec<Alert>> {
        self.ask(self.request(Method::GET, "alerts").query(&filters(matchers))).await
    }

    /// Returns the silences that hold or will, with at least these matchers, by their end.
    ///
    /// # Errors
    /// When Alertmanager does not answer.
    pub(super) async fn silences(&self, matchers: &[Matcher]) -> anyhow::Result<Vec<Silence>> {
        // Its own filter takes the matchers for labels, which a silence has not: it would leave out `instance=~…`.
        let mut silences: Vec<Silence> = self.ask(self.request(Method::GET, "silences")).await?;
        silences.retain(|silence| {
            silence.status.state != "expired" && matchers.iter().all(|matcher| silence.matchers.contains(matcher))
        });
        silences.sort_by(|one, other| one.ends_at.cmp(&other.ends_at));
        Ok(silences)
    }

    /// Sets a silence and returns its id.
    ///
    /// # Errors
    /// When Alertmanager refuses it or does not answer.
    pub(super) async fn silence(&self, silence: &NewSilence) -> anyhow::Result<String> {
        let answer: Value = self.ask(self.request(Method::POST, "silences").json(silence)).await?;
        let id = answer["silenceID"].as_str();
        Ok(id.with_context(|| format!("the answer names no silence: {answer}"))?.to_owned())
    }

    /// Ends a silence.
    ///
    /// # Errors
    /// When there is no such silence, or Alertmanager does not answer.
    pub(super) async fn expire(&self, id: &str) -> anyhow::Result<()> {
        anyhow::ensure!(
            !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
            "{id:?} is no id of a silence; --list has them"
        );
        let silence: Silence = match self.send(self.request(Method::GET, &format!("silence/{id}"))).await? {
            // Of another form than an id of its own, 422 or 400.
            (StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY, _) => {
                anyhow::bail!("there is no silence {id} at {}; --list has them", self.url)
            }
            (status, body) => self.read(status, &body)?,
        };
        anyhow::ensure!(silence.status.state != "expired", "silence {id} had ended already, at {}", silence.ends_at);
        let (status, body) = self.send(self.request(Method::DELETE, &format!("silence/{id}"))).await?;
        if status.is_success() { Ok(()) } else { Err(self.refused(status, &body)) }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}/api/v2/{path}", self.url));
        match (&self.bearer, &self.basic) {
            (Some(token), _) => request.bearer_auth(token),
            (None, Some((name, password))) => request.basic_auth(name, Some(password)),
            (None, None) => request,
        }
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let (status, body) = self.send(request).await?;
        self.read(status, &body)
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<(StatusCode, String)> {
        let unreachable = || format!("Alertmanager at {} cannot be reached", self.url);
        let answer = request.send().await.with_context(unreachable)?;
        let status = answer.status();
        Ok((status, answer.text().await.with_context(unreachable)?))
    }

    fn read<T: DeserializeOwned>(&self, status: StatusCode, body: &str) -> anyhow::Result<T> {
        if !status.is_success() {
            return Err(self.refused(status, body));
        }
        serde_json::from_str(body).with_context(|| {
            format!("{} answers {:?}; is this the address of an Alertmanager (0.16 or newer)?", self.url, shown(body))
        })
    }

    fn refused(&self, status: StatusCode, body: &str) -> anyhow::Error {
        // Its own words are a JSON string, a generated server's an object.
        let said = match serde_json::from_str::<Value>(body) {
            Ok(Value::String(text)) => text,
            Ok(Value::Object(object)) if object["message"].is_string() => {
                object["message"].as_str().unwrap_or_default().to_owned()
            }
            _ => shown(body),
        };
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ". --bearer-token-file, or --username and --password-file, say who asks"
            }
            StatusCode::NOT_FOUND => ". Is this the address of an Alertmanager (0.16 or newer), with its path?",
            _ => "",
        };
        anyhow::anyhow!("{} answers {status}: {}{hint}", self.url, said.trim())
    }
}

fn filters(matchers: &[Matcher]) -> Vec<(&'static str, String)> {
    matchers.iter().map(|matcher| ("filter", matcher.to_string())).collect()
}

fn secret(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let text = text.trim();
    anyhow::ensure!(!text.is_empty(), "{} is empty", file.display());
    Ok(text.to_owned())
}

fn shown(body: &str) -> String {
    body.trim().chars().take(SHOWN_CHARACTERS).collect()
}
