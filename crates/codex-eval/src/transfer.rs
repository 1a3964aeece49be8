//! What learning one task after another does to the others: average accuracy, backward and forward transfer (Lopez-Paz and Ranzato 2017, "Gradient
//! episodic memory", <https://arxiv.org/abs/1706.08840>, section 2) and average forgetting (Chaudhry et al. 2018, "Riemannian walk",
//! <https://arxiv.org/abs/1801.10112>, section 4).

use serde::Serialize;

use crate::error::EvalError;
use crate::text::mean;

/// Scores of models on tasks, in the order of training; more is better.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferMatrix {
    /// `rows[i][j]` is the score on task `j` of the model that has learnt the tasks up to `i`; `None` where it was not measured.
    rows: Vec<Vec<Option<f64>>>,
}

/// What follows from a matrix of T models and tasks; each is `None` where a score that it needs is missing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Transfer {
    /// Mean of the last model's scores on all tasks: `1/T sum_j R[T][j]`.
    pub average: Option<f64>,
    /// `1/(T-1) sum_{j<T} (R[T][j] - R[j][j])`: below 0 where later tasks have taken something from earlier ones.
    pub backward: Option<f64>,
    /// `1/(T-1) sum_{j>1} (R[j-1][j] - b[j])`, where `b[j]` is the score on task `j` before any training.
    pub forward: Option<f64>,
    /// `1/(T-1) sum_{j<T} (max_{l<T} R[l][j] - R[T][j])`: how far the last model is below the best one before it.
    pub forgetting: Option<f64>,
}

impl TransferMatrix {
    /// The matrix of these rows: as many models as tasks, two at least.
    pub fn new(rows: Vec<Vec<Option<f64>>>) -> Result<Self, EvalError> {
        if rows.len() < 2 {
            return Err(EvalError::NoRecords { what: "transfer between fewer than two tasks and models, so" });
        }
        if let Some(row) = rows.iter().find(|row| row.len() != rows.len()) {
            return Err(EvalError::Lengths { what: "tasks", expected: rows.len(), found: row.len() });
        }
        Ok(Self { rows })
    }

    /// What follows from it; `baseline[j]` is the score on task `j` of a model before any training.
    pub fn transfer(&self, baseline: &[Option<f64>]) -> Transfer {
        let last = self.rows.len() - 1;
        let at = |model: usize, task: usize| self.rows[model][task];
        let each = |tasks: std::ops::Range<usize>, of: &dyn Fn(usize) -> Option<f64>| {
            tasks.map(of).collect::<Option<Vec<f64>>>().map(|values| mean(&values))
        };
        let best_before_last = |task: usize| {
            let before = (0..last).map(|model| at(model, task)).collect::<Option<Vec<f64>>>()?;
            Some(before.into_iter().fold(f64::NEG_INFINITY, f64::max))
        };
        Transfer {
            average: each(0..last + 1, &|task| at(last, task)),
            backward: each(0..last, &|task| Some(at(last, task)? - at(task, task)?)),
            forward: each(1..last + 1, &|task| Some(at(task - 1, task)? - baseline.get(task).copied().flatten()?)),
            forgetting: each(0..last, &|task| Some(best_before_last(task)? - at(last, task)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, want: f64) -> bool {
        found.is_some_and(|found| (found - want).abs() < 1e-12)
    }

    fn matrix() -> Vec<Vec<Option<f64>>> {
        let rows = [[0.9, 0.3, 0.2], [0.7, 0.8, 0.4], [0.6, 0.5, 0.7]];
        rows.map(|row| row.map(Some).to_vec()).to_vec()
    }

    #[test]
    fn the_formulas_on_literal_numbers() {
        let found = TransferMatrix::new(matrix()).unwrap().transfer(&[Some(0.1), Some(0.2), Some(0.25)]);
        assert!(near(found.average, 1.8 / 3.0), "{found:?}");
        // (0.6 - 0.9 + 0.5 - 0.8) / 2
        assert!(near(found.backward, -0.3), "{found:?}");
        // (0.3 - 0.2 + 0.4 - 0.25) / 2
        assert!(near(found.forward, 0.125), "{found:?}");
        // (max(0.9, 0.7) - 0.6 + max(0.3, 0.8) - 0.5) / 2
        assert!(near(found.forgetting, 0.3), "{found:?}");
    }

    #[test]
    fn forgetting_counts_from_the_best_and_not_from_the_diagonal() {
        let mut rows = matrix();
        rows[1][0] = Some(1.0);
        let found = TransferMatrix::new(rows).unwrap().transfer(&[]);
        assert!(near(found.forgetting, 0.35) && near(found.backward, -0.3), "{found:?}");
        assert_eq!(found.forward, None, "there is no baseline");
    }

    #[test]
    fn what_lacks_a_score_is_not_made_up() {
        let mut rows = matrix();
        rows[0][1] = None;
        let found = TransferMatrix::new(rows).unwrap().transfer(&[Some(0.0); 3]);
        assert!(found.average.is_some() && found.backward.is_some());
        assert_eq!((found.forward, found.forgetting), (None, None));
        assert!(TransferMatrix::new(vec![vec![Some(1.0)]]).is_err());
        let ragged = TransferMatrix::new(vec![vec![Some(1.0)], vec![Some(1.0); 2]]).unwrap_err();
        assert_eq!(ragged.to_string(), "1 tasks, expected 2");
    }
}
