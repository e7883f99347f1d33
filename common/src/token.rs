//! Who may write: a file with a bearer token and the headers of a request in; yes, or why not, out.

use std::path::PathBuf;

use axum::http::{HeaderMap, StatusCode, header};

/// A file with the token that a request that changes something must bring. It is read for each such request, so that the
/// token can be changed at any time.
#[derive(Debug, Clone, Default)]
pub struct TokenFile(Option<PathBuf>);

/// Brings the token where `Authorization` holds a user and password, under a web config with users.
pub const TOKEN_HEADER: &str = "x-cloudpulse-token";

/// Why a request may not write.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is no token.
    #[error("writes are switched off; start the program with --api-token-file")]
    Off,
    /// The file cannot be read, or is empty.
    #[error("the file of --api-token-file cannot be read or is empty")]
    File,
    /// The request brings none, or another.
    #[error(
        "the request needs the header \"Authorization: Bearer TOKEN\" or \"X-CloudPulse-Token: TOKEN\" with the token of --api-token-file"
    )]
    Token,
}

impl Refused {
    /// Returns the status of the answer.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Off => StatusCode::FORBIDDEN,
            Self::File => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Token => StatusCode::UNAUTHORIZED,
        }
    }
}

impl TokenFile {
    /// Returns the check against the token in `path`; without one nobody may write.
    pub const fn new(path: Option<PathBuf>) -> Self {
        Self(path)
    }

    /// Returns whether a request with `headers` may write.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let path = self.0.as_ref().ok_or(Refused::Off)?;
        let text = std::fs::read_to_string(path).map_err(|_| Refused::File)?;
        let expected = text.trim();
        if expected.is_empty() {
            return Err(Refused::File);
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        let given = bearer.or_else(|| text(TOKEN_HEADER));
        if given.is_some_and(|given| same(given.trim().as_bytes(), expected.as_bytes())) {
            Ok(())
        } else {
            Err(Refused::Token)
        }
    }
}

/// Compares in a time that does not tell how much was right.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().unwrap())])
    }

    #[test]
    fn only_who_brings_the_token_may_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let tokens = TokenFile::new(Some(path.clone()));
        assert!(matches!(tokens.check(&headers("Bearer a")), Err(Refused::File)), "no file");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(tokens.check(&headers("Bearer ")), Err(Refused::File)), "an empty token lets nobody in");
        std::fs::write(&path, "secret\n").unwrap();
        tokens.check(&headers("Bearer secret")).unwrap();
        for wrong in ["Bearer secre", "Bearer secret2", "secret", "Basic secret", "Bearer"] {
            assert!(matches!(tokens.check(&headers(wrong)), Err(Refused::Token)), "{wrong}");
        }
        assert!(matches!(tokens.check(&HeaderMap::new()), Err(Refused::Token)));
        for (token, may) in [("secret", true), ("secre", false), ("Bearer secret", false)] {
            let mut headers = headers("Basic YTpi");
            headers.insert(TOKEN_HEADER, token.parse().unwrap());
            assert_eq!(tokens.check(&headers).is_ok(), may, "{token}");
        }
        std::fs::write(&path, "other").unwrap();
        tokens.check(&headers("Bearer other")).unwrap();
        assert!(matches!(TokenFile::default().check(&headers("Bearer other")), Err(Refused::Off)));
    }
}
