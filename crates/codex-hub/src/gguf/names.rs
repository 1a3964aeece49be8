//! The tensors of a GGUF file: their names, shapes and types, and the order of the rows in them.
//!
//! llama.cpp's architecture `llama` turns neighbouring rows of a query or key head as a pair, where the network and Hugging Face turn each row of the
//! first half with one of the second. The rows are written in that order for it; qwen2, qwen3 and gpt2 keep theirs.

use codex_core::HostTensor;
use codex_model::ModelConfig;

use super::quant::{BLOCK, GgufType};
use crate::family::Family;
use crate::parts::{Layout, Part, Role, Shape, parts};

/// A tensor that a file of this network has.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// The weight that it is.
    pub(crate) part: Part,
    /// Its name in the file.
    pub(crate) name: String,
    /// Its shape, rows first; the file has it the other way round.
    pub(crate) dims: Vec<usize>,
    /// The width of the heads whose rows are interleaved, or 0.
    interleaved: usize,
}

/// llama.cpp's name of the architecture.
pub(crate) fn architecture(family: Family) -> &'static str {
    match family {
        Family::Gpt2 => "gpt2",
        // Mistral has no architecture of its own there.
        Family::Llama | Family::Mistral => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
    }
}

/// The tensors of a network, in its order.
pub(crate) fn plan(family: Family, config: &ModelConfig, vocab_size: usize) -> Vec<Planned> {
    let planned = |part: Part| {
        let is_turned = architecture(family) == "llama" && matches!(part.role, Role::Query | Role::Key);
        let interleaved = if is_turned { config.head_dim() } else { 0 };
        Planned { name: name(&part), dims: part.dims(Layout::OutIn), interleaved, part }
    };
    parts(family, config, vocab_size).into_iter().map(planned).collect()
}

fn name(part: &Part) -> String {
    let name = match part.role {
        Role::Embedding => "token_embd",
        Role::Positions => "position_embd",
        Role::AttentionNorm => "attn_norm",
        Role::QueryKeyValue => "attn_qkv",
        Role::Query => "attn_q",
        Role::Key => "attn_k",
        Role::Value => "attn_v",
        Role::QueryNorm => "attn_q_norm",
        Role::KeyNorm => "attn_k_norm",
        Role::AttentionOutput => "attn_output",
        Role::FeedForwardNorm => "ffn_norm",
        Role::Gate => "ffn_gate",
        Role::Up => "ffn_up",
        Role::Down => "ffn_down",
        Role::FinalNorm => "output_norm",
        Role::Head => "output",
    };
    let end = if part.is_bias { "bias" } else { "weight" };
    part.block.map_or_else(|| format!("{name}.{end}"), |block| format!("blk.{block}.{name}.{end}"))
}

impl Planned {
    /// What its numbers are in a file of this type.
    pub(crate) fn kind(&self, file: GgufType) -> GgufType {
        // llama.cpp adds vectors and positions to f32 numbers, and wants them so.
        if matches!(self.part.shape, Shape::Vector) || self.part.role == Role::Positions {
            return GgufType::F32;
        }
        let row = self.dims.last().copied().unwrap_or(0);
        if file == GgufType::Q8 && !row.is_multiple_of(BLOCK) { GgufType::F16 } else { file }
    }

    /// Its numbers as the file has them, taken from the parameter it is a part of; `None` where that is no such parameter.
    pub(crate) fn take(&self, parameter: &HostTensor) -> Option<Vec<f32>> {
        let values = self.part.take(parameter, Layout::OutIn)?;
        Some(self.reordered(values, interleaved_row))
    }

    /// Puts numbers of the file into the parameter; `false` where they do not fit.
    #[must_use]
    pub(crate) fn place(&self, values: Vec<f32>, parameter: &mut HostTensor) -> bool {
        self.part.place(&self.reordered(values, split_row), Layout::OutIn, parameter)
    }

    /// The rows in another order: row `i` of a head of the result is row `source(i, head_dim)` of it.
    fn reordered(&self, values: Vec<f32>, source: impl Fn(usize, usize) -> usize) -> Vec<f32> {
        let head_dim = self.interleaved;
        let width = self.dims.get(1).copied().unwrap_or(1);
        if head_dim == 0 || !values.len().is_multiple_of(head_dim * width) {
            return values;
        }
        let mut all = Vec::with_capacity(values.len());
        for head in values.chunks_exact(head_dim * width) {
            for row in 0..head_dim {
                let from = source(row, head_dim) * width;
                all.extend_from_slice(&head[from..from + width]);
            }
        }
        all
    }
}

/// Where row `row` of an interleaved head is in one of two halves.
fn interleaved_row(row: usize, head_dim: usize) -> usize {
    row / 2 + (row % 2) * (head_dim / 2)
}

/// Where row `row` of a head of two halves is in an interleaved one.
fn split_row(row: usize, head_dim: usize) -> usize {
    let half = head_dim / 2;
    if row < half { 2 * row } else { 2 * (row - half) + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_model::{Activation, Bias, NormKind, PositionKind};

    fn house() -> ModelConfig {
        ModelConfig { d_model: 2, n_heads: 2, n_kv_heads: 1, head_dim: 6, n_layers: 1, d_feed_forward: 3, ..ModelConfig::default() }
    }

    fn names(config: &ModelConfig) -> Vec<String> {
        plan(Family::of(config).unwrap(), config, 5).into_iter().map(|tensor| format!("{} {:?}", tensor.name, tensor.dims)).collect()
    }

    #[test]
    fn names_and_shapes_are_those_of_llama_cpp() {
        let llama = ["token_embd.weight [5, 2]", "blk.0.attn_norm.weight [2]", "blk.0.attn_q.weight [12, 2]", "blk.0.attn_k.weight [6, 2]"];
        let rest = ["blk.0.attn_v.weight [6, 2]", "blk.0.attn_output.weight [2, 12]", "blk.0.ffn_norm.weight [2]"];
        let end = ["blk.0.ffn_gate.weight [3, 2]", "blk.0.ffn_up.weight [3, 2]", "blk.0.ffn_down.weight [2, 3]", "output_norm.weight [2]"];
        assert_eq!(names(&house()), [&llama[..], &rest, &end].concat());
        let untied = ModelConfig { tie_embeddings: false, qk_norm: true, ..house() };
        let all = names(&untied);
        assert!(
            ["blk.0.attn_q_norm.weight [6]", "blk.0.attn_k_norm.weight [6]", "output.weight [5, 2]"]
                .iter()
                .all(|name| all.contains(&(*name).to_owned()))
        );
        let gpt2 = ModelConfig {
            norm: NormKind::Layer,
            positions: PositionKind::Learned,
            activation: Activation::GeluTanh,
            bias: Bias::All,
            d_model: 4,
            n_kv_heads: 2,
            head_dim: 0,
            context_length: 7,
            ..house()
        };
        let all = names(&gpt2);
        let expected = [
            "position_embd.weight [7, 4]",
            "blk.0.attn_norm.bias [4]",
            "blk.0.attn_qkv.weight [12, 4]",
            "blk.0.attn_qkv.bias [12]",
            "blk.0.attn_output.bias [4]",
            "blk.0.ffn_up.weight [3, 4]",
            "blk.0.ffn_down.weight [4, 3]",
            "output_norm.bias [4]",
        ];
        for name in expected {
            assert!(all.contains(&name.to_owned()), "{name} {all:?}");
        }
    }

    #[test]
    fn rows_of_query_and_key_heads_are_interleaved_for_llama_alone() {
        // Two inputs, 12 query columns (two heads of 6), 6 key and 6 value columns; the number is 100 x input + column.
        let values: Vec<f32> = (0..2).flat_map(|input| (0..24).map(move |column| (100 * input + column) as f32)).collect();
        let fused = HostTensor::new(vec![2, 24], values).unwrap();
        let rows = |config: &ModelConfig, name: &str| -> Vec<f32> {
            let all = plan(Family::of(config).unwrap(), config, 5);
            let tensor = all.iter().find(|tensor| tensor.name == name).unwrap();
            let taken = tensor.take(&fused).unwrap();
            let mut back = HostTensor::new(vec![2, 24], vec![-1.0; 48]).unwrap();
            assert!(tensor.place(taken.clone(), &mut back));
            let columns = tensor.part.columns.clone();
            assert!(
                columns.clone().all(|column| (back.values[column], back.values[24 + column]) == (column as f32, 100.0 + column as f32))
            );
            assert_eq!(back.values.iter().filter(|value| **value >= 0.0).count(), 2 * columns.len());
            assert!(taken.chunks(2).all(|row| (row[1] - row[0] - 100.0).abs() < 1e-3));
            taken.chunks(2).map(|row| row[0]).collect()
        };
        let llama = house();
        assert_eq!(rows(&llama, "blk.0.attn_q.weight"), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
        assert_eq!(rows(&llama, "blk.0.attn_k.weight"), [12.0, 15.0, 13.0, 16.0, 14.0, 17.0]);
        assert_eq!(rows(&llama, "blk.0.attn_v.weight"), [18.0, 19.0, 20.0, 21.0, 22.0, 23.0]);
        assert_eq!(rows(&ModelConfig { window: 4, ..house() }, "blk.0.attn_k.weight"), [12.0, 15.0, 13.0, 16.0, 14.0, 17.0]);
        for other in [ModelConfig { qk_norm: true, ..house() }, ModelConfig { bias: Bias::Qkv, ..house() }] {
            assert_eq!(rows(&other, "blk.0.attn_k.weight"), [12.0, 13.0, 14.0, 15.0, 16.0, 17.0]);
        }
    }

    #[test]
    fn what_cannot_be_in_blocks_is_in_half_precision() {
        let config = ModelConfig { d_model: 64, n_heads: 2, n_kv_heads: 2, d_feed_forward: 48, n_layers: 1, ..ModelConfig::default() };
        let all = plan(Family::Llama, &config, 5);
        let kind = |name: &str, file| all.iter().find(|tensor| tensor.name == name).unwrap().kind(file);
        assert_eq!(kind("blk.0.ffn_up.weight", GgufType::Q8), GgufType::Q8);
        assert_eq!(kind("blk.0.ffn_down.weight", GgufType::Q8), GgufType::F16);
        assert_eq!(kind("blk.0.ffn_down.weight", GgufType::F32), GgufType::F32);
        assert!(GgufType::ALL.iter().all(|&file| kind("output_norm.weight", file) == GgufType::F32));
    }
}
