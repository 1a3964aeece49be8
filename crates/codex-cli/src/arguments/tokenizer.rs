//! The `tokenizer` commands.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Tokenizer {
    /// Train a tokenizer on files or folders, or on the compiled-in novels
    #[command(after_help = "Example:\n  codex-cli tokenizer train --out tokenizers/mine --vocab-size 8192 notes/ more.jsonl")]
    Train {
        /// Files or folders
        paths: Vec<String>,
        /// The folder for tokenizer.json and its manifest
        #[arg(long)]
        out: PathBuf,
        /// Most ids
        #[arg(long, default_value_t = 2048)]
        vocab_size: usize,
        /// bpe, word_level or byte
        #[arg(long, default_value = "bpe")]
        kind: String,
    },
    /// Check that a tokenizer reads text back exactly
    Validate {
        /// A tokenizer.json or its folder
        tokenizer: PathBuf,
        /// Files or folders; the compiled-in validation novel when absent
        paths: Vec<String>,
    },
    /// Print the token ids of a text
    Encode {
        /// A tokenizer.json or its folder
        tokenizer: PathBuf,
        /// The text; standard input when absent
        text: Option<String>,
        /// Special tokens that are recognised in the text; all others stay text
        #[arg(long)]
        allow_special: Vec<String>,
    },
    /// Print the text of token ids
    Decode {
        /// A tokenizer.json or its folder
        tokenizer: PathBuf,
        /// Token ids, separated by spaces or commas
        ids: Vec<String>,
    },
    /// Count tokens: bytes per token, unused ids, longest token
    Stats {
        /// A tokenizer.json or its folder
        tokenizer: PathBuf,
        /// Files or folders; the compiled-in validation novel when absent
        paths: Vec<String>,
    },
    /// Bring in another program's tokenizer: a SentencePiece model, a tiktoken rank file, or a tokenizer.json
    #[command(after_help = "Examples:\n  codex-cli tokenizer import tokenizer.model --out tokenizers/mistral\n  \
                      codex-cli tokenizer import cl100k_base.tiktoken --encoding cl100k_base --out tokenizers/cl100k")]
    Import {
        /// A SentencePiece `.model`, a `.tiktoken` rank file, or a tokenizer.json or its folder
        file: PathBuf,
        /// The folder for tokenizer.json and tokenizer_config.json, which must not exist
        #[arg(long)]
        out: PathBuf,
        /// How a rank file cuts texts, such as gpt2, cl100k_base or o200k_base
        #[arg(long, value_name = "NAME")]
        encoding: Option<String>,
    },
}
