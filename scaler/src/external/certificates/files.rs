//! A serving certificate from files, such as cert-manager keeps: paths in; what lies there out, when it is another.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::external::tls::Serving;

/// Two files, and what they held last.
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
    last: Option<(Vec<u8>, Vec<u8>)>,
}

/// Leaves out what the files held.
impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("certificate", &self.certificate).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Files {
    /// Takes the chain, the server's certificate first, from one file and its key from the other, both PEM.
    pub const fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, last: None }
    }

    /// Reads the files. Returns what is in them if it is not what was returned last: a link that was put elsewhere, as in a
    /// mounted Secret, is seen like a file that was written.
    ///
    /// # Errors
    /// Where a file cannot be read, or the two do not go together, as between the writing of one and of the other.
    pub fn changed(&mut self) -> anyhow::Result<Option<Serving>> {
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
        let now = (read(&self.certificate)?, read(&self.key)?);
        if self.last.as_ref() == Some(&now) {
            return Ok(None);
        }
        let serving = Serving::from_pem(&now.0, &now.1)
            .with_context(|| format!("{} and {}", self.certificate.display(), self.key.display()))?;
        self.last = Some(now);
        Ok(Some(serving))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::external::testing::Ca;

    #[test]
    fn a_change_is_seen_once_and_half_of_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let mut files = Files::new(certificate.clone(), key.clone());
        assert!(files.changed().unwrap_err().to_string().contains("tls.crt"));
        let ca = Ca::new("ca");
        let (first, second) = (ca.server("a"), ca.server("a"));
        std::fs::write(&certificate, Ca::to_pem(&first.0)).unwrap();
        std::fs::write(&key, &first.1).unwrap();
        assert!(files.changed().unwrap().is_some());
        assert!(files.changed().unwrap().is_none());
        std::fs::write(&certificate, Ca::to_pem(&second.0)).unwrap();
        assert!(files.changed().is_err(), "the new certificate with the old key");
        std::fs::write(&key, &second.1).unwrap();
        assert!(files.changed().unwrap().is_some());
    }
}
