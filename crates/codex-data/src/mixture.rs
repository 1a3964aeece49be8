//! Several sources as one sequence of windows: by weight, in stages, found by position alone.
//!
//! Which source a position belongs to repeats every [`BLOCK`] windows: at each the source is taken that lags most behind its share, so that no stretch of
//! training departs from the shares by more than a window or two, whatever its length. A source's own windows come in the order that it would have by
//! itself, an epoch after the other.

use std::collections::BTreeMap;

use crate::document::Origin;
use crate::error::DataError;
use crate::packing::PackingReport;
use crate::window::{DocumentRange, HostBatch, WindowLoader};

/// Windows after which the sequence of sources repeats; shares are whole windows of it.
pub const BLOCK: u64 = 1000;

/// The windows of one source or of several.
#[derive(Clone, Debug)]
pub struct MixtureLoader {
    parts: Vec<(String, WindowLoader)>,
    /// None where there is one source.
    stages: Vec<Stage>,
}

/// From a position on, these shares.
#[derive(Clone, Debug)]
struct Stage {
    from: u64,
    /// Windows of each source before it.
    before: Vec<u64>,
    /// Windows of each source in a block.
    shares: Vec<u64>,
    /// The source of each window of a block, and how many of its windows the block has before that.
    order: Vec<(usize, u64)>,
}

/// What a mixture does from a position on.
#[derive(Clone, Debug, PartialEq)]
pub struct MixtureStage {
    /// The first window of it, counted since training began.
    pub from: u64,
    /// The weight of each source; a source that is not named has none.
    pub weights: BTreeMap<String, f64>,
}

impl From<WindowLoader> for MixtureLoader {
    fn from(loader: WindowLoader) -> Self {
        Self { parts: vec![(String::new(), loader)], stages: Vec::new() }
    }
}

impl MixtureLoader {
    /// Sources by name in stages, the first of them from position 0 on.
    ///
    /// # Errors
    /// A source without windows that has a weight in some stage; weights that are not at least 0 with one above.
    pub fn new(parts: Vec<(String, WindowLoader)>, stages: &[MixtureStage]) -> Result<Self, DataError> {
        let mut built: Vec<Stage> = Vec::with_capacity(stages.len());
        for stage in stages {
            let weights: Vec<f64> = parts.iter().map(|(name, _)| stage.weights.get(name).copied().unwrap_or(0.0)).collect();
            let shares = shares(&weights).map_err(|problem| DataError::Config { key: "sources".to_owned(), problem })?;
            if let Some(((name, _), _)) =
                parts.iter().zip(&shares).find(|((_, loader), share)| **share > 0 && loader.windows_per_epoch() == 0)
            {
                let problem = format!("the source `{name}` has no training windows and a weight above 0");
                return Err(DataError::Config { key: format!("sources.{name}"), problem });
            }
            let before = match built.last() {
                None => vec![0; parts.len()],
                Some(last) => (0..parts.len()).map(|source| last.served(source, stage.from)).collect(),
            };
            built.push(Stage { from: stage.from, before, order: order(&shares), shares });
        }
        Ok(Self { parts, stages: built })
    }

    /// The names of the sources, in order; one is empty where there is only one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(name, _)| name.as_str())
    }

    /// Whether attention must stay inside a batch's segments.
    pub fn isolates(&self) -> bool {
        self.parts.iter().any(|(_, loader)| loader.isolates())
    }

    /// The windows of all sources together. One epoch of a mixture is as many, whichever they are of.
    pub fn windows_per_epoch(&self) -> u64 {
        self.parts.iter().map(|(_, loader)| loader.windows_per_epoch()).sum()
    }

    /// The `batch_size` windows from global position `position` on, counted since training began.
    pub fn batch(&self, position: u64, batch_size: usize) -> Result<HostBatch, DataError> {
        if let ([(_, loader)], []) = (self.parts.as_slice(), self.stages.as_slice()) {
            return loader.batch(position, batch_size);
        }
        let mut all = HostBatch::default();
        for row in 0..batch_size as u64 {
            let (source, within) = self.locate(position.saturating_add(row));
            let Some((_, loader)) = self.parts.get(source) else { continue };
            let batch = loader.batch(within, 1)?;
            all.context_length = batch.context_length;
            all.n_rows += batch.n_rows;
            all.inputs.extend(batch.inputs);
            all.targets.extend(batch.targets);
            all.weights.extend(batch.weights);
            all.segments.extend(batch.segments);
            all.documents.extend(batch.documents.into_iter().map(|range| DocumentRange { source, ..range }));
        }
        Ok(all)
    }

    /// Windows of each source that are served before a position, by name.
    pub fn served(&self, position: u64) -> Vec<(&str, u64)> {
        let stage = self.stage(position);
        let of = |source| stage.map_or(position, |stage| stage.served(source, position));
        self.names().enumerate().map(|(source, name)| (name, of(source))).collect()
    }

    /// Windows of one epoch of each source, by name.
    pub fn windows_of_sources(&self) -> Vec<(&str, u64)> {
        self.parts.iter().map(|(name, loader)| (name.as_str(), loader.windows_per_epoch())).collect()
    }

    /// What the windows of each source are worth, by name; reads the records of all documents.
    pub fn reports(&self) -> Result<Vec<(&str, PackingReport)>, DataError> {
        self.parts.iter().map(|(name, loader)| Ok((name.as_str(), loader.report()?))).collect()
    }

    /// Where the documents of a range came from.
    pub fn origins(&self, documents: DocumentRange) -> Result<Vec<Origin>, DataError> {
        self.parts.get(documents.source).map_or_else(|| Ok(Vec::new()), |(_, loader)| loader.origins(documents))
    }

    fn stage(&self, position: u64) -> Option<&Stage> {
        self.stages.iter().rev().find(|stage| stage.from <= position)
    }

    /// The source of a position, and the window's number among those of that source.
    fn locate(&self, position: u64) -> (usize, u64) {
        let Some(stage) = self.stage(position) else { return (0, position) };
        let (block, slot) = ((position - stage.from) / BLOCK, (position - stage.from) % BLOCK);
        let Some(&(source, rank)) = stage.order.get(slot as usize) else { return (0, position) };
        (source, stage.before[source] + block * stage.shares[source] + rank)
    }
}

impl Stage {
    /// Windows of a source before a position that is in this stage or at its end.
    fn served(&self, source: usize, position: u64) -> u64 {
        let (blocks, slots) = ((position - self.from) / BLOCK, (position - self.from) % BLOCK);
        let partial = self.order.iter().take(slots as usize).filter(|(of, _)| *of == source).count() as u64;
        self.before[source] + blocks * self.shares[source] + partial
    }
}

/// Weights as whole windows of a block, by largest remainders; one that is above 0 has a window at least.
fn shares(weights: &[f64]) -> Result<Vec<u64>, String> {
    let total: f64 = weights.iter().sum();
    if !weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0) || !total.is_finite() || total <= 0.0 {
        return Err("expected weights of 0 or more, one of them above 0".to_owned());
    }
    let exact: Vec<f64> = weights.iter().map(|weight| weight / total * BLOCK as f64).collect();
    let mut shares: Vec<u64> = exact.iter().zip(weights).map(|(exact, weight)| (*exact as u64).max(u64::from(*weight > 0.0))).collect();
    if weights.len() as u64 > BLOCK / 2 {
        return Err(format!("expected at most {} sources, found {}", BLOCK / 2, weights.len()));
    }
    while shares.iter().sum::<u64>() < BLOCK {
        let lag = |&(i, share): &(usize, &u64)| exact[i] - *share as f64;
        let most = shares.iter().enumerate().max_by(|a, b| lag(a).total_cmp(&lag(b)).then(b.0.cmp(&a.0))).map_or(0, |(i, _)| i);
        shares[most] += 1;
    }
    while shares.iter().sum::<u64>() > BLOCK {
        let most = shares.iter().enumerate().max_by_key(|&(i, share)| (*share, std::cmp::Reverse(i))).map_or(0, |(i, _)| i);
        shares[most] -= 1;
    }
    Ok(shares)
}

/// The source of each window of a block with its rank: always the one that lags most behind its share, the first of those that do alike.
fn order(shares: &[u64]) -> Vec<(usize, u64)> {
    let mut taken = vec![0_u64; shares.len()];
    (1..=BLOCK)
        .map(|n| {
            // share × n / BLOCK - taken, in whole numbers.
            let lag = |source: usize| (shares[source] * n) as i64 - (taken[source] * BLOCK) as i64;
            let next = (0..shares.len()).filter(|&source| taken[source] < shares[source]).max_by_key(|&s| (lag(s), std::cmp::Reverse(s)));
            let next = next.unwrap_or(0);
            let rank = taken[next];
            taken[next] += 1;
            (next, rank)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_whole_windows_and_the_order_follows_them() {
        assert_eq!(shares(&[7.0, 3.0]).unwrap(), [700, 300]);
        assert_eq!(shares(&[1.0, 1.0, 1.0]).unwrap(), [334, 333, 333]);
        assert_eq!(shares(&[1.0, 0.0, 1e-9]).unwrap(), [999, 0, 1]);
        for wrong in [&[0.0, 0.0][..], &[-1.0, 2.0], &[f64::NAN, 1.0], &[f64::INFINITY, 1.0], &[]] {
            assert!(shares(wrong).is_err(), "{wrong:?}");
        }
        let first: Vec<usize> = order(&[700, 300]).into_iter().take(10).map(|(source, _)| source).collect();
        assert_eq!(first, [0, 1, 0, 0, 0, 1, 0, 0, 1, 0]);
    }

    proptest! {
        #[test]
        fn no_stretch_departs_from_its_shares(weights in prop::collection::vec(0.0_f64..10.0, 1..6), n in 1_usize..1000) {
            prop_assume!(weights.iter().sum::<f64>() > 0.1);
            let shares = shares(&weights).unwrap();
            prop_assert_eq!(shares.iter().sum::<u64>(), BLOCK);
            let order = order(&shares);
            for (source, share) in shares.iter().enumerate() {
                let ranks: Vec<u64> = order.iter().filter(|(of, _)| *of == source).map(|(_, rank)| *rank).collect();
                prop_assert_eq!(ranks, (0..*share).collect::<Vec<_>>());
                let taken = order[..n].iter().filter(|(of, _)| *of == source).count() as f64;
                let expected = *share as f64 * n as f64 / BLOCK as f64;
                prop_assert!((taken - expected).abs() < 2.0, "{} of {}", taken, expected);
            }
        }
    }
}
