//! Which of several predictors forecasts a series: labels in, yes or no out.

use std::str::FromStr;

use cloudpulse_common::query::Labels;

use crate::tracked::stable_hash;

/// One predictor of several that share the series of the same configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    count: u64,
}

impl Shard {
    /// The only predictor: all series are its own.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Returns shard `index`, counted from 0, of `count`.
    ///
    /// # Errors
    /// When there is no such shard.
    pub fn new(index: u64, count: u64) -> Result<Self, String> {
        if index < count {
            Ok(Self { index, count })
        } else {
            Err(format!("shard {index} of {count} does not exist; shards are counted from 0"))
        }
    }

    /// Returns the shard of a member of a StatefulSet, whose host name ends in `-<ordinal>`.
    ///
    /// # Errors
    /// When the name has no ordinal, or the ordinal is not below `count`.
    pub fn of_host(hostname: &str, count: u64) -> Result<Self, String> {
        let ordinal = hostname.rsplit_once('-').and_then(|(_, ordinal)| ordinal.parse().ok());
        let index = ordinal.ok_or_else(|| {
            format!("the host name {hostname:?} does not end in -<ordinal>, as those of a StatefulSet do")
        })?;
        Self::new(index, count)
    }

    /// Returns whether the series of these labels, metric name left out, is forecast here.
    pub fn owns(self, labels: &Labels) -> bool {
        // The low bits of FNV-1a are the parity of those of its input, and equal for correlated labels: mixed first.
        self.count == 1 || mixed(stable_hash(labels)) % self.count == self.index
    }

    /// Returns the place of the shard, counted from 0.
    pub const fn index(self) -> u64 {
        self.index
    }

    /// Returns the number of shards.
    pub const fn count(self) -> u64 {
        self.count
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let (index, count) = parts.ok_or_else(|| format!("{text:?} is no shard; write it as 0/3"))?;
        Self::new(index, count)
    }
}

/// Spreads every bit of a hash over all of them: the finaliser of MurmurHash3 (Appleby, public domain).
const fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, String)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn each_series_has_one_owner_and_owners_have_like_shares() {
        // Two labels that change together cancel out in the low bits of FNV-1a.
        let alike = |i: usize| labels(&[("instance", format!("node-{i}:9100")), ("node", format!("node-{i}"))]);
        let plain = |i: usize| labels(&[("instance", format!("10.0.{}.{}:9100", i / 250, i % 250))]);
        for count in [2, 3, 4, 7, 16] {
            for series in [(0..4000).map(alike).collect::<Vec<_>>(), (0..4000).map(plain).collect()] {
                let mut shares = vec![0_usize; count];
                for labels in &series {
                    let owners: Vec<usize> =
                        (0..count).filter(|i| Shard::new(*i as u64, count as u64).unwrap().owns(labels)).collect();
                    assert_eq!(owners.len(), 1, "{labels:?}");
                    shares[owners[0]] += 1;
                }
                let fair = 4000 / count;
                let spread = 5 * (fair as f64).sqrt() as usize;
                assert!(shares.iter().all(|share| share.abs_diff(fair) < spread), "{count}: {shares:?}");
            }
        }
    }

    #[test]
    fn the_owner_never_changes() {
        let owner = |i: usize| {
            let labels = labels(&[("instance", format!("node-{i}:9100"))]);
            (0..3).position(|index| Shard::new(index, 3).unwrap().owns(&labels)).unwrap()
        };
        let owners: Vec<usize> = (0..12).map(owner).collect();
        let expected = [2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 2, 1];
        assert_eq!(owners, expected, "another owner would forecast a series twice, or not at all, during an upgrade");
    }

    #[test]
    fn shards_are_read() {
        assert_eq!("1/3".parse(), Shard::new(1, 3));
        assert_eq!(Shard::of_host("predictor-2", 3), Shard::new(2, 3));
        assert!(Shard::WHOLE.owns(&Labels::new()));
        for wrong in ["", "1", "3/3", "-1/3", "a/b", "0/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
        assert!(Shard::of_host("laptop", 3).unwrap_err().contains("StatefulSet"));
        assert!(Shard::of_host("predictor-3", 3).is_err());
    }
}
