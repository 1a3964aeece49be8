//! The value of a metric over records, of each record, and how far the value may be trusted; the difference of two evaluations of the same records.
//!
//! Intervals are percentiles of the bootstrap ([`mod@crate::text::bootstrap`]), from a stream of its own for each metric.

use codex_core::Stream;

use crate::error::EvalError;
use crate::metrics::EvalTotals;
use crate::registry::{EvalMetric, MetricKind, TokenMetric};
use crate::score::SequenceScore;
use crate::text::{self, ChoiceRecord, DEFAULT_BINS, Normalisation, TextRecord, bootstrap, calibration};

/// What a model did with each record; a kind that was not asked for is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// Scores of target tokens.
    pub tokens: &'a [SequenceScore],
    /// What was written, with its references.
    pub texts: &'a [TextRecord],
    /// Scored choices.
    pub choices: &'a [ChoiceRecord],
}

/// How records are drawn again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampling {
    /// How many times.
    pub n_resamples: usize,
    /// The share of resampled values between the ends of an interval.
    pub level: f64,
    /// Seed of the draws.
    pub seed: u64,
}

/// A metric's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The metric.
    pub name: &'static str,
    /// Of all records.
    pub value: f64,
    /// Between which ends the value lies for resampled records; `None` of fewer than two, and of a metric that is no mean or ratio of theirs.
    pub interval: Option<(f64, f64)>,
    /// Of each record by itself; `None` where it has nothing to compute it of.
    pub per_record: Vec<Option<f64>>,
}

/// A record's part in a value that is a sum over a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// What the record adds to the sum above.
    pub part: f64,
    /// What it adds to the one below: 1 in a mean of records, its tokens or bytes in a mean of those.
    pub of: f64,
}

/// The value of a metric with its interval.
pub fn measure(metric: &EvalMetric, evidence: &Evidence<'_>, resampling: Resampling) -> Result<Measured, EvalError> {
    let (value, per_record, shares) = match metric.kind {
        MetricKind::Token(kind) => of_tokens(metric.name, kind, evidence.tokens)?,
        MetricKind::Text(text) => {
            let scores = text.score(evidence.texts)?;
            let shares = scores.per_record.iter().map(|&part| Share { part, of: 1.0 }).collect();
            (scores.value, scores.per_record.into_iter().map(Some).collect(), shares)
        }
        MetricKind::Choice(normalisation) => of_choices(metric.name, normalisation, evidence.choices)?,
    };
    let mut measured = Measured { name: metric.name, value, interval: None, per_record };
    let shares: Vec<Share> = shares.into_iter().filter(|share| share.of > 0.0).collect();
    if metric.is_ratio() && shares.len() > 1 && shares.iter().all(|share| share.part.is_finite()) {
        let Resampling { n_resamples, level, .. } = resampling;
        let of = |sample: &[usize]| ratio(metric, &shares, sample);
        measured.interval = Some(bootstrap(shares.len(), n_resamples, level, draws(metric, resampling), of)?);
    }
    Ok(measured)
}

/// Between which ends the difference `second - first` of a metric lies when the same records are drawn again for both; `None` of fewer than two
/// records, and of a metric that is no mean or ratio.
pub fn difference_interval(
    metric: &EvalMetric,
    first: &[Share],
    second: &[Share],
    resampling: Resampling,
) -> Result<Option<(f64, f64)>, EvalError> {
    if first.len() != second.len() {
        return Err(EvalError::Lengths { what: "records of the second evaluation", expected: first.len(), found: second.len() });
    }
    let pairs = first.iter().zip(second).filter(|(a, b)| a.of > 0.0 && b.of > 0.0);
    let (first, second): (Vec<Share>, Vec<Share>) = pairs.map(|(a, b)| (*a, *b)).unzip();
    let is_finite = first.iter().chain(&second).all(|share| share.part.is_finite());
    if !metric.is_ratio() || first.len() < 2 || !is_finite {
        return Ok(None);
    }
    let Resampling { n_resamples, level, .. } = resampling;
    let of = |sample: &[usize]| ratio(metric, &second, sample) - ratio(metric, &first, sample);
    bootstrap(first.len(), n_resamples, level, draws(metric, resampling), of).map(Some)
}

/// What a record adds to a metric of tokens; `None` for one that is no ratio.
pub fn token_share(metric: TokenMetric, totals: &EvalTotals) -> Option<Share> {
    let tokens = totals.tokens as f64;
    match metric {
        TokenMetric::Loss | TokenMetric::Perplexity => Some(Share { part: totals.nll, of: tokens }),
        TokenMetric::BitsPerByte => Some(Share { part: totals.nll / std::f64::consts::LN_2, of: totals.bytes as f64 }),
        TokenMetric::Accuracy => Some(Share { part: totals.correct as f64, of: tokens }),
        TokenMetric::CalibrationError => None,
    }
}

fn draws(metric: &EvalMetric, resampling: Resampling) -> impl FnMut() -> f64 {
    let mut stream = Stream::new(resampling.seed, &format!("evaluation:{}", metric.name), 0);
    move || stream.uniform()
}

/// The value of some of the records.
fn ratio(metric: &EvalMetric, shares: &[Share], sample: &[usize]) -> f64 {
    let (mut part, mut of) = (0.0, 0.0);
    for &idx in sample {
        part += shares[idx].part;
        of += shares[idx].of;
    }
    let value = part / of;
    if matches!(metric.kind, MetricKind::Token(TokenMetric::Perplexity)) { libm::exp(value) } else { value }
}

type Found = (f64, Vec<Option<f64>>, Vec<Share>);

fn of_tokens(name: &'static str, metric: TokenMetric, records: &[SequenceScore]) -> Result<Found, EvalError> {
    if metric == TokenMetric::CalibrationError {
        return Ok((
            calibration_error(records.iter())?,
            records.iter().map(|one| calibration_error([one].into_iter()).ok()).collect(),
            Vec::new(),
        ));
    }
    let mut all = EvalTotals::default();
    for SequenceScore { totals, .. } in records {
        all.nll += totals.nll;
        all.tokens += totals.tokens;
        all.bytes += totals.bytes;
        all.correct += totals.correct;
    }
    let value = token_value(metric, &all).ok_or(EvalError::NoRecords { what: name })?;
    if all.nll.is_nan() {
        return Err(EvalError::NotFinite { split: "evaluated".to_owned(), value: all.nll });
    }
    let per_record = records.iter().map(|record| token_value(metric, &record.totals)).collect();
    Ok((value, per_record, records.iter().filter_map(|record| token_share(metric, &record.totals)).collect()))
}

/// The value of a metric of tokens; `None` of no token.
fn token_value(metric: TokenMetric, totals: &EvalTotals) -> Option<f64> {
    let metrics = totals.metrics()?;
    Some(match metric {
        TokenMetric::Loss => metrics.loss,
        TokenMetric::Perplexity => metrics.perplexity,
        TokenMetric::BitsPerByte => metrics.bits_per_byte,
        TokenMetric::Accuracy => metrics.token_accuracy,
        TokenMetric::CalibrationError => return None,
    })
}

fn calibration_error<'s>(records: impl Iterator<Item = &'s SequenceScore>) -> Result<f64, EvalError> {
    let (confidences, right): (Vec<f64>, Vec<bool>) = records.flat_map(|record| record.confidences.iter().copied()).unzip();
    Ok(calibration(&confidences, &right, DEFAULT_BINS)?.ece)
}

fn of_choices(name: &'static str, normalisation: Normalisation, records: &[ChoiceRecord]) -> Result<Found, EvalError> {
    if records.is_empty() {
        return Err(EvalError::NoRecords { what: name });
    }
    let right = |(number, record): (usize, &ChoiceRecord)| Ok(f64::from(u8::from(record.is_right(normalisation, number)?)));
    let values = (1..).zip(records).map(right).collect::<Result<Vec<f64>, EvalError>>()?;
    let shares = values.iter().map(|&part| Share { part, of: 1.0 }).collect();
    Ok((text::mean(&values), values.into_iter().map(Some).collect(), shares))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Choice, bootstrap_mean};

    const RESAMPLING: Resampling = Resampling { n_resamples: 200, level: 0.9, seed: 5 };

    fn scored(nll: f64, tokens: u64, bytes: u64, correct: u64, confidences: &[(f64, bool)]) -> SequenceScore {
        SequenceScore { totals: EvalTotals { nll, tokens, bytes, correct }, confidences: confidences.to_vec() }
    }

    fn metric(name: &str) -> EvalMetric {
        EvalMetric::by_name(name).unwrap()
    }

    fn near(found: f64, want: f64) -> bool {
        (found - want).abs() < 1e-12
    }

    #[test]
    fn metrics_of_tokens_weigh_tokens_and_not_records() {
        let ln2 = std::f64::consts::LN_2;
        let records = [
            scored(3.0 * ln2, 1, 2, 1, &[(0.9, true)]),
            scored(3.0 * ln2, 5, 4, 2, &[(0.6, false), (0.8, true)]),
            scored(0.0, 0, 0, 0, &[]),
        ];
        let evidence = Evidence { tokens: &records, ..Evidence::default() };
        let of = |name: &str| measure(&metric(name), &evidence, RESAMPLING).unwrap();
        assert!(
            near(of("loss").value, ln2)
                && near(of("ppl").value, 2.0)
                && near(of("bpb").value, 1.0)
                && near(of("token_accuracy").value, 0.5)
        );
        let loss = of("loss");
        assert!(near(loss.per_record[0].unwrap(), 3.0 * ln2) && loss.per_record[2].is_none(), "{loss:?}");
        let (low, high) = loss.interval.unwrap();
        assert!(near(low, 0.6 * ln2) && near(high, 3.0 * ln2), "{loss:?}");
        assert!(near(of("ppl").interval.unwrap().1, 8.0));
        // Bins of 1/15: each confidence in its own, (0.1 + 0.6 + 0.2) / 3.
        let ece = of("ece");
        assert!(near(ece.value, 0.3) && ece.interval.is_none() && ece.per_record[2].is_none(), "{ece:?}");
        assert!(measure(&metric("loss"), &Evidence::default(), RESAMPLING).is_err());
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_library() {
        let texts = [TextRecord::new("a b", &["a"]), TextRecord::new("x", &["x"]), TextRecord::new("q", &["r"])];
        let evidence = Evidence { texts: &texts, ..Evidence::default() };
        let found = measure(&metric("f1"), &evidence, RESAMPLING).unwrap();
        let values: Vec<f64> = found.per_record.iter().map(|value| value.unwrap()).collect();
        let want = bootstrap_mean(&values, 200, 0.9, draws(&metric("f1"), RESAMPLING)).unwrap();
        assert_eq!((found.value, found.interval), (want.mean, Some((want.low, want.high))));
        assert_eq!(measure(&metric("bleu"), &evidence, RESAMPLING).unwrap().interval, None, "it is no mean of records");
        let other = measure(&metric("f1"), &evidence, Resampling { seed: 6, n_resamples: 3, ..RESAMPLING }).unwrap();
        assert_ne!(other.interval, measure(&metric("f1"), &evidence, Resampling { n_resamples: 3, ..RESAMPLING }).unwrap().interval);
        let one = Evidence { texts: &texts[..1], ..Evidence::default() };
        assert_eq!(measure(&metric("f1"), &one, RESAMPLING).unwrap().interval, None);
    }

    #[test]
    fn a_longer_choice_may_win_by_its_length() {
        let choices = vec![Choice::new(-3.0, "no", 1), Choice::new(-6.0, "certainly not", 3)];
        let records = [ChoiceRecord { choices, answer_idx: 1 }];
        let evidence = Evidence { choices: &records, ..Evidence::default() };
        let of = |name: &str| measure(&metric(name), &evidence, RESAMPLING).unwrap().value;
        assert!(near(of("acc"), 0.0) && near(of("acc_norm"), 1.0) && near(of("acc_bytes"), 1.0) && near(of("acc_tokens"), 1.0));
    }

    #[test]
    fn differences_are_of_the_same_records() {
        let shares = |values: &[f64]| values.iter().map(|&part| Share { part, of: 1.0 }).collect::<Vec<_>>();
        let (first, second) = (shares(&[0.0, 1.0, 0.0, 1.0]), shares(&[0.5, 1.5, 0.5, 1.5]));
        let (low, high) = difference_interval(&metric("f1"), &first, &second, RESAMPLING).unwrap().unwrap();
        assert!(near(low, 0.5) && near(high, 0.5), "each record gains the same, whichever are drawn");
        assert_eq!(difference_interval(&metric("bleu"), &first, &second, RESAMPLING).unwrap(), None);
        assert!(difference_interval(&metric("f1"), &first, &second[1..], RESAMPLING).is_err());
    }
}
