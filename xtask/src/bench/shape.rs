//! A model's shape, told to codex as settings and to its peers as arguments, so that both are the same model.

use clap::ValueEnum;

/// A family of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// Layer norm, learned positions, GELU by tanh, biases.
    Gpt2,
    /// RMS norm, rotary positions, SwiGLU, no biases.
    Llama,
}

impl Arch {
    /// The name that is typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
        }
    }
}

/// A model's shape and the batch it is trained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The family.
    pub arch: Arch,
    /// Width.
    pub d_model: u64,
    /// Layers.
    pub n_layers: u64,
    /// Attention heads.
    pub n_heads: u64,
    /// Tokens of a window.
    pub context: u64,
    /// Windows of a step.
    pub batch: u64,
    /// Token ids.
    pub vocab: u64,
    /// Whether the head is the embedding.
    pub is_tied: bool,
}

impl Shape {
    /// The default run's, with this vocabulary.
    pub const TINY: Self =
        Self { arch: Arch::Llama, d_model: 128, n_layers: 4, n_heads: 4, context: 128, batch: 8, vocab: 2048, is_tied: true };
    /// The reference step's.
    pub const REFERENCE: Self =
        Self { arch: Arch::Gpt2, d_model: 384, n_layers: 6, n_heads: 6, context: 256, batch: 8, vocab: 4096, is_tied: false };
    /// GPT-2's. The vocabulary is what a tokenizer reaches on the novels when it may have 50,257 ids.
    pub const GPT2: Self =
        Self { arch: Arch::Gpt2, d_model: 768, n_layers: 12, n_heads: 12, context: 1024, batch: 1, vocab: 50_257, is_tied: true };

    /// Width inside the feed-forward part, as `xtask/peers/torch_train.py` chooses it.
    pub fn d_feed_forward(&self) -> u64 {
        match self.arch {
            Arch::Gpt2 => 4 * self.d_model,
            // int(8 * d / 3 + 63) // 64 * 64
            Arch::Llama => (8 * self.d_model + 3 * 63) / 3 / 64 * 64,
        }
    }

    /// The number of parameters that both sides must have.
    pub fn parameters(&self) -> u64 {
        let (d, f) = (self.d_model, self.d_feed_forward());
        let is_gpt2 = self.arch == Arch::Gpt2;
        let norm = if is_gpt2 { 2 * d } else { d };
        let up = if is_gpt2 { f } else { 2 * f };
        let biases = if is_gpt2 { 3 * d + d + up + d } else { 0 };
        let block = 2 * norm + 4 * d * d + d * up + f * d + biases;
        let positions = if is_gpt2 { self.context * d } else { 0 };
        let head = if self.is_tied { 0 } else { self.vocab * d };
        self.vocab * d + positions + self.n_layers * block + norm + head
    }

    /// What to tell codex.
    pub fn settings(&self) -> Vec<String> {
        let (norm, positions, activation, bias) = match self.arch {
            Arch::Gpt2 => ("layer", "learned", "gelu_tanh", "all"),
            Arch::Llama => ("rms", "rotary", "swiglu", "none"),
        };
        let heads = self.n_heads;
        vec![
            format!("model.d_model={}", self.d_model),
            format!("model.n_layers={}", self.n_layers),
            format!("model.n_heads={heads}"),
            format!("model.n_kv_heads={heads}"),
            format!("model.d_feed_forward={}", self.d_feed_forward()),
            format!("model.context_length={}", self.context),
            format!("model.norm={norm}"),
            format!("model.positions={positions}"),
            format!("model.activation={activation}"),
            format!("model.bias={bias}"),
            format!("model.tie_embeddings={}", self.is_tied),
            format!("train.batch_size={}", self.batch),
        ]
    }

    /// What to tell the peers.
    pub fn peer_arguments(&self) -> Vec<String> {
        let pairs = [
            ("--arch", self.arch.name().to_owned()),
            ("--vocab", self.vocab.to_string()),
            ("--d-model", self.d_model.to_string()),
            ("--n-layers", self.n_layers.to_string()),
            ("--n-heads", self.n_heads.to_string()),
            ("--context", self.context.to_string()),
            ("--batch", self.batch.to_string()),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    /// A few words for a reader.
    pub fn line(&self) -> String {
        let Self { d_model, n_layers, context, batch, .. } = self;
        format!("{}, {n_layers} layers x {d_model}, context {context}, batch {batch}", self.arch.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_that_pytorch_counts() {
        // As `torch_train.py` prints them.
        assert_eq!(Shape::REFERENCE.parameters(), 13_891_584);
        assert_eq!(Shape { arch: Arch::Llama, ..Shape::REFERENCE }.parameters(), 13_767_552);
        // As transformers counts GPT-2.
        assert_eq!(Shape::GPT2.parameters(), 124_439_808);
    }

    #[test]
    fn the_inner_width_is_the_peers() {
        let width = |arch, d_model| Shape { arch, d_model, ..Shape::REFERENCE }.d_feed_forward();
        assert_eq!([64, 128, 384, 512, 768, 1024].map(|d| width(Arch::Llama, d)), [192, 384, 1024, 1408, 2048, 2752]);
        assert_eq!(width(Arch::Gpt2, 384), 1536);
    }

    #[test]
    fn both_sides_are_told_the_same() {
        let shape = Shape { arch: Arch::Llama, ..Shape::REFERENCE };
        let settings = shape.settings().join(" ");
        assert!(settings.contains("model.d_feed_forward=1024") && settings.contains("model.tie_embeddings=false"), "{settings}");
        assert!(settings.contains("model.norm=rms") && settings.contains("model.bias=none"), "{settings}");
        assert_eq!(shape.peer_arguments()[..4], ["--arch", "llama", "--vocab", "4096"]);
    }
}
