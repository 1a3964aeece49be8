//! The median stopping rule: a trial that has never been as good as the others were on average is given up.
//!
//! Reference: D. Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.2: at step s a trial is stopped if
//! its best value up to s is strictly worse than the median of the running averages, up to s, of the other trials.
//!
//! What the rule says depends on which trials have reached the step by then, so on how many run at a time, on how fast the machines are and on
//! what was killed: a sweep with this rule is not reproducible in which trials it stops, although each trial's values are.

use std::cmp::Ordering;

use crate::config::Goal;
use crate::series::Series;

/// When the rule is asked, and how many others it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MedianRule {
    /// No trial is stopped before this step.
    pub warmup_steps: u64,
    /// As many others must have reached the step.
    pub min_trials: usize,
    /// The rule is asked at the first value in each interval of so many steps.
    pub every_steps: u64,
}

/// What the rule says, and from which numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Decision {
    /// The rule is not asked at this step, or the trial has no value yet.
    NotDue,
    /// Fewer than [`MedianRule::min_trials`] others have reached the step.
    TooFew {
        /// How many have.
        n_others: usize,
    },
    /// The trial goes on.
    Continue {
        /// Its best value so far.
        best: f64,
        /// The median of the others' running averages.
        median: f64,
    },
    /// The trial is given up.
    Stop {
        /// Its best value so far.
        best: f64,
        /// The median of the others' running averages.
        median: f64,
    },
}

/// What the rule says of a trial whose values are `own`, at the step of its last value.
///
/// Another trial counts if it has a value at this step or later: one that ended or was stopped before says nothing of the step. A value that is no
/// number is worse than every number, for the trial and in the others' averages.
pub fn should_stop<'a>(own: &Series, others: impl IntoIterator<Item = &'a Series>, goal: Goal, rule: MedianRule) -> Decision {
    let Some((step, best)) = own.last_step().zip(own.best(goal)) else { return Decision::NotDue };
    if !is_due(own, step, rule) {
        return Decision::NotDue;
    }
    let reached = others.into_iter().filter(|other| other.last_step().is_some_and(|last| last >= step));
    let mut averages: Vec<f64> = reached.filter_map(|other| other.mean_until(step)).collect();
    let n_others = averages.len();
    if n_others < rule.min_trials.max(1) {
        return Decision::TooFew { n_others };
    }
    // In the order of goodness; what is no number is last.
    averages.sort_by(|&a, &b| match (goal.is_better(a, b), goal.is_better(b, a)) {
        (true, _) => Ordering::Less,
        (_, true) => Ordering::Greater,
        _ => Ordering::Equal,
    });
    let median = median(&averages);
    if goal.is_better(median, best.1) { Decision::Stop { best: best.1, median } } else { Decision::Continue { best: best.1, median } }
}

/// Whether the last value is the first one in its interval of steps.
fn is_due(own: &Series, step: u64, rule: MedianRule) -> bool {
    let every = rule.every_steps.max(1);
    let before = own.step_before(step).map(|before| before / every);
    step >= rule.warmup_steps && before != Some(step / every)
}

/// Of a sorted list that is not empty; the mean of the middle two if it has no middle.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[(u64, f64)]) -> Series {
        values.iter().copied().collect()
    }

    const RULE: MedianRule = MedianRule { warmup_steps: 0, min_trials: 1, every_steps: 1 };

    #[test]
    fn the_median_of_running_averages_decides() {
        // Averages up to step 20: (4 + 2) / 2 = 3, (5 + 3) / 2 = 4, (9 + 7) / 2 = 8; the values at step 30 do not count.
        let others = [
            series(&[(10, 4.0), (20, 2.0), (30, 0.0)]),
            series(&[(10, 5.0), (20, 3.0), (30, 0.0)]),
            series(&[(10, 9.0), (20, 7.0), (30, 0.0)]),
        ];
        let told = |own: &[(u64, f64)]| should_stop(&series(own), &others, Goal::Minimize, RULE);
        assert_eq!(told(&[(10, 6.0), (20, 4.1)]), Decision::Stop { best: 4.1, median: 4.0 });
        assert_eq!(told(&[(10, 6.0), (20, 4.0)]), Decision::Continue { best: 4.0, median: 4.0 });
        // Its best value counts, not its last one.
        assert_eq!(told(&[(10, 3.9), (20, 9.0)]), Decision::Continue { best: 3.9, median: 4.0 });
        // At step 10 the averages are 4, 5 and 9.
        assert_eq!(told(&[(10, 5.1)]), Decision::Stop { best: 5.1, median: 5.0 });
        let larger = should_stop(&series(&[(10, 6.0), (20, 3.0)]), &others, Goal::Maximize, RULE);
        assert_eq!(larger, Decision::Continue { best: 6.0, median: 4.0 });
        let larger = should_stop(&series(&[(10, 1.0), (20, 3.5)]), &others, Goal::Maximize, RULE);
        assert_eq!(larger, Decision::Stop { best: 3.5, median: 4.0 });
    }

    #[test]
    fn of_an_even_number_the_middle_two_are_averaged() {
        let others = [series(&[(1, 1.0)]), series(&[(1, 4.0)]), series(&[(1, 2.0)]), series(&[(1, 9.0)])];
        let told = should_stop(&series(&[(1, 3.0)]), &others, Goal::Minimize, RULE);
        assert_eq!(told, Decision::Continue { best: 3.0, median: 3.0 });
    }

    #[test]
    fn trials_that_have_not_reached_the_step_do_not_count() {
        let others = [series(&[(10, 1.0)]), series(&[(10, 1.0), (20, 1.0)]), Series::default()];
        let own = series(&[(10, 9.0), (20, 9.0)]);
        let told = |min_trials| should_stop(&own, &others, Goal::Minimize, MedianRule { min_trials, ..RULE });
        assert_eq!(told(2), Decision::TooFew { n_others: 1 });
        assert_eq!(told(1), Decision::Stop { best: 9.0, median: 1.0 });
        assert_eq!(should_stop(&Series::default(), &others, Goal::Minimize, RULE), Decision::NotDue);
    }

    #[test]
    fn the_rule_waits_for_the_warm_up_and_is_asked_once_an_interval() {
        let others = [series(&[(500, 0.0)])];
        let rule = MedianRule { warmup_steps: 100, min_trials: 1, every_steps: 50 };
        let mut own = Series::default();
        let mut asked = Vec::new();
        for step in (0..=300).step_by(20) {
            own.insert(step, 9.0);
            if should_stop(&own, [&series(&[(0, 0.0), (500, 0.0)])], Goal::Minimize, rule) != Decision::NotDue {
                asked.push(step);
            }
        }
        assert_eq!(asked, [100, 160, 200, 260, 300]);
        // The other has no value up to the step, so no average either.
        assert_eq!(should_stop(&own, &others, Goal::Minimize, rule), Decision::TooFew { n_others: 0 });
    }

    #[test]
    fn what_is_no_number_is_the_worst() {
        let others = [series(&[(1, 2.0)]), series(&[(1, f64::NAN)]), series(&[(1, 3.0)])];
        let told = |own: f64, goal| should_stop(&series(&[(1, own)]), &others, goal, RULE);
        assert!(matches!(told(f64::NAN, Goal::Minimize), Decision::Stop { median, .. } if (median - 3.0).abs() < 1e-12));
        assert_eq!(told(3.0, Goal::Minimize), Decision::Continue { best: 3.0, median: 3.0 });
        assert_eq!(told(1.0, Goal::Maximize), Decision::Stop { best: 1.0, median: 2.0 });
    }
}
