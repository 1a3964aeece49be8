//! Every metric of an evaluation by name: what it is called elsewhere, what it is computed from, and which way is better.

use codex_core::{RegistryError, suggest};

use crate::error::EvalError;
use crate::text::{Normalisation, TEXT_METRICS, TextMetric};

/// A metric of an evaluation.
#[derive(Clone, Copy, Debug)]
pub struct EvalMetric {
    /// The name in arguments and files.
    pub name: &'static str,
    /// Other names that the field has for it.
    pub aliases: &'static [&'static str],
    /// What it measures.
    pub description: &'static str,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// What it is computed from.
    pub kind: MetricKind,
}

/// What a metric is computed from.
#[derive(Clone, Copy, Debug)]
pub enum MetricKind {
    /// A model's scores of the tokens that should follow.
    Token(TokenMetric),
    /// What a model wrote, with references or without.
    Text(&'static TextMetric),
    /// The log-likelihoods of choices, made comparable in this way.
    Choice(Normalisation),
}

/// A metric of a model's scores of target tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMetric {
    /// Mean negative log-likelihood in nats.
    Loss,
    /// exp(loss).
    Perplexity,
    /// Nats over ln 2 x bytes of text.
    BitsPerByte,
    /// Share of targets that were the most likely token.
    Accuracy,
    /// Expected calibration error of the most likely token's probability.
    CalibrationError,
}

const OF_TOKENS: [EvalMetric; 5] = [
    of_tokens("loss", &["nll"], "mean negative log-likelihood of target tokens, in nats", false, TokenMetric::Loss),
    of_tokens("perplexity", &["ppl"], "exp(loss)", false, TokenMetric::Perplexity),
    of_tokens(
        "bits_per_byte",
        &["bpb"],
        "loss in bits by byte of target text, comparable between tokenizers",
        false,
        TokenMetric::BitsPerByte,
    ),
    of_tokens(
        "token_accuracy",
        &["accuracy@token"],
        "share of target tokens that are the model's most likely ones",
        true,
        TokenMetric::Accuracy,
    ),
    of_tokens(
        "ece",
        &["calibration", "expected_calibration_error"],
        "expected calibration error of the most likely token's probability, 15 bins",
        false,
        TokenMetric::CalibrationError,
    ),
];

const OF_CHOICES: [EvalMetric; 4] = [
    of_choices("choice_accuracy", &["acc"], "share of questions whose right choice is the likeliest (`acc`)", Normalisation::Raw),
    of_choices(
        "choice_accuracy_norm",
        &["acc_norm"],
        "the same by log-likelihood per character (`acc_norm` as lm-evaluation-harness computes it)",
        Normalisation::Characters,
    ),
    of_choices("choice_accuracy_bytes", &["acc_bytes"], "the same by log-likelihood per byte (`acc_bytes`)", Normalisation::Bytes),
    of_choices("choice_accuracy_tokens", &["acc_tokens"], "the same by log-likelihood per token", Normalisation::Tokens),
];

const fn of_tokens(
    name: &'static str,
    aliases: &'static [&'static str],
    description: &'static str,
    higher_is_better: bool,
    metric: TokenMetric,
) -> EvalMetric {
    EvalMetric { name, aliases, description, higher_is_better, kind: MetricKind::Token(metric) }
}

const fn of_choices(
    name: &'static str,
    aliases: &'static [&'static str],
    description: &'static str,
    normalisation: Normalisation,
) -> EvalMetric {
    EvalMetric { name, aliases, description, higher_is_better: true, kind: MetricKind::Choice(normalisation) }
}

fn of_texts(metric: &'static TextMetric) -> EvalMetric {
    let aliases: &[&str] = match metric.name {
        "exact_match" => &["em"],
        "f1" => &["word_f1"],
        "rouge1" => &["rouge_1", "rouge-1"],
        "rouge2" => &["rouge_2", "rouge-2"],
        "rougeL" => &["rouge_l", "rouge-l"],
        "rougeLsum" => &["rouge_lsum", "rouge-lsum"],
        "chrf++" => &["chrfpp", "chrf_pp"],
        "distinct1" => &["dist-1", "dist1", "distinct-1"],
        "distinct2" => &["dist-2", "dist2", "distinct-2"],
        _ => &[],
    };
    let TextMetric { name, description, higher_is_better, .. } = *metric;
    EvalMetric { name, aliases, description, higher_is_better, kind: MetricKind::Text(metric) }
}

/// Every metric: of tokens, of texts, of choices.
pub fn metrics() -> Vec<EvalMetric> {
    static TEXTS: &[TextMetric] = &TEXT_METRICS;
    OF_TOKENS.into_iter().chain(TEXTS.iter().map(of_texts)).chain(OF_CHOICES).collect()
}

impl EvalMetric {
    /// The metric of this name or alias, whatever its case; [`EvalError::Registry`] lists all and names the nearest where there is none.
    pub fn by_name(name: &str) -> Result<Self, EvalError> {
        let all = metrics();
        let is_it = |known: &str| known.eq_ignore_ascii_case(name);
        if let Some(found) = all.iter().find(|metric| is_it(metric.name) || metric.aliases.iter().any(|alias| is_it(alias))) {
            return Ok(*found);
        }
        let spellings = all.iter().flat_map(|metric| std::iter::once(metric.name).chain(metric.aliases.iter().copied()));
        Err(EvalError::Registry(RegistryError::Unknown {
            kind: "metric",
            name: name.to_owned(),
            known: all.iter().map(|metric| metric.name.to_owned()).collect(),
            nearest: suggest::nearest(name, spellings).map(str::to_owned),
        }))
    }

    /// The metrics of these names in their order, each once.
    pub fn by_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Vec<Self>, EvalError> {
        let mut found: Vec<Self> = Vec::new();
        for name in names {
            let metric = Self::by_name(name)?;
            if found.iter().all(|other| other.name != metric.name) {
                found.push(metric);
            }
        }
        Ok(found)
    }

    /// Whether the value of several records is the sum of a part of each over the sum of another, so that resampled records give an interval of it.
    pub fn is_ratio(&self) -> bool {
        match self.kind {
            MetricKind::Token(metric) => metric != TokenMetric::CalibrationError,
            MetricKind::Text(metric) => metric.is_mean,
            MetricKind::Choice(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::{ExitClass, Failure as _};

    #[test]
    fn every_name_and_alias_finds_one_metric() {
        let all = metrics();
        assert_eq!(all.len(), 25);
        let mut spellings: Vec<String> = Vec::new();
        for metric in &all {
            for name in std::iter::once(&metric.name).chain(metric.aliases) {
                assert_eq!(EvalMetric::by_name(&name.to_uppercase()).unwrap().name, metric.name);
                spellings.push(name.to_lowercase());
            }
            assert!(!metric.description.is_empty());
        }
        let n = spellings.len();
        spellings.sort();
        spellings.dedup();
        assert_eq!(spellings.len(), n, "a spelling names two metrics");
    }

    #[test]
    fn names_are_taken_once_and_in_order() {
        let found = EvalMetric::by_names(["ppl", "dist-1", "acc_norm", "perplexity"]).unwrap();
        assert_eq!(found.iter().map(|metric| metric.name).collect::<Vec<_>>(), ["perplexity", "distinct1", "choice_accuracy_norm"]);
        assert!(matches!(found[2].kind, MetricKind::Choice(Normalisation::Characters)));
    }

    #[test]
    fn an_unknown_name_lists_all_and_the_nearest() {
        let miss = EvalMetric::by_name("rogue_l").unwrap_err();
        let said = miss.to_string();
        assert!(said.starts_with("unknown metric `rogue_l`; known: loss, perplexity, bits_per_byte"), "{said}");
        assert!(metrics().iter().all(|metric| said.contains(metric.name)));
        assert_eq!((miss.hint().as_deref(), miss.exit_class()), (Some("did you mean `rouge_l`?"), ExitClass::Usage));
    }
}
