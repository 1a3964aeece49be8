//! Which checkpoints are kept: a pure function of their steps and values.

use std::collections::BTreeSet;

use crate::config::{CheckpointConfig, Mode};

/// The steps to keep of these (step, value of the metric): the newest, the best, and every so many. The newest is always among them.
pub fn kept(all: &[(u64, Option<f64>)], config: &CheckpointConfig) -> BTreeSet<u64> {
    let mut steps: Vec<u64> = all.iter().map(|(step, _)| *step).collect();
    steps.sort_unstable();
    let newest = steps.iter().rev().take(config.keep_last.max(1)).copied();
    let lasting = steps.iter().copied().filter(|step| config.keep_every > 0 && step.is_multiple_of(config.keep_every));
    newest.chain(lasting).chain(ranked(all, config.mode).into_iter().take(config.keep_best).map(|(step, _)| step)).collect()
}

/// The steps to remove, oldest first, once `saved` is on the disk.
///
/// Steps after `saved` neither count nor go: the run went back behind them because they do not verify, and what stands in for them must not
/// be removed in their favour.
pub fn surplus(all: &[(u64, Option<f64>)], saved: u64, config: &CheckpointConfig) -> Vec<u64> {
    let reached = up_to(all, saved);
    let keep = kept(&reached, config);
    reached.iter().map(|(step, _)| *step).filter(|step| !keep.contains(step)).collect()
}

/// Those of the steps that are not after `saved`.
pub fn up_to(all: &[(u64, Option<f64>)], saved: u64) -> Vec<(u64, Option<f64>)> {
    all.iter().copied().filter(|(step, _)| *step <= saved).collect()
}

/// Steps with a value, the best first; of equal values the earlier step is better.
pub fn ranked(all: &[(u64, Option<f64>)], mode: Mode) -> Vec<(u64, f64)> {
    let mut valued: Vec<(u64, f64)> = all.iter().filter_map(|&(step, value)| Some((step, value.filter(|v| !v.is_nan())?))).collect();
    valued.sort_by(|a, b| {
        let order = a.1.total_cmp(&b.1);
        (if mode == Mode::Min { order } else { order.reverse() }).then(a.0.cmp(&b.0))
    });
    valued
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_after_the_saved_one_neither_count_nor_go() {
        let all = [(1, Some(0.9)), (2, Some(0.8)), (3, None), (9, Some(0.1))];
        let config = |keep_last, keep_best| CheckpointConfig { keep_last, keep_best, ..CheckpointConfig::default() };
        assert_eq!(surplus(&all, 3, &config(1, 1)), [1]);
        assert_eq!(surplus(&all, 3, &config(1, 0)), [1, 2]);
        assert_eq!(surplus(&all, 9, &config(1, 1)), [1, 2, 3]);
    }

    #[test]
    fn the_newest_and_the_best_stay() {
        let all = [(1, Some(0.5)), (2, Some(0.1)), (3, Some(f64::NAN)), (10, Some(0.3)), (20, None)];
        let config = |keep_last, keep_best, mode| CheckpointConfig { keep_last, keep_best, mode, ..CheckpointConfig::default() };
        let steps = |config| kept(&all, &config).into_iter().collect::<Vec<_>>();
        assert_eq!(steps(config(2, 1, Mode::Min)), [2, 10, 20]);
        assert_eq!(steps(config(1, 1, Mode::Max)), [1, 20]);
        assert_eq!(steps(config(0, 0, Mode::Min)), [20]);
        assert_eq!(steps(CheckpointConfig { keep_every: 5, ..config(1, 1, Mode::Min) }), [2, 10, 20]);
        assert_eq!(ranked(&[(2, Some(1.0)), (1, Some(1.0))], Mode::Min)[0].0, 1);
    }
}
