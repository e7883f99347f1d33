use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::header::HeaderName;

use super::*;
use crate::external::kept::Failed;
use crate::external::review::Action;
use crate::external::testing::Ca;
use crate::external::testing::Pair;

/// Knows one token; another one it cannot find out about.
#[derive(Debug)]
struct Tokens;

impl Reviewer for Tokens {
    fn token(&self, token: String) -> BoxFuture<'static, Result<Option<User>, Failed>> {
        let answer = match token.as_str() {
            "good" => Ok(Some(User {
                name: "system:serviceaccount:shop:web".to_owned(),
                groups: vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()],
                ..User::anonymous()
            })),
            "unknowable" => Err(Failed::new("kube-apiserver is away")),
            _ => Ok(None),
        };
        async { answer }.boxed()
    }

    fn access(&self, _: &User, _: &Action) -> BoxFuture<'static, Result<bool, Failed>> {
        async { Ok(false) }.boxed()
    }
}

/// The front proxy's CA and the clients' CA.
struct World {
    proxies: Ca,
    clients: Ca,
    tell: watch::Sender<Arc<Settings>>,
    authenticator: Authenticator,
}

fn settings(proxies: &Ca, clients: &Ca, allowed: &str) -> Arc<Settings> {
    let data = [
        ("client-ca-file", clients.pem()),
        ("requestheader-client-ca-file", proxies.pem()),
        ("requestheader-allowed-names", allowed.to_owned()),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#.to_owned()),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#.to_owned()),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#.to_owned()),
    ];
    let data: BTreeMap<String, String> = data.map(|(key, value)| (key.to_owned(), value)).into();
    Arc::new(Settings::parse(&data).unwrap())
}

fn world() -> World {
    let (proxies, clients) = (Ca::new("front-proxy-ca"), Ca::new("kubernetes"));
    let tell = watch::Sender::new(settings(&proxies, &clients, r#"["front-proxy-client"]"#));
    let authenticator = Authenticator::new(tell.subscribe(), Arc::new(Tokens));
    World { proxies, clients, tell, authenticator }
}

fn headers(of: &[(&str, &str)]) -> HeaderMap {
    let pair =
        |(name, value): &(&str, &str)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    of.iter().map(pair).collect()
}

const SPOOFED: [(&str, &str); 2] = [("X-Remote-User", "admin"), ("X-Remote-Group", "system:masters")];

impl World {
    async fn user(&self, certificate: Option<Pair>, of: &[(&str, &str)]) -> Result<User, String> {
        let peer = Peer::new(certificate.into_iter().map(|pair| pair.0).collect());
        self.authenticator.user(&peer, &headers(of)).await.map_err(|error| error.to_string())
    }

    async fn name(&self, certificate: Option<Pair>, of: &[(&str, &str)]) -> Result<String, String> {
        self.user(certificate, of).await.map(|user| user.name)
    }
}

#[tokio::test]
async fn the_proxy_says_who_asks() {
    let world = world();
    let proxy = || Some(world.proxies.client("front-proxy-client", &[]));
    let user = world.user(proxy(), &[("X-Remote-User", "system:kube-aggregator")]).await.unwrap();
    assert_eq!(
        (user.name.as_str(), &user.groups[..]),
        ("system:kube-aggregator", &["system:authenticated".to_owned()][..])
    );
    let user = world.user(proxy(), &[("X-Remote-User", "alice"), ("X-Remote-Group", "dev")]).await.unwrap();
    assert_eq!(user.groups, ["dev", "system:authenticated"]);
}

#[tokio::test]
async fn headers_count_only_from_the_proxy() {
    let world = world();
    assert_eq!(world.user(None, &SPOOFED).await, Ok(User::anonymous()), "no certificate at all");
    let alice = world.clients.client("alice", &["dev"]);
    let user = world.user(Some(alice), &SPOOFED).await.unwrap();
    assert_eq!(
        (user.name.as_str(), &user.groups[..]),
        ("alice", &["dev".to_owned(), "system:authenticated".to_owned()][..])
    );
    let intruder = world.user(Some(world.proxies.client("intruder", &[])), &SPOOFED).await.unwrap_err();
    assert!(intruder.contains("cn=intruder is not in the allowed list"), "{intruder}");
    let impostor = Ca::new("front-proxy-ca").client("front-proxy-client", &[]);
    assert!(world.user(Some(impostor), &SPOOFED).await.is_err(), "a CA of the same name is not the same CA");
    let client = world.clients.client("front-proxy-client", &[]);
    assert_eq!(world.name(Some(client), &SPOOFED).await.as_deref(), Ok("front-proxy-client"));
    let server = world.proxies.server("front-proxy-client");
    assert!(world.user(Some(server), &SPOOFED).await.is_err(), "a certificate for servers");
    let silent = world.user(Some(world.proxies.client("front-proxy-client", &[])), &[]).await;
    assert!(silent.is_err(), "a proxy that names nobody is no user itself");
}

#[tokio::test]
async fn tokens_are_asked_about() {
    let world = world();
    let token = |token: &'static str| [("Authorization", token)];
    assert_eq!(world.name(None, &token("Bearer good")).await.as_deref(), Ok("system:serviceaccount:shop:web"));
    assert_eq!(world.name(None, &token("bearer  good")).await.as_deref(), Ok("system:serviceaccount:shop:web"));
    assert_eq!(world.name(None, &token("Bearer garbage")).await, Err("invalid bearer token".to_owned()));
    assert!(world.name(None, &token("Bearer unknowable")).await.is_err(), "not anonymous");
    for nothing in ["Bearer", "Bearer ", "Basic good", "good"] {
        assert_eq!(world.user(None, &token(nothing)).await, Ok(User::anonymous()), "{nothing}");
    }
    let both = world.user(None, &[("Authorization", "Bearer good"), SPOOFED[0], SPOOFED[1]]).await.unwrap();
    assert!(both.name.ends_with("shop:web") && !both.is_master());
}

#[tokio::test]
async fn a_later_success_beats_an_earlier_failure() {
    let world = world();
    let unknown = Ca::new("unknown");
    let stranger = || Some(unknown.client("stranger", &[]));
    assert!(world.user(stranger(), &[]).await.is_err());
    let with_token = world.name(stranger(), &[("Authorization", "Bearer good")]).await;
    assert_eq!(with_token.as_deref(), Ok("system:serviceaccount:shop:web"));
}

#[tokio::test]
async fn no_allowed_names_means_any() {
    let world = world();
    world.tell.send_replace(settings(&world.proxies, &world.clients, "[]"));
    let other = Some(world.proxies.client("other-proxy", &[]));
    assert_eq!(world.name(other, &[("X-Remote-User", "alice")]).await.as_deref(), Ok("alice"));
}

#[tokio::test]
async fn new_settings_count_on_open_connections_too() {
    let world = world();
    let (proxy, alice) = (world.proxies.client("front-proxy-client", &[]), world.clients.client("alice", &[]));
    let (proxy, alice) = (Peer::new(vec![proxy.0]), Peer::new(vec![alice.0]));
    let named = headers(&[("X-Remote-User", "bob")]);
    assert_eq!(world.authenticator.user(&proxy, &named).await.unwrap().name, "bob");
    assert_eq!(world.authenticator.user(&alice, &named).await.unwrap().name, "alice");
    let first = Arc::clone(proxy.known.lock().unwrap().as_ref().unwrap());
    world.authenticator.user(&proxy, &named).await.unwrap();
    assert!(Arc::ptr_eq(&first, proxy.known.lock().unwrap().as_ref().unwrap()), "a chain is verified once");
    world.tell.send_replace(settings(&Ca::new("new"), &Ca::new("new"), "[]"));
    assert!(world.authenticator.user(&proxy, &named).await.is_err());
    assert!(world.authenticator.user(&alice, &named).await.is_err());
}

#[tokio::test]
async fn without_a_configmap_certificates_are_worth_nothing_and_tokens_still_count() {
    let world = world();
    world.tell.send_replace(Arc::default());
    let alice = || Some(world.clients.client("alice", &["system:masters"]));
    assert_eq!(world.user(alice(), &SPOOFED).await, Ok(User::anonymous()));
    let token = world.name(alice(), &[("Authorization", "Bearer good")]).await;
    assert_eq!(token.as_deref(), Ok("system:serviceaccount:shop:web"));
}
