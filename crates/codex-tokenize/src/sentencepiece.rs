//! A SentencePiece `.model` as a `tokenizer.json` with the same ids.
//!
//! Reference: `sentencepiece_model.proto` of the sentencepiece project for the fields, T. Kudo and J. Richardson, "SentencePiece" (2018) for what
//! they mean. The order of the conversion was found by comparing ids with the real library; `xtask/parity/tokenizer_ids.py` compares again.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::charsmap;
use crate::error::TokenizeError;
use crate::imported::{Imported, MAX_IMPORT_BYTES, MAX_TOKEN_BYTES, MAX_TOKENS, added_token};
use crate::protobuf::{self, Fault, Field};

/// The most merges that are made; real models have two or three for each piece.
const MAX_MERGES: usize = 1 << 24;
/// What stands for a space.
const SPACE: &str = "\u{2581}";

/// Makes a `tokenizer.json` of a SentencePiece model, BPE or Unigram, with or without byte fallback.
///
/// The ids are those of the real library but in four cases, which are the tokenizers library's own: the name of a user-defined symbol at the very
/// start of a text takes no space in front, a text like `<0x41>` is a byte piece in a Unigram model with byte fallback, a character that the
/// normaliser replaces takes a combining mark behind it with it, and the name of a control token is one where it is allowed. Pieces marked unused
/// become special tokens, so that plain text never yields one.
pub fn import_sentencepiece(model: &[u8]) -> Result<Imported, TokenizeError> {
    let model = Model::parse(model)?;
    model.check()?;
    let mut parts = json!({
        "added_tokens": model.added_tokens(),
        "normalizer": model.normalizer()?,
        "decoder": model.decoder(),
    });
    parts["model"] = match model.kind {
        UNIGRAM => model.unigram()?,
        _ => model.bpe()?,
    };
    let named = |id: i32, kind: Kind| {
        let piece = usize::try_from(id).ok().and_then(|id| model.pieces.get(id)).filter(|piece| piece.kind == kind)?;
        Some(piece.text.clone())
    };
    let unknown = model.pieces.iter().find(|piece| piece.kind == Kind::Unknown).map(|piece| piece.text.clone());
    Imported::new(
        &parts,
        &[
            ("bos_token", named(model.bos_id, Kind::Control)),
            ("eos_token", named(model.eos_id, Kind::Control)),
            ("pad_token", named(model.pad_id, Kind::Control)),
            ("unk_token", unknown),
        ],
    )
}

const UNIGRAM: u64 = 1;
const BPE: u64 = 2;

/// The fields of a model that decide its ids, with the defaults of the format.
#[expect(clippy::struct_excessive_bools, reason = "these are the format's fields")]
struct Model {
    pieces: Vec<Piece>,
    kind: u64,
    byte_fallback: bool,
    space_behind: bool,
    bos_id: i32,
    eos_id: i32,
    pad_id: i32,
    charsmap: Vec<u8>,
    dummy_prefix: bool,
    remove_extra_spaces: bool,
    escape_spaces: bool,
}

struct Piece {
    text: String,
    score: f32,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

fn wrong(place: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> TokenizeError {
    TokenizeError::Import { format: "SentencePiece", place: place.into(), expected: expected.into(), found: found.into() }
}

/// A field, or the fault of a message that starts at byte `start` of `what`.
fn read<'a>(field: Result<Field<'a>, Fault>, what: &str) -> Result<Field<'a>, TokenizeError> {
    field.map_err(|fault| wrong(format!("byte {} of {what}", fault.at), "a protocol buffer", fault.found))
}

impl Model {
    fn parse(bytes: &[u8]) -> Result<Self, TokenizeError> {
        if bytes.len() > MAX_IMPORT_BYTES {
            return Err(wrong("the file", format!("at most {MAX_IMPORT_BYTES} bytes"), bytes.len().to_string()));
        }
        let mut model = Self {
            pieces: Vec::new(),
            kind: UNIGRAM,
            byte_fallback: false,
            space_behind: false,
            bos_id: 1,
            eos_id: 2,
            pad_id: -1,
            charsmap: Vec::new(),
            dummy_prefix: true,
            remove_extra_spaces: true,
            escape_spaces: true,
        };
        for field in protobuf::fields(bytes) {
            let Field { number, value } = read(field, "the file")?;
            match (number, value) {
                (1, protobuf::Value::Bytes(piece)) => {
                    if model.pieces.len() == MAX_TOKENS {
                        return Err(wrong("the pieces", format!("at most {MAX_TOKENS}"), "more"));
                    }
                    model.pieces.push(Piece::parse(piece, model.pieces.len())?);
                }
                (2, protobuf::Value::Bytes(spec)) => model.trainer(spec)?,
                (3, protobuf::Value::Bytes(spec)) => model.normalizer_spec(spec)?,
                (1..=3, _) => return Err(wrong(format!("field {number} of the file"), "a message", "a number")),
                // Test texts and extensions do not decide ids.
                _ => {}
            }
        }
        Ok(model)
    }

    fn trainer(&mut self, spec: &[u8]) -> Result<(), TokenizeError> {
        for field in protobuf::fields(spec) {
            match read(field, "the trainer's settings")? {
                Field { number: 3, value: protobuf::Value::Varint(kind) } => self.kind = kind,
                Field { number: 24, value: protobuf::Value::Varint(flag) } => self.space_behind = flag != 0,
                Field { number: 35, value: protobuf::Value::Varint(flag) } => self.byte_fallback = flag != 0,
                // A negative number is written in 64 bits.
                Field { number: 41, value: protobuf::Value::Varint(id) } => self.bos_id = id as i32,
                Field { number: 42, value: protobuf::Value::Varint(id) } => self.eos_id = id as i32,
                Field { number: 43, value: protobuf::Value::Varint(id) } => self.pad_id = id as i32,
                Field { number: number @ (3 | 24 | 35 | 41..=43), .. } => {
                    return Err(wrong(format!("field {number} of the trainer's settings"), "a number", "another kind"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn normalizer_spec(&mut self, spec: &[u8]) -> Result<(), TokenizeError> {
        for field in protobuf::fields(spec) {
            match read(field, "the normaliser's settings")? {
                Field { number: 2, value: protobuf::Value::Bytes(map) } => self.charsmap = map.to_vec(),
                Field { number: 3, value: protobuf::Value::Varint(flag) } => self.dummy_prefix = flag != 0,
                Field { number: 4, value: protobuf::Value::Varint(flag) } => self.remove_extra_spaces = flag != 0,
                Field { number: 5, value: protobuf::Value::Varint(flag) } => self.escape_spaces = flag != 0,
                Field { number: number @ 2..=5, .. } => {
                    return Err(wrong(format!("field {number} of the normaliser's settings"), "its own kind", "another"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What the whole must be, beyond each field.
    fn check(&self) -> Result<(), TokenizeError> {
        if self.pieces.is_empty() {
            return Err(wrong("the file", "pieces", "none"));
        }
        if ![UNIGRAM, BPE].contains(&self.kind) {
            let found = match self.kind {
                3 => "3 (words)".to_owned(),
                4 => "4 (characters)".to_owned(),
                other => other.to_string(),
            };
            return Err(wrong("the model type", "1 (Unigram) or 2 (BPE)", found));
        }
        if self.space_behind {
            return Err(wrong("the trainer's settings", "a space before its word", "a space behind it"));
        }
        if !self.escape_spaces {
            return Err(wrong("the normaliser's settings", "escaped spaces", "plain ones"));
        }
        let unknown = self.pieces.iter().filter(|piece| piece.kind == Kind::Unknown).count();
        if unknown != 1 {
            return Err(wrong("the pieces", "one unknown token", unknown.to_string()));
        }
        let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, piece) in self.pieces.iter().enumerate() {
            if let Some(first) = ids.insert(&piece.text, id) {
                return Err(wrong(format!("piece {id}"), "each text once", format!("that of piece {first}, {:?}", piece.text)));
            }
        }
        let bytes = self.pieces.iter().filter(|piece| piece.kind == Kind::Byte).count();
        let expected = if self.byte_fallback { 256 } else { 0 };
        if bytes != expected || self.byte_fallback && (0..=255).any(|byte| !ids.contains_key(format!("<0x{byte:02X}>").as_str())) {
            return Err(wrong("the pieces", format!("{expected} of bytes, as the trainer's settings say"), bytes.to_string()));
        }
        Ok(())
    }

    fn added_tokens(&self) -> Value {
        let added = (0..).zip(&self.pieces).filter_map(|(id, piece)| match piece.kind {
            Kind::Normal | Kind::Byte => None,
            Kind::Unknown | Kind::Control | Kind::Unused => Some(added_token(id, &piece.text, true)),
            Kind::UserDefined => Some(added_token(id, &piece.text, false)),
        });
        added.collect()
    }

    fn normalizer(&self) -> Result<Value, TokenizeError> {
        let mut steps = Vec::new();
        if !self.charsmap.is_empty() {
            let check = charsmap::check(&self.charsmap);
            check.map_err(|fault| wrong("the normaliser's character map", "one that leads nowhere outside itself", fault.to_string()))?;
            steps.push(json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(&self.charsmap)}));
        }
        if self.remove_extra_spaces {
            // `Strip` would take line ends and tabs away too, which the format keeps unless its map makes spaces of them. At the end it takes away
            // what stands for a space, written out or not. `^` and `$` are ends of lines to Oniguruma.
            steps.push(json!({"type": "Replace", "pattern": {"Regex": "\\A +|[ \u{2581}]+\\z"}, "content": ""}));
            steps.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
        }
        if self.dummy_prefix {
            steps.push(json!({"type": "Prepend", "prepend": SPACE}));
        }
        steps.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}));
        Ok(json!({"type": "Sequence", "normalizers": steps}))
    }

    fn decoder(&self) -> Value {
        let mut steps = vec![
            json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        // A model that joins spaces has none at the start of a text, so all are the prefix or its like.
        let at_start = if self.remove_extra_spaces { MAX_TOKEN_BYTES } else { usize::from(self.dummy_prefix) };
        if at_start > 0 {
            steps.push(json!({"type": "Strip", "content": " ", "start": at_start, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": steps})
    }

    fn unigram(&self) -> Result<Value, TokenizeError> {
        let mut vocab = Vec::with_capacity(self.pieces.len());
        for (id, piece) in self.pieces.iter().enumerate() {
            if !piece.score.is_finite() {
                return Err(wrong(format!("the score of piece {id}"), "a number", piece.score.to_string()));
            }
            vocab.push(json!([piece.text, f64::from(piece.score)]));
        }
        let unknown = self.pieces.iter().position(|piece| piece.kind == Kind::Unknown);
        Ok(json!({"type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": self.byte_fallback}))
    }

    fn bpe(&self) -> Result<Value, TokenizeError> {
        let normal: BTreeMap<&str, usize> = self
            .pieces
            .iter()
            .enumerate()
            .filter(|(_, piece)| piece.kind == Kind::Normal)
            .map(|(id, piece)| (piece.text.as_str(), id))
            .collect();
        // The merges into one piece, by the ids of its parts; then all by the score of what they make.
        let mut merges: Vec<(f32, &str, &str)> = Vec::new();
        for (id, piece) in self.pieces.iter().enumerate().filter(|(_, piece)| piece.kind == Kind::Normal) {
            if piece.score.is_nan() {
                return Err(wrong(format!("the score of piece {id}"), "a number", "NaN"));
            }
            let mut own: Vec<(usize, usize, &str, &str)> = Vec::new();
            for (at, _) in piece.text.char_indices().skip(1) {
                let (left, right) = piece.text.split_at(at);
                if let (Some(&a), Some(&b)) = (normal.get(left), normal.get(right)) {
                    own.push((a, b, left, right));
                }
            }
            own.sort_unstable();
            merges.extend(own.into_iter().map(|(_, _, left, right)| (piece.score, left, right)));
            if merges.len() > MAX_MERGES {
                return Err(wrong(format!("piece {id}"), format!("at most {MAX_MERGES} merges"), "more"));
            }
        }
        merges.sort_by(|a, b| b.0.total_cmp(&a.0));
        let vocab: serde_json::Map<String, Value> =
            self.pieces.iter().zip(0_u32..).map(|(piece, id)| (piece.text.clone(), json!(id))).collect();
        let unknown = self.pieces.iter().find(|piece| piece.kind == Kind::Unknown).map(|piece| piece.text.as_str());
        let merges: Vec<Value> = merges.into_iter().map(|(_, left, right)| json!([left, right])).collect();
        Ok(json!({
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": self.byte_fallback, "ignore_merges": false, "vocab": vocab, "merges": merges,
        }))
    }
}

impl Piece {
    fn parse(message: &[u8], id: usize) -> Result<Self, TokenizeError> {
        let what = format!("piece {id}");
        let mut piece = Self { text: String::new(), score: 0.0, kind: Kind::Normal };
        for field in protobuf::fields(message) {
            match read(field, &what)? {
                Field { number: 1, value: protobuf::Value::Bytes(text) } => {
                    let text = std::str::from_utf8(text)
                        .map_err(|error| wrong(&what, "UTF-8", format!("an invalid byte at {}", error.valid_up_to())))?;
                    text.clone_into(&mut piece.text);
                }
                Field { number: 2, value: protobuf::Value::Fixed32(score) } => piece.score = f32::from_le_bytes(score),
                Field { number: 3, value: protobuf::Value::Varint(kind) } => {
                    piece.kind = match kind {
                        1 => Kind::Normal,
                        2 => Kind::Unknown,
                        3 => Kind::Control,
                        4 => Kind::UserDefined,
                        5 => Kind::Unused,
                        6 => Kind::Byte,
                        other => return Err(wrong(format!("the type of piece {id}"), "1 to 6", other.to_string())),
                    }
                }
                Field { number: number @ 1..=3, .. } => {
                    return Err(wrong(format!("field {number} of piece {id}"), "its own kind", "another"));
                }
                _ => {}
            }
        }
        if piece.text.is_empty() || piece.text.len() > MAX_TOKEN_BYTES {
            return Err(wrong(format!("the text of piece {id}"), format!("1 to {MAX_TOKEN_BYTES} bytes"), piece.text.len().to_string()));
        }
        Ok(piece)
    }
}
