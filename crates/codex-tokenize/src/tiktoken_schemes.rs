//! The known encodings of rank files: how each cuts a text, and its special tokens.
//!
//! Facts from tiktoken's `openai_public.py` and the model cards of Qwen2 and Llama 3.1. The patterns are written for every reader of a
//! `tokenizer.json`: a possessive count such as `{1,3}+` means a repeated group to Oniguruma, so it is a plain count here, which matches the same.

use codex_core::Registry;

/// How a text is cut before its pieces are looked up.
#[derive(Clone, Debug)]
pub(crate) enum Cut {
    /// As GPT-2 does, which the tokenizers library knows by itself.
    Gpt2,
    /// By the matches of a pattern.
    Pattern(String),
}

/// One encoding.
#[derive(Clone, Debug)]
pub(crate) struct Scheme {
    pub(crate) cut: Cut,
    /// Whether a text is composed (NFC) first.
    pub(crate) composes: bool,
    pub(crate) bos: Option<&'static str>,
    pub(crate) eos: Option<&'static str>,
    pub(crate) pad: Option<&'static str>,
    special: Special,
}

/// Where special tokens stand.
#[derive(Clone, Debug)]
enum Special {
    /// At the first id that no rank has.
    FirstFree(&'static str),
    /// At the first free id, and from the first id behind all ranks.
    FirstFreeAndBehind(&'static str, Vec<String>),
    /// At so many ids behind the last rank, 0 being the next.
    Behind(Vec<(u32, String)>),
}

const END_OF_TEXT: &str = "<|endoftext|>";
const END_OF_PROMPT: &str = "<|endofprompt|>";

const CL100K: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Default for Scheme {
    fn default() -> Self {
        let special = Special::Behind(Vec::new());
        Self { cut: Cut::Gpt2, composes: false, bos: None, eos: Some(END_OF_TEXT), pad: None, special }
    }
}

/// Makes one encoding.
type MakeScheme = fn() -> Scheme;

/// The encodings by name.
pub(crate) fn registry() -> Registry<MakeScheme> {
    let mut registry: Registry<MakeScheme> = Registry::new("tiktoken encoding");
    let known: [(&str, MakeScheme); 9] = [
        ("gpt2", gpt2),
        ("r50k_base", gpt2),
        ("p50k_base", gpt2),
        ("p50k_edit", p50k_edit),
        ("cl100k_base", cl100k),
        ("o200k_base", o200k),
        ("o200k_harmony", harmony),
        ("qwen2", qwen2),
        ("llama3", llama3),
    ];
    for (name, scheme) in known {
        let registered = registry.register(name, scheme);
        debug_assert!(registered.is_ok(), "each encoding has its own name");
    }
    registry
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn gpt2() -> Scheme {
    Scheme { special: Special::FirstFree(END_OF_TEXT), ..Scheme::default() }
}

fn p50k_edit() -> Scheme {
    let behind = names(&["<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]);
    Scheme { special: Special::FirstFreeAndBehind(END_OF_TEXT, behind), ..Scheme::default() }
}

fn cl100k() -> Scheme {
    let behind = [(1, END_OF_TEXT), (2, "<|fim_prefix|>"), (3, "<|fim_middle|>"), (4, "<|fim_suffix|>"), (20, END_OF_PROMPT)];
    let behind = behind.map(|(at, name)| (at, name.to_owned())).to_vec();
    Scheme { cut: Cut::Pattern(CL100K.to_owned()), special: Special::Behind(behind), ..Scheme::default() }
}

fn o200k() -> Scheme {
    let behind = vec![(1, END_OF_TEXT.to_owned()), (20, END_OF_PROMPT.to_owned())];
    Scheme { cut: Cut::Pattern(O200K.to_owned()), special: Special::Behind(behind), ..Scheme::default() }
}

/// The encoding of gpt-oss.
fn harmony() -> Scheme {
    let behind = (0..1090).map(|at| {
        let name = match at {
            0 => "<|startoftext|>",
            1 => END_OF_TEXT,
            4 => "<|return|>",
            5 => "<|constrain|>",
            7 => "<|channel|>",
            8 => "<|start|>",
            9 => "<|end|>",
            10 => "<|message|>",
            14 => "<|call|>",
            20 => END_OF_PROMPT,
            _ => return (at, format!("<|reserved_{}|>", 199_998 + at)),
        };
        (at, name.to_owned())
    });
    let special = Special::Behind(behind.collect());
    Scheme { cut: Cut::Pattern(O200K.to_owned()), bos: Some("<|startoftext|>"), special, ..Scheme::default() }
}

fn qwen2() -> Scheme {
    let behind = (0..).zip(names(&[END_OF_TEXT, "<|im_start|>", "<|im_end|>"])).collect();
    Scheme {
        cut: Cut::Pattern(QWEN2.to_owned()),
        composes: true,
        pad: Some(END_OF_TEXT),
        special: Special::Behind(behind),
        ..Scheme::default()
    }
}

/// The special tokens as of Llama 3.1.
fn llama3() -> Scheme {
    let behind = (0..256).map(|at| {
        let name = match at {
            0 => "<|begin_of_text|>",
            1 => "<|end_of_text|>",
            4 => "<|finetune_right_pad_id|>",
            6 => "<|start_header_id|>",
            7 => "<|end_header_id|>",
            8 => "<|eom_id|>",
            9 => "<|eot_id|>",
            10 => "<|python_tag|>",
            2 | 3 => return (at, format!("<|reserved_special_token_{}|>", at - 2)),
            5 => return (at, "<|reserved_special_token_2|>".to_owned()),
            _ => return (at, format!("<|reserved_special_token_{}|>", at - 8)),
        };
        (at, name.to_owned())
    });
    Scheme {
        cut: Cut::Pattern(LLAMA3.to_owned()),
        bos: Some("<|begin_of_text|>"),
        eos: Some("<|end_of_text|>"),
        pad: Some("<|finetune_right_pad_id|>"),
        special: Special::Behind(behind.collect()),
        ..Scheme::default()
    }
}

impl Scheme {
    /// The special tokens with their ids, given the ranks in order.
    pub(crate) fn special_tokens(&self, ranks: &[u32]) -> Vec<(String, u32)> {
        let free = (0..).zip(ranks).find(|(expected, rank)| expected != *rank).map_or(ranks.len() as u32, |(expected, _)| expected);
        let next = ranks.last().map_or(0, |last| last + 1);
        match &self.special {
            Special::FirstFree(name) => vec![((*name).to_owned(), free)],
            Special::FirstFreeAndBehind(name, behind) => {
                let first = std::iter::once(((*name).to_owned(), free));
                first.chain(behind.iter().cloned().zip(next.max(free + 1)..)).collect()
            }
            Special::Behind(behind) => behind.iter().map(|(at, name)| (name.clone(), next + at)).collect(),
        }
    }
}
