//! Low-rank adapters of linear layers: which layers get one, of what rank, and the matrices themselves.
//!
//! References: E. Hu et al., "LoRA" (2021); D. Kalajdzievski, "A rank stabilization scaling factor for fine-tuning with LoRA" (2023); S. Liu et al.,
//! "DoRA" (2024).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Activation, Bias, ModelConfig, NormKind, PositionKind};
use crate::error::ModelError;
use crate::parameters;

/// What is trained instead of all weights: the `adapter` section of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterConfig {
    /// Whether there are adapters.
    pub kind: AdapterKind,
    /// Rank of the two matrices.
    pub rank: usize,
    /// The product is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Whether it is multiplied by `alpha / sqrt(rank)` instead.
    pub rank_stabilized: bool,
    /// Probability with which an element of an adapter's input is dropped in training.
    pub dropout: f64,
    /// Names of the layers that get one, such as `q_proj`, or the end of a path, such as `0.attention.q_proj`; `all-linear` takes all but the head.
    pub target_modules: Vec<String>,
    /// Ranks of layers whose name or end of path is the key.
    pub rank_pattern: BTreeMap<String, usize>,
    /// The same for `alpha`.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// What else is trained: `embedding`, `norms`, `head`.
    pub also_train: BTreeSet<String>,
    /// Whether the weights under the adapters are held in 8 bits (T. Dettmers et al., "QLoRA", 2023, do so in 4): a quarter of the memory, rounded.
    pub quantize_base: bool,
}

/// A kind of adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdapterKind {
    /// All weights are trained.
    #[default]
    None,
    /// Two matrices whose product is added to a weight.
    Lora,
    /// The same, and a trained length for each column of the sum.
    Dora,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self {
            kind: AdapterKind::None,
            rank: 8,
            alpha: 16.0,
            rank_stabilized: false,
            dropout: 0.0,
            target_modules: vec![ALL.to_owned()],
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            also_train: BTreeSet::new(),
            quantize_base: false,
        }
    }
}

/// What may be trained besides.
const OTHERS: [&str; 3] = ["embedding", "head", "norms"];
/// Every linear layer but the head.
const ALL: &str = "all-linear";
/// A bound, so that a slip in a number is a message.
const MAX_RANK: usize = 1 << 13;

impl AdapterConfig {
    /// Whether adapters are trained.
    pub fn is_on(&self) -> bool {
        self.kind != AdapterKind::None
    }

    /// Everything that is wrong with the values, as (key below `adapter`, message).
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut demand = |fine: bool, key: &str, expected: &str, value: String| {
            if !fine {
                found.push((key.to_owned(), format!("expected {expected}, found {value}")));
            }
        };
        let is_rank = |rank: usize| (1..=MAX_RANK).contains(&rank);
        let is_alpha = |alpha: f64| alpha.is_finite() && alpha > 0.0;
        demand(is_rank(self.rank), "rank", &format!("1 to {MAX_RANK}"), self.rank.to_string());
        demand(is_alpha(self.alpha), "alpha", "a positive number", self.alpha.to_string());
        demand((0.0..1.0).contains(&self.dropout), "dropout", "0 or more and below 1", self.dropout.to_string());
        demand(!self.target_modules.is_empty(), "target_modules", "the name of a layer, or `all-linear`", "an empty list".to_owned());
        for (layer, &rank) in &self.rank_pattern {
            demand(is_rank(rank), &format!("rank_pattern.{layer}"), &format!("1 to {MAX_RANK}"), rank.to_string());
        }
        for (layer, &alpha) in &self.alpha_pattern {
            demand(is_alpha(alpha), &format!("alpha_pattern.{layer}"), "a positive number", alpha.to_string());
        }
        let trains_head = self.quantize_base && self.also_train.iter().any(|other| other == "head" || other == "embedding");
        demand(!trains_head, "also_train", "only `norms` where `quantize_base` is on", "others".to_owned());
        let stretches = self.quantize_base && self.kind == AdapterKind::Dora;
        demand(!stretches, "quantize_base", "false with `kind` `dora`, which trains lengths of the weights' columns", "true".to_owned());
        for other in &self.also_train {
            demand(OTHERS.contains(&other.as_str()), "also_train", &OTHERS.join(", "), format!("`{other}`"));
        }
        found
    }

    /// Whether a parameter of the network itself is trained beside the adapters.
    pub fn also_trains(&self, path: &str) -> bool {
        let trains = |what: &str| self.also_train.contains(what);
        let is_table = ["embedding", "positions"].contains(&path);
        is_table && trains("embedding") || path.starts_with("head.") && trains("head") || path.contains("norm.") && trains("norms")
    }

    /// The paths and shapes of the parameters that are trained of a network: all of them where adapters are off.
    ///
    /// # Errors
    /// As [`adapters`](Self::adapters).
    pub fn trained_shapes(&self, config: &ModelConfig, vocab_size: usize) -> Result<BTreeMap<String, Vec<usize>>, ModelError> {
        let mut shapes = parameters::shapes(config, vocab_size);
        if self.is_on() {
            shapes.retain(|path, _| self.also_trains(path));
            shapes.extend(self.adapters(config)?.iter().flat_map(AdapterPlan::shapes));
        }
        Ok(shapes)
    }

    /// The adapters of a network, in the order of their layers.
    ///
    /// # Errors
    /// A name in `target_modules` or a pattern that is that of no layer; the message has the names there are.
    pub fn adapters(&self, config: &ModelConfig) -> Result<Vec<AdapterPlan>, ModelError> {
        if !self.is_on() {
            return Ok(Vec::new());
        }
        let sites = sites(config);
        let names: BTreeSet<&str> = sites.iter().map(|site| site.name).collect();
        let wrong = |key: &str, found: &str| ModelError::Config {
            key: format!("adapter.{key}"),
            message: format!("no layer is called `{found}`; there are {}, and {ALL}", names.iter().copied().collect::<Vec<_>>().join(", ")),
        };
        let known = |wanted: &str| sites.iter().any(|site| site.is_called(wanted));
        if let Some(name) = self.target_modules.iter().find(|name| *name != ALL && !known(name)) {
            return Err(wrong("target_modules", name));
        }
        for (key, names) in
            [("rank_pattern", self.rank_pattern.keys().collect::<Vec<_>>()), ("alpha_pattern", self.alpha_pattern.keys().collect())]
        {
            if let Some(name) = names.into_iter().find(|name| !known(name)) {
                return Err(wrong(key, name));
            }
        }
        let wanted = |site: &Site| self.target_modules.iter().any(|name| name == ALL || site.is_called(name));
        let planned = |site: Site| {
            let of = |patterns: &BTreeMap<String, f64>, default: f64| {
                // The longest name is the most particular.
                let matching = patterns.iter().filter(|(name, _)| site.is_called(name));
                matching.max_by_key(|(name, _)| name.len()).map_or(default, |(_, value)| *value)
            };
            let ranks = self.rank_pattern.iter().map(|(name, &rank)| (name.clone(), rank as f64)).collect();
            let rank = of(&ranks, self.rank as f64) as usize;
            let alpha = of(&self.alpha_pattern, self.alpha);
            let divisor = if self.rank_stabilized { libm::sqrt(rank as f64) } else { rank as f64 };
            AdapterPlan { site, index: 0, rank, scale: alpha / divisor, has_magnitude: self.kind == AdapterKind::Dora }
        };
        let mut plans: Vec<AdapterPlan> = sites.into_iter().filter(wanted).map(planned).collect();
        for next in 1..plans.len() {
            if plans[next].site.layer == plans[next - 1].site.layer {
                plans[next].index = plans[next - 1].index + 1;
            }
        }
        Ok(plans)
    }
}

/// A layer that can have an adapter: a linear layer, or the columns of one that other programs hold as a layer of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The layer, such as `blocks.0.attention.qkv`.
    pub layer: String,
    /// Its name in other programs, such as `q_proj`.
    pub name: &'static str,
    /// Inputs.
    pub inputs: usize,
    /// The layer's columns that it is.
    pub columns: Range<usize>,
}

impl Site {
    /// Whether a name is its own, or its own with an end of the path to it.
    fn is_called(&self, wanted: &str) -> bool {
        let parent = self.layer.rsplit_once('.').map_or("", |(parent, _)| parent);
        let whole = format!("{parent}.{}", self.name);
        whole == wanted || whole.strip_suffix(wanted).is_some_and(|before| before.ends_with('.'))
    }
}

/// An adapter that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterPlan {
    /// Where.
    pub site: Site,
    /// Which of its layer's adapters it is.
    pub index: usize,
    /// Its rank.
    pub rank: usize,
    /// Factor of its product.
    pub scale: f64,
    /// Whether the length of each column is trained.
    pub has_magnitude: bool,
}

impl AdapterPlan {
    /// The path of its matrices without the last part, such as `blocks.0.attention.qkv.adapters.0`.
    pub fn path(&self) -> String {
        format!("{}.adapters.{}", self.site.layer, self.index)
    }

    /// The paths and shapes of its two matrices, and of the lengths where they are trained.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (path, columns) = (self.path(), self.site.columns.len());
        let mut all = vec![(format!("{path}.a"), vec![self.site.inputs, self.rank]), (format!("{path}.b"), vec![self.rank, columns])];
        if self.has_magnitude {
            all.push((format!("{path}.magnitude"), vec![columns]));
        }
        all
    }
}

/// Every layer that can have an adapter, named as models of that kind name it: as GPT-2's where the network is one, else as Llama's.
pub fn sites(config: &ModelConfig) -> Vec<Site> {
    let (d, inner, head_dim) = (config.d_model, config.feed_forward_width(), config.head_dim());
    let (queries, keys) = (config.n_heads * head_dim, config.n_kv_heads * head_dim);
    let mut all = Vec::new();
    for block in 0..config.n_layers {
        let mut add =
            |layer: &str, name, inputs, columns| all.push(Site { layer: format!("blocks.{block}.{layer}"), name, inputs, columns });
        if is_like_gpt2(config) {
            add("attention.qkv", "c_attn", d, 0..queries + 2 * keys);
            add("attention.output", "c_proj", queries, 0..d);
            add("feed_forward.up", "c_fc", d, 0..inner);
            add("feed_forward.down", "c_proj", inner, 0..d);
            continue;
        }
        add("attention.qkv", "q_proj", d, 0..queries);
        add("attention.qkv", "k_proj", d, queries..queries + keys);
        add("attention.qkv", "v_proj", d, queries + keys..queries + 2 * keys);
        add("attention.output", "o_proj", queries, 0..d);
        if config.activation == Activation::Swiglu {
            add("feed_forward.up", "gate_proj", d, 0..inner);
            add("feed_forward.up", "up_proj", d, inner..2 * inner);
        } else {
            add("feed_forward.up", "up_proj", d, 0..inner);
        }
        add("feed_forward.down", "down_proj", inner, 0..d);
    }
    all
}

/// Whether other programs would hold the network as GPT-2.
pub fn is_like_gpt2(config: &ModelConfig) -> bool {
    config.norm == NormKind::Layer
        && config.positions == PositionKind::Learned
        && config.bias == Bias::All
        && config.activation != Activation::Swiglu
}

/// The matrices of an adapter.
#[derive(Module, Debug)]
pub struct LowRank {
    /// `[inputs, rank]`
    pub a: Param<Tensor<2>>,
    /// `[rank, columns]`
    pub b: Param<Tensor<2>>,
    /// `[columns]`: the length of each column of the weight with the product in it, where that is trained.
    pub magnitude: Option<Param<Tensor<1>>>,
    #[module(skip)]
    pub(crate) plan: AdapterPlan,
    #[module(skip)]
    pub(crate) dropout: f64,
}

impl LowRank {
    /// An adapter of zeros.
    pub(crate) fn zeros(plan: &AdapterPlan, dropout: f64, device: &Device) -> Self {
        let zeros = |rows, columns| Param::from_tensor(Tensor::zeros([rows, columns], device));
        let site = &plan.site;
        let magnitude = plan.has_magnitude.then(|| Param::from_tensor(Tensor::zeros([site.columns.len()], device)));
        Self { a: zeros(site.inputs, plan.rank), b: zeros(plan.rank, site.columns.len()), magnitude, plan: plan.clone(), dropout }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lora(targets: &[&str]) -> AdapterConfig {
        let target_modules = targets.iter().map(|&name| name.to_owned()).collect();
        AdapterConfig { kind: AdapterKind::Lora, target_modules, ..AdapterConfig::default() }
    }

    fn paths(config: &AdapterConfig, model: &ModelConfig) -> Vec<String> {
        config.adapters(model).unwrap().iter().map(AdapterPlan::path).collect()
    }

    #[test]
    fn layers_are_chosen_by_name_and_by_the_end_of_a_path() {
        let model = ModelConfig { n_layers: 2, ..ModelConfig::default() };
        assert_eq!(paths(&lora(&["all-linear"]), &model).len(), 2 * 7);
        assert_eq!(paths(&lora(&["v_proj"]), &model), ["blocks.0.attention.qkv.adapters.0", "blocks.1.attention.qkv.adapters.0"]);
        assert_eq!(paths(&lora(&["1.feed_forward.gate_proj"]), &model), ["blocks.1.feed_forward.up.adapters.0"]);
        assert_eq!(paths(&lora(&["0.attention.q_proj", "0.attention.v_proj"]), &model)[1], "blocks.0.attention.qkv.adapters.1");
        let gpt2 = ModelConfig {
            norm: NormKind::Layer,
            positions: PositionKind::Learned,
            bias: Bias::All,
            activation: Activation::GeluTanh,
            ..model.clone()
        };
        assert_eq!(paths(&lora(&["c_proj"]), &gpt2).len(), 4, "of attention and of the feed-forward layer");
        assert!(paths(&AdapterConfig::default(), &model).is_empty());
        // The columns of the fused layers are all covered, once.
        let covered: usize =
            sites(&model).iter().filter(|site| site.layer == "blocks.0.attention.qkv").map(|site| site.columns.len()).sum();
        assert_eq!(covered, 3 * 128);
    }

    #[test]
    fn a_name_of_no_layer_is_refused_with_those_there_are() {
        let model = ModelConfig::default();
        let error = lora(&["q_proj", "query"]).adapters(&model).unwrap_err().to_string();
        assert!(error.contains("no layer is called `query`") && error.contains("gate_proj") && error.contains("all-linear"), "{error}");
        let pattern = AdapterConfig { rank_pattern: BTreeMap::from([("roj".to_owned(), 4)]), ..lora(&["q_proj"]) };
        assert!(pattern.adapters(&model).unwrap_err().to_string().contains("`roj`"));
    }

    #[test]
    fn patterns_decide_rank_and_scale_the_most_particular_first() {
        let config = AdapterConfig {
            rank_pattern: BTreeMap::from([("q_proj".to_owned(), 4), ("1.attention.q_proj".to_owned(), 2)]),
            alpha_pattern: BTreeMap::from([("v_proj".to_owned(), 3.0)]),
            rank_stabilized: true,
            ..lora(&["q_proj", "v_proj"])
        };
        let plans = config.adapters(&ModelConfig { n_layers: 2, ..ModelConfig::default() }).unwrap();
        let ranks: Vec<usize> = plans.iter().map(|plan| plan.rank).collect();
        assert_eq!(ranks, [4, 8, 2, 8]);
        let scales: Vec<f64> = plans.iter().map(|plan| plan.scale).collect();
        let expected = [16.0 / 2.0, 3.0 / 8.0_f64.sqrt(), 16.0 / 2.0_f64.sqrt(), 3.0 / 8.0_f64.sqrt()];
        assert!(scales.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{scales:?}");
    }

    #[test]
    fn every_problem_is_told() {
        let bad = AdapterConfig {
            rank: 0,
            alpha: f64::NAN,
            dropout: 1.0,
            target_modules: Vec::new(),
            rank_pattern: BTreeMap::from([("x".to_owned(), 0)]),
            alpha_pattern: BTreeMap::from([("y".to_owned(), -1.0)]),
            also_train: BTreeSet::from(["all".to_owned()]),
            ..AdapterConfig::default()
        };
        let keys: Vec<String> = bad.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["rank", "alpha", "dropout", "target_modules", "rank_pattern.x", "alpha_pattern.y", "also_train"]);
        assert!(AdapterConfig::default().problems().is_empty());
    }
}
