//! Which network mixes the models in a benchmark: a word or a file in, the models with it out.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use cloudpulse_forecast::ensemble::Ensemble;
use cloudpulse_lstm::member::{self, Member};

/// A choice of network.
#[derive(Debug, Clone, Default)]
pub(crate) enum Network {
    /// The models without one.
    None,
    /// That of the program.
    #[default]
    Bundled,
    /// Another, that `cloudpulse-predictor pretrain` made.
    File(PathBuf),
}

impl FromStr for Network {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "none" => Self::None,
            "bundled" => Self::Bundled,
            path => Self::File(path.into()),
        })
    }
}

impl Network {
    /// Returns the models with this network.
    ///
    /// # Errors
    /// When the file cannot be read or holds no network for these models.
    pub(crate) fn ensemble(&self) -> anyhow::Result<Ensemble> {
        let models = Ensemble::default();
        if matches!(self, Self::None) {
            return Ok(models);
        }
        let member = Member::load(&models, &self.bytes()?).with_context(|| format!("network {self:?}"))?;
        Ok(models.with_network(Arc::new(member)))
    }

    /// Returns the file of weights; empty without a network.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::Bundled => Ok(member::bundled_bytes().to_vec()),
            Self::File(path) => std::fs::read(path).with_context(|| path.display().to_string()),
        }
    }
}
