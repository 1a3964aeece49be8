//! The weights of a network as other programs hold them: which name each has in a Hugging Face folder and in a GGUF file, which columns of which
//! parameter of ours it is, and which way round.

use std::ops::Range;

use codex_core::HostTensor;
use codex_model::{Activation, Bias, ModelConfig, NormKind, PositionKind};

use crate::family::Family;

/// What a weight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The table of token vectors.
    Embedding,
    /// The table of position vectors.
    Positions,
    /// The norm before attention.
    AttentionNorm,
    /// Queries, keys and values in one (GPT-2).
    QueryKeyValue,
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// The norm of each query head.
    QueryNorm,
    /// The norm of each key head.
    KeyNorm,
    /// What follows the heads.
    AttentionOutput,
    /// The norm before the feed-forward layer.
    FeedForwardNorm,
    /// Its gate.
    Gate,
    /// Its first layer.
    Up,
    /// Its last layer.
    Down,
    /// The norm before the head.
    FinalNorm,
    /// The head, where it is no transposed embedding.
    Head,
}

/// Which way round a matrix lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[outputs, inputs]`, as `torch.nn.Linear` has it.
    OutIn,
    /// `[inputs, outputs]`, as we and GPT-2's `Conv1D` have it.
    InOut,
}

/// What kind of numbers a weight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A vector of a layer: a bias, or the weight of a norm.
    Vector,
    /// A table of vectors, which lies the same way round everywhere.
    Table {
        /// Its rows.
        rows: usize,
    },
    /// The matrix of a linear layer.
    Matrix {
        /// Its inputs.
        inputs: usize,
    },
}

/// One weight of another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is for.
    pub role: Role,
    /// The block it is in.
    pub block: Option<usize>,
    /// Whether it is the bias of its layer.
    pub is_bias: bool,
    /// The path of the parameter that it is, or is a part of, here.
    pub path: String,
    /// The columns of the parameter that it is.
    pub columns: Range<usize>,
    /// What it is.
    pub shape: Shape,
}

/// All weights of a network that belongs to the family, in the order of the network.
pub fn parts(family: Family, config: &ModelConfig, vocab_size: usize) -> Vec<Part> {
    let (d, inner, head_dim) = (config.d_model, config.feed_forward_width(), config.head_dim());
    let (queries, keys) = (config.n_heads * head_dim, config.n_kv_heads * head_dim);
    let mut all = Builder { all: Vec::new(), block: None, norm_has_bias: config.norm == NormKind::Layer };
    all.table(Role::Embedding, "embedding", vocab_size, d);
    if config.positions == PositionKind::Learned {
        all.table(Role::Positions, "positions", config.context_length, d);
    }
    let has_bias = config.bias == Bias::All;
    for block in 0..config.n_layers {
        all.block = Some(block);
        all.norm(Role::AttentionNorm, "attention_norm", d);
        let has_qkv_bias = config.bias != Bias::None;
        if family == Family::Gpt2 {
            all.linear(Role::QueryKeyValue, "attention.qkv", d, 0..queries + 2 * keys, has_qkv_bias);
        } else {
            all.linear(Role::Query, "attention.qkv", d, 0..queries, has_qkv_bias);
            all.linear(Role::Key, "attention.qkv", d, queries..queries + keys, has_qkv_bias);
            all.linear(Role::Value, "attention.qkv", d, queries + keys..queries + 2 * keys, has_qkv_bias);
        }
        if config.qk_norm {
            all.vector(Role::QueryNorm, "attention.query_norm.weight", 0..head_dim, false);
            all.vector(Role::KeyNorm, "attention.key_norm.weight", 0..head_dim, false);
        }
        all.linear(Role::AttentionOutput, "attention.output", queries, 0..d, has_bias);
        all.norm(Role::FeedForwardNorm, "feed_forward_norm", d);
        if config.activation == Activation::Swiglu {
            all.linear(Role::Gate, "feed_forward.up", d, 0..inner, has_bias);
            all.linear(Role::Up, "feed_forward.up", d, inner..2 * inner, has_bias);
        } else {
            all.linear(Role::Up, "feed_forward.up", d, 0..inner, has_bias);
        }
        all.linear(Role::Down, "feed_forward.down", inner, 0..d, has_bias);
    }
    all.block = None;
    all.norm(Role::FinalNorm, "final_norm", d);
    if !config.tie_embeddings {
        all.linear(Role::Head, "head", d, 0..vocab_size, false);
    }
    all.all
}

struct Builder {
    all: Vec<Part>,
    block: Option<usize>,
    norm_has_bias: bool,
}

impl Builder {
    fn add(&mut self, role: Role, path: &str, columns: Range<usize>, shape: Shape, is_bias: bool) {
        let path = self.block.map_or_else(|| path.to_owned(), |block| format!("blocks.{block}.{path}"));
        self.all.push(Part { role, block: self.block, is_bias, path, columns, shape });
    }

    fn table(&mut self, role: Role, path: &str, rows: usize, width: usize) {
        self.add(role, path, 0..width, Shape::Table { rows }, false);
    }

    fn vector(&mut self, role: Role, path: &str, columns: Range<usize>, is_bias: bool) {
        self.add(role, path, columns, Shape::Vector, is_bias);
    }

    fn norm(&mut self, role: Role, path: &str, width: usize) {
        self.vector(role, &format!("{path}.weight"), 0..width, false);
        if self.norm_has_bias {
            self.vector(role, &format!("{path}.bias"), 0..width, true);
        }
    }

    fn linear(&mut self, role: Role, path: &str, inputs: usize, columns: Range<usize>, has_bias: bool) {
        self.add(role, &format!("{path}.weight"), columns.clone(), Shape::Matrix { inputs }, false);
        if has_bias {
            self.vector(role, &format!("{path}.bias"), columns, true);
        }
    }
}

/// Side of the squares in which a matrix is turned, so that both sides stay in the cache.
const TILE: usize = 32;

impl Part {
    /// Its name in a Hugging Face folder.
    pub fn hf_name(&self, family: Family) -> String {
        let end = if self.is_bias { "bias" } else { "weight" };
        let module = self.hf_module(family);
        format!("{module}.{end}")
    }

    /// The module that it is in there.
    pub fn hf_module(&self, family: Family) -> String {
        let is_gpt2 = family == Family::Gpt2;
        let name = match (self.role, is_gpt2) {
            (Role::Embedding, true) => "wte",
            (Role::Embedding, false) => "embed_tokens",
            (Role::Positions, _) => "wpe",
            (Role::AttentionNorm, true) => "ln_1",
            (Role::AttentionNorm, false) => "input_layernorm",
            (Role::QueryKeyValue, _) => "attn.c_attn",
            (Role::Query, _) => "self_attn.q_proj",
            (Role::Key, _) => "self_attn.k_proj",
            (Role::Value, _) => "self_attn.v_proj",
            (Role::QueryNorm, _) => "self_attn.q_norm",
            (Role::KeyNorm, _) => "self_attn.k_norm",
            (Role::AttentionOutput, true) => "attn.c_proj",
            (Role::AttentionOutput, false) => "self_attn.o_proj",
            (Role::FeedForwardNorm, true) => "ln_2",
            (Role::FeedForwardNorm, false) => "post_attention_layernorm",
            (Role::Gate, _) => "mlp.gate_proj",
            (Role::Up, true) => "mlp.c_fc",
            (Role::Up, false) => "mlp.up_proj",
            (Role::Down, true) => "mlp.c_proj",
            (Role::Down, false) => "mlp.down_proj",
            (Role::FinalNorm, true) => "ln_f",
            (Role::FinalNorm, false) => "norm",
            (Role::Head, _) => return "lm_head".to_owned(),
        };
        let prefix = base_prefix(family);
        match self.block {
            Some(block) => format!("{prefix}{}.{block}.{name}", if is_gpt2 { "h" } else { "layers" }),
            None => format!("{prefix}{name}"),
        }
    }

    /// Which way round it lies in a Hugging Face folder.
    pub fn hf_layout(&self, family: Family) -> Layout {
        // The head of GPT-2 is a `Linear`, all else a `Conv1D`.
        if family == Family::Gpt2 && self.role != Role::Head { Layout::InOut } else { Layout::OutIn }
    }

    /// Its shape in that layout.
    pub fn dims(&self, layout: Layout) -> Vec<usize> {
        let width = self.columns.len();
        match (self.shape, layout) {
            (Shape::Vector, _) => vec![width],
            (Shape::Table { rows }, _) => vec![rows, width],
            (Shape::Matrix { inputs }, Layout::InOut) => vec![inputs, width],
            (Shape::Matrix { inputs }, Layout::OutIn) => vec![width, inputs],
        }
    }

    /// Its numbers in that layout, taken from the parameter it is a part of; `None` where that is no such parameter.
    pub fn take(&self, parameter: &HostTensor, layout: Layout) -> Option<Vec<f32>> {
        let (rows, width) = self.rows_of(&parameter.shape)?;
        let mut values = vec![0.0; rows * self.columns.len()];
        self.copy(rows, width, layout, |mine, theirs| values[theirs] = parameter.values[mine]);
        Some(values)
    }

    /// Puts its numbers, which lie in that layout, into the parameter; `false` where they do not fit.
    #[must_use]
    pub fn place(&self, values: &[f32], layout: Layout, parameter: &mut HostTensor) -> bool {
        let Some((rows, width)) = self.rows_of(&parameter.shape) else { return false };
        if values.len() != rows * self.columns.len() {
            return false;
        }
        let to: &mut [f32] = &mut parameter.values;
        self.copy(rows, width, layout, |mine, theirs| to[mine] = values[theirs]);
        true
    }

    /// Rows and width of the parameter, if it can hold this part.
    fn rows_of(&self, shape: &[usize]) -> Option<(usize, usize)> {
        let (rows, width) = match (self.shape, shape) {
            (Shape::Vector, [width]) => (1, *width),
            (Shape::Table { rows } | Shape::Matrix { inputs: rows }, [found, width]) if *found == rows => (rows, *width),
            _ => return None,
        };
        (self.columns.end <= width).then_some((rows, width))
    }

    /// Calls `copy` with the index in the parameter and in the part's own layout, for each number.
    fn copy(&self, rows: usize, width: usize, layout: Layout, mut copy: impl FnMut(usize, usize)) {
        let (start, n) = (self.columns.start, self.columns.len());
        let is_turned = matches!(self.shape, Shape::Matrix { .. }) && layout == Layout::OutIn;
        for rows_of in (0..rows).step_by(TILE) {
            for columns in (0..n).step_by(TILE) {
                for row in rows_of..(rows_of + TILE).min(rows) {
                    for column in columns..(columns + TILE).min(n) {
                        copy(row * width + start + column, if is_turned { column * rows + row } else { row * n + column });
                    }
                }
            }
        }
    }
}

/// What stands before the names of all weights but the head.
pub(crate) fn base_prefix(family: Family) -> &'static str {
    if family == Family::Gpt2 { "transformer." } else { "model." }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_model::parameters::shapes;
    use std::collections::BTreeMap;

    fn configs() -> Vec<ModelConfig> {
        let house = ModelConfig { d_model: 40, n_heads: 4, n_kv_heads: 2, n_layers: 2, context_length: 9, ..ModelConfig::default() };
        let gpt2 = ModelConfig {
            norm: NormKind::Layer,
            positions: PositionKind::Learned,
            activation: Activation::Gelu,
            bias: Bias::All,
            n_kv_heads: 4,
            ..house.clone()
        };
        vec![
            house.clone(),
            gpt2.clone(),
            ModelConfig { tie_embeddings: false, ..gpt2 },
            ModelConfig { bias: Bias::Qkv, tie_embeddings: false, ..house.clone() },
            ModelConfig { qk_norm: true, head_dim: 6, ..house },
        ]
    }

    #[test]
    fn the_parts_cover_every_parameter_once_and_come_back_the_same() {
        for config in configs() {
            let family = Family::of(&config).unwrap();
            let all = parts(family, &config, 21);
            let mut next = 0.0;
            let mut filled: BTreeMap<String, HostTensor> = BTreeMap::new();
            for (path, shape) in shapes(&config, 21) {
                let n: usize = shape.iter().product();
                let values: Vec<f32> = (0..n).map(|i| next + i as f32).collect();
                next += n as f32;
                filled.insert(path, HostTensor::new(shape, values).unwrap());
            }
            for layout in [Layout::OutIn, Layout::InOut] {
                let mut back: BTreeMap<String, HostTensor> = filled
                    .iter()
                    .map(|(path, tensor)| (path.clone(), HostTensor::new(tensor.shape.clone(), vec![-1.0; tensor.values.len()]).unwrap()))
                    .collect();
                let mut numbers = 0;
                for part in &all {
                    let values = part.take(&filled[&part.path], layout).unwrap();
                    assert_eq!(values.len(), part.dims(layout).iter().product::<usize>());
                    numbers += values.len();
                    assert!(part.place(&values, layout, back.get_mut(&part.path).unwrap()));
                }
                assert_eq!(numbers as u64, config.n_parameters(21));
                assert_eq!(back, filled);
            }
            let mut names: Vec<String> = all.iter().map(|part| part.hf_name(family)).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), all.len());
        }
    }

    #[test]
    fn a_matrix_is_turned_and_a_table_is_not() {
        let config = ModelConfig { d_model: 2, n_heads: 1, n_kv_heads: 1, n_layers: 1, d_feed_forward: 3, ..ModelConfig::default() };
        let all = parts(Family::Llama, &config, 3);
        let gate = all.iter().find(|part| part.role == Role::Gate).unwrap();
        assert_eq!(gate.hf_name(Family::Llama), "model.layers.0.mlp.gate_proj.weight");
        let fused = HostTensor::new(vec![2, 6], (0..12).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
        assert_eq!(gate.take(&fused, Layout::OutIn).unwrap(), [0.0, 6.0, 1.0, 7.0, 2.0, 8.0]);
        let table = HostTensor::new(vec![3, 2], (0..6).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
        assert_eq!(all[0].take(&table, Layout::OutIn).unwrap(), table.values[..]);
        let mut small = HostTensor::new(vec![2, 2], vec![0.0; 4]).unwrap();
        assert!(!gate.place(&[0.0; 6], Layout::OutIn, &mut small) && gate.take(&small, Layout::OutIn).is_none());
        assert!(!gate.place(&[0.0; 5], Layout::OutIn, &mut fused.clone()));
    }
}
