//! The families of models that are known, and which of them a network of ours belongs to.

use codex_model::adapter::is_like_gpt2;
use codex_model::{Activation, Bias, ModelConfig, NormKind, PositionKind};

/// A family: a spelling of the configuration and names of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// A. Radford et al., "Language models are unsupervised multitask learners" (2019).
    Gpt2,
    /// "LLaMA" (2023), and all that took over its layout, such as TinyLlama and SmolLM.
    Llama,
    /// "Mistral 7B" (2023): Llama with a sliding window.
    Mistral,
    /// "Qwen2 technical report" (2024): Llama with biases on queries, keys and values.
    Qwen2,
    /// "Qwen3 technical report" (2025): Llama with normalised queries and keys.
    Qwen3,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Gpt2, Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// Its `model_type` in a `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The class that transformers builds it with.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Gpt2 => "GPT2LMHeadModel",
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// The family of a `model_type`.
    pub fn of_model_type(model_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.model_type() == model_type)
    }

    /// The family that a network of this shape belongs to, or what no family has.
    pub fn of(config: &ModelConfig) -> Result<Self, String> {
        let width_of_heads = config.n_heads * config.head_dim();
        if is_like_gpt2(config) {
            let odd = [
                (config.n_kv_heads != config.n_heads, "fewer key/value heads than query heads"),
                (width_of_heads != config.d_model, "heads that are together not as wide as the model"),
                (config.window > 0, "a sliding window"),
                (config.qk_norm, "normalised queries and keys"),
            ];
            return first(&odd).map_or(Ok(Self::Gpt2), |what| Err(format!("GPT-2, which it is like, has no {what}")));
        }
        let odd = [
            (config.norm == NormKind::Layer, "layer normalisation without all of learned positions, biases and GELU"),
            (config.positions == PositionKind::Learned, "learned positions without all of layer normalisation, biases and GELU"),
            (config.activation != Activation::Swiglu, "a feed-forward layer without gate beside root-mean-square normalisation"),
            (config.bias == Bias::All, "biases in every layer beside root-mean-square normalisation"),
            (config.qk_norm && config.bias == Bias::Qkv, "both biases on queries and keys and their normalisation"),
            (
                config.window > 0 && (config.qk_norm || config.bias == Bias::Qkv),
                "a sliding window in every layer beside biases or normalised keys",
            ),
        ];
        match first(&odd) {
            Some(what) => Err(format!("none of gpt2, llama, mistral, qwen2 and qwen3 has {what}")),
            None if config.qk_norm => Ok(Self::Qwen3),
            None if config.bias == Bias::Qkv => Ok(Self::Qwen2),
            None if config.window > 0 => Ok(Self::Mistral),
            None => Ok(Self::Llama),
        }
    }
}

fn first(odd: &[(bool, &'static str)]) -> Option<&'static str> {
    odd.iter().find(|(is, _)| *is).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_belongs_to_the_family_that_has_its_options() {
        let house = ModelConfig::default();
        let gpt2 = ModelConfig {
            norm: NormKind::Layer,
            positions: PositionKind::Learned,
            activation: Activation::GeluTanh,
            bias: Bias::All,
            ..house.clone()
        };
        let cases = [
            (house.clone(), Ok(Family::Llama)),
            (gpt2.clone(), Ok(Family::Gpt2)),
            (ModelConfig { window: 16, ..house.clone() }, Ok(Family::Mistral)),
            (ModelConfig { bias: Bias::Qkv, ..house.clone() }, Ok(Family::Qwen2)),
            (ModelConfig { qk_norm: true, head_dim: 48, ..house.clone() }, Ok(Family::Qwen3)),
            (ModelConfig { window: 16, ..gpt2.clone() }, Err("sliding window")),
            (ModelConfig { n_kv_heads: 2, ..gpt2.clone() }, Err("fewer key/value heads")),
            (ModelConfig { head_dim: 64, ..gpt2.clone() }, Err("not as wide")),
            (ModelConfig { norm: NormKind::Layer, ..house.clone() }, Err("layer normalisation")),
            (ModelConfig { positions: PositionKind::Learned, ..house.clone() }, Err("learned positions")),
            (ModelConfig { activation: Activation::Gelu, ..house.clone() }, Err("without gate")),
            (ModelConfig { bias: Bias::All, ..house.clone() }, Err("biases in every layer")),
            (ModelConfig { bias: Bias::Qkv, qk_norm: true, ..house.clone() }, Err("both biases")),
            (ModelConfig { window: 4, qk_norm: true, ..house }, Err("sliding window")),
        ];
        for (config, expected) in cases {
            match (Family::of(&config), expected) {
                (Ok(found), Ok(family)) => assert_eq!(found, family),
                (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
                (found, expected) => panic!("{found:?} {expected:?}"),
            }
        }
        for family in Family::ALL {
            assert_eq!(Family::of_model_type(family.model_type()), Some(family));
        }
        assert_eq!(Family::of_model_type("bert"), None);
    }
}
