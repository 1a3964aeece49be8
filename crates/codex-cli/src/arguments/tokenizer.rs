//! The `tokenizer` commands.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

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
        /// How often a pair of tokens, or a word of word_level, must occur to become one token
        #[arg(long, default_value_t = 2)]
        min_frequency: u64,
        /// Special tokens in place of the end of text and padding, with ids from 0 on; can be given more than once
        #[arg(long = "special", value_name = "TOKEN")]
        special_tokens: Vec<String>,
    },
    /// Check that a tokenizer reads text back exactly
    Validate {
        /// A tokenizer.json or its folder
        tokenizer: PathBuf,
        /// Files or folders; the compiled-in validation novel when absent
        paths: Vec<String>,
        /// A model that must have a row for each id: a run, a checkpoint or a Hugging Face folder
        #[arg(long)]
        model: Option<PathBuf>,
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
        /// Neither cut nor fill as the tokenizer's file says
        #[arg(long)]
        as_it_is: bool,
    },
    /// Print the text of token ids
    Decode {
        /// A tokenizer.json or its folder
        tokenizer: PathBuf,
        /// Token ids, separated by spaces or commas
        ids: Vec<String>,
    },
    /// Count tokens: bytes per token, tokens per word, by writing system, ids used, longest token
    Stats {
        /// A tokenizer.json or its folder
        tokenizer: PathBuf,
        /// Files or folders; the compiled-in validation novel when absent
        paths: Vec<String>,
    },
    /// Compare two tokenizers on the same texts, and show how each cuts one
    #[command(after_help = "Example:\n  codex-cli tokenizer compare tokenizers/mine RUN notes/ --text 'a sentence to look at'")]
    Compare {
        /// A tokenizer.json or its folder
        first: PathBuf,
        /// Another
        second: PathBuf,
        /// Files or folders; the compiled-in validation novel when absent
        paths: Vec<String>,
        /// A text whose tokens are shown, in colours at a terminal
        #[arg(long)]
        text: Option<String>,
    },
    /// Write a tokenizer as other programs read it
    #[command(after_help = "Examples:\n  codex-cli tokenizer export RUN --out mine-hf --template chatml\n  \
                      codex-cli tokenizer export RUN --out mine.tiktoken --format tiktoken")]
    Export {
        /// A tokenizer.json or its folder
        tokenizer: PathBuf,
        /// The folder, or the rank file, which must not exist
        #[arg(long)]
        out: PathBuf,
        /// A folder for Hugging Face transformers, or a tiktoken rank file
        #[arg(long, value_enum, default_value_t = TokenizerFormat::Hf)]
        format: TokenizerFormat,
        /// The chat template that goes with it: one that ships, or a file
        #[arg(long)]
        template: Option<String>,
    },
    /// Store in a tokenizer's file how texts are cut and filled, or take that out
    #[command(
        after_help = "Examples:\n  codex-cli tokenizer padding RUN --out cut --max-length 512 --truncate\n  codex-cli tokenizer padding cut --out plain"
    )]
    Padding {
        /// A tokenizer.json or its folder
        tokenizer: PathBuf,
        /// The folder for the new tokenizer.json, which must not exist
        #[arg(long)]
        out: PathBuf,
        /// Fill up to the longest text of a batch instead of the length
        #[arg(long)]
        longest: bool,
        /// The most ids of a text
        #[arg(long)]
        max_length: Option<usize>,
        /// Cut what is longer
        #[arg(long)]
        truncate: bool,
        /// Fill on the left
        #[arg(long)]
        left: bool,
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

/// How another program reads a tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenizerFormat {
    /// tokenizer.json with the files that transformers has beside it.
    Hf,
    /// A line for each token: its bytes in base64 and its rank.
    Tiktoken,
}
