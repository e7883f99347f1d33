//! Who asks: a certificate, or headers that a proxy vouches for, in; a user out. Pure.

use std::collections::BTreeMap;

use hyper::HeaderMap;
use hyper::header::HeaderName;
use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::FromDer as _;
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::AttributeTypeAndValue;

/// Group of everybody who is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of everybody who is not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Name of whoever shows nothing.
pub const ANONYMOUS: &str = "system:anonymous";
/// Group of those who may do everything.
pub const MASTERS: &str = "system:masters";

/// A user, as Kubernetes has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    /// The name.
    pub name: String,
    /// The unique id; mostly empty.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why headers name no user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a header that names the user is not UTF-8")]
pub struct BadHeader;

/// The headers in which a proxy says who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityHeaders {
    /// Those with the name; the first that is not empty counts.
    pub user: Vec<HeaderName>,
    /// Those with the unique id; the first that is not empty counts.
    pub uid: Vec<HeaderName>,
    /// Those with groups; all values of all of them count.
    pub group: Vec<HeaderName>,
    /// What the names of headers with anything else begin with, in lower case.
    pub extra_prefixes: Vec<String>,
}

impl User {
    /// Returns who shows nothing.
    pub fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            uid: String::new(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            extra: BTreeMap::new(),
        }
    }

    /// Returns the user that a certificate is for: its last common name, and its organizations as groups. `None` without a
    /// common name.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let text = |value: &AttributeTypeAndValue<'_>| value.as_str().ok().map(str::to_owned);
        let name = parsed.subject().iter_common_name().last().and_then(text).filter(|name| !name.is_empty())?;
        let groups = parsed.subject().iter_organization().filter_map(text).collect();
        Some(Self { name, uid: String::new(), groups, extra: BTreeMap::new() })
    }

    /// Returns the user that the headers name; `None` where they name none. Only to be asked once the proxy is known.
    ///
    /// # Errors
    /// Where a header cannot be read; to leave it out could make another user of it.
    pub fn of_headers(headers: &HeaderMap, names: &IdentityHeaders) -> Result<Option<Self>, BadHeader> {
        let text = |value: &hyper::header::HeaderValue| {
            std::str::from_utf8(value.as_bytes()).map(str::to_owned).map_err(|_| BadHeader)
        };
        let first = |names: &[HeaderName]| {
            let found = names.iter().filter_map(|name| headers.get(name)).find(|value| !value.is_empty());
            found.map(text).transpose()
        };
        let Some(name) = first(&names.user)? else { return Ok(None) };
        let uid = first(&names.uid)?.unwrap_or_default();
        let groups = names.group.iter().flat_map(|name| headers.get_all(name));
        let groups = groups.filter(|value| !value.is_empty()).map(text).collect::<Result<_, _>>()?;
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (header, value) in headers {
            let key = names.extra_prefixes.iter().find_map(|prefix| header.as_str().strip_prefix(prefix.as_str()));
            if let Some(key) = key.filter(|key| !key.is_empty()) {
                let key = percent_decode_str(key).decode_utf8().map_err(|_| BadHeader)?.to_lowercase();
                extra.entry(key).or_default().push(text(value)?);
            }
        }
        Ok(Some(Self { name, uid, groups, extra }))
    }

    /// Adds the group of everybody who is known, unless a proxy said that the user is, or is not.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        let said = self.groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED);
        if !said && !self.is_anonymous() {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// Returns whether nobody knows who it is.
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// Returns whether the user may do everything.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::external::testing::Ca;

    fn names() -> IdentityHeaders {
        IdentityHeaders {
            user: vec![HeaderName::from_static("x-remote-user"), HeaderName::from_static("x-other-user")],
            uid: vec![HeaderName::from_static("x-remote-uid")],
            group: vec![HeaderName::from_static("x-remote-group")],
            extra_prefixes: vec!["x-remote-extra-".to_owned()],
        }
    }

    fn headers(of: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn headers_name_a_user_with_all_groups_and_extras() {
        let user = User::of_headers(
            &headers(&[
                ("X-Remote-User", "alice"),
                ("X-Remote-Uid", "7"),
                ("X-Remote-Group", "dev"),
                ("X-Remote-Group", "ops"),
                ("X-Remote-Extra-Scopes", "a"),
                ("X-Remote-Extra-Scopes", "b"),
                ("X-Remote-Extra-Acme.com%2fProject", "web"),
                ("X-Remote-Extra-", "nothing"),
            ]),
            &names(),
        );
        let extra = [("acme.com/project", vec!["web"]), ("scopes", vec!["a", "b"])];
        let own = |text: &str| text.to_owned();
        assert_eq!(
            user.unwrap().unwrap(),
            User {
                name: own("alice"),
                uid: own("7"),
                groups: vec![own("dev"), own("ops")],
                extra: extra.map(|(key, values)| (own(key), values.into_iter().map(own).collect())).into(),
            }
        );
    }

    #[test]
    fn the_first_name_that_is_not_empty_counts_and_without_one_there_is_no_user() {
        let user = |of: &[(&str, &str)]| User::of_headers(&headers(of), &names()).unwrap().map(|user| user.name);
        assert_eq!(user(&[("X-Remote-User", ""), ("X-Other-User", "bob")]).as_deref(), Some("bob"));
        assert_eq!(user(&[("X-Other-User", "bob"), ("X-Remote-User", "alice")]).as_deref(), Some("alice"));
        assert_eq!(user(&[("X-Remote-Group", "system:masters")]), None);
    }

    #[test]
    fn a_name_that_cannot_be_read_is_an_error() {
        let mut bad = HeaderMap::new();
        bad.insert("x-remote-user", hyper::header::HeaderValue::from_bytes(b"ad\xffmin").unwrap());
        assert_eq!(User::of_headers(&bad, &names()), Err(BadHeader));
    }

    #[test]
    fn a_certificate_names_its_user_and_groups() {
        let ca = Ca::new("ca");
        let user = User::of_certificate(&ca.client("alice", &["dev"]).0).unwrap();
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("alice", &["dev".to_owned()][..]));
        assert_eq!(User::of_certificate(&ca.client("", &[]).0), None);
        assert_eq!(User::of_certificate(&CertificateDer::from(vec![1, 2])), None);
    }

    #[test]
    fn everybody_who_is_known_is_in_the_group_of_them() {
        let user = |name: &str, groups: &[&str]| User {
            name: name.to_owned(),
            groups: groups.iter().map(ToString::to_string).collect(),
            ..User::anonymous()
        };
        assert_eq!(user("system:kube-aggregator", &[]).authenticated().groups, ["system:authenticated"]);
        assert_eq!(user("a", &["b", AUTHENTICATED]).authenticated().groups, ["b", AUTHENTICATED]);
        assert_eq!(user(ANONYMOUS, &[UNAUTHENTICATED]).authenticated().groups, [UNAUTHENTICATED]);
        assert!(user("root", &["a", MASTERS]).is_master() && !user(MASTERS, &["a"]).is_master());
    }
}
