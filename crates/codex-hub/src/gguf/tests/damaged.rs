//! Files that are cut, changed or made to deceive: each gives an error that says what is wrong, and none more.

use std::path::PathBuf;

use codex_core::files;
use codex_model::{RotaryScaling, RotaryScalingKind};
use proptest::prelude::*;

use super::*;
use crate::gguf::read_gguf;

/// A folder with a small file, and its bytes.
fn valid(config: &ModelConfig) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let weights = weights(config, 262, 1);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let tokenizer = tokenizers::byte_level().to_string();
    export(&GgufRequest { tokenizer_json: Some(&tokenizer), ..request(config, &weights, 262, GgufType::F32) }, &path).unwrap();
    let bytes = files::read(&path).unwrap();
    (dir, path, bytes)
}

fn tiny() -> ModelConfig {
    ModelConfig {
        d_model: 6,
        n_heads: 1,
        n_kv_heads: 1,
        head_dim: 6,
        n_layers: 1,
        d_feed_forward: 3,
        context_length: 4,
        ..ModelConfig::default()
    }
}

/// The byte behind a text, which must be there.
fn behind(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap_or_else(|| panic!("{text} is not there")) + text.len()
}

type Change<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;

fn put<'a>(place: impl Fn(&[u8]) -> usize + 'a, with: &'a [u8]) -> Change<'a> {
    Box::new(move |bytes: &mut Vec<u8>| {
        let at = place(bytes);
        bytes[at..at + with.len()].copy_from_slice(with);
    })
}

/// Writes bytes `skip` bytes behind the text.
fn after<'a>(text: &'a str, skip: usize, with: &'a [u8]) -> Change<'a> {
    put(move |bytes| behind(bytes, text) + skip, with)
}

/// Gives one name the place of another of the same length.
fn renamed<'a>(from: &'a str, to: &'a str) -> Change<'a> {
    assert_eq!(from.len(), to.len());
    put(move |bytes| behind(bytes, from) - from.len(), to.as_bytes())
}

fn at(place: usize, with: &[u8]) -> Change<'_> {
    put(move |_| place, with)
}

const HUGE: [u8; 8] = [255; 8];
const LARGE: [u8; 8] = [0, 0, 0, 0, 0, 1, 0, 0];

#[test]
fn every_kind_of_damage_is_named() {
    let (_dir, path, whole) = valid(&tiny());
    let q = "blk.0.attn_q.weight";
    let cases: Vec<(Change<'_>, &str)> = vec![
        (Box::new(Vec::clear), "the file ends in the magic number"),
        (at(0, b"GGML"), "does not begin with `GGUF`"),
        (at(4, &[2]), "it is of version 2, and 3 is read"),
        (at(4, &[0, 0, 0, 3]), "big endian"),
        (at(8, &HUGE), "tensors, and there is place for"),
        (at(8, &[0, 0, 1, 0]), "65536 tensors"),
        (at(16, &HUGE), "keys, and there is place for"),
        (at(8, &[13]), "tensor"),
        (at(8, &[10]), "bytes follow the last tensor"),
        (at(16, &[5]), "byte"),
        (at(24, &HUGE), "a key of 18446744073709551615 bytes, and 1024 are read at most"),
        (at(24, &[255, 3]), "a key"),
        (after("general.na", 0, &[0xff]), "a key is not UTF-8"),
        (after("general.name", 0, &[13]), "the value of `general.name` is of type 13"),
        (after("general.name", 4, &HUGE), "the value of `general.name` of 18446744073709551615 bytes"),
        (after("general.name", 4, &[0, 0, 255]), "the value of `general.name` of 16711680 bytes, and"),
        (after("general.name", 12, &[0xff]), "the value of `general.name` is not UTF-8"),
        (after("tokenizer.ggml.add_bos_token", 4, &[2]), "neither `true` nor `false`"),
        (after("tokenizer.ggml.token_type", 4, &[9]), "is a list of type 9"),
        (after("tokenizer.ggml.token_type", 4, &[13]), "is a list of type 13"),
        (after("tokenizer.ggml.token_type", 8, &HUGE), "the value of `tokenizer.ggml.token_type` of"),
        (after("tokenizer.ggml.token_type", 8, &LARGE), "the value of `tokenizer.ggml.token_type` of"),
        (after("tokenizer.ggml.tokens", 8, &HUGE), "texts, and there is place for"),
        (after("tokenizer.ggml.tokens", 16, &HUGE), "bytes, and 16777216 are read at most"),
        (renamed("general.type", "general.name"), "the key `general.name` is there twice"),
        (after("general.alignment", 4, &[0]), "`general.alignment`: expected a power of two"),
        (after("general.alignment", 4, &[33]), "`general.alignment`: expected a power of two"),
        (after("general.alignment", 4, &[0, 0, 0, 128]), "`general.alignment`: expected a power of two"),
        (after("general.alignment", 0, &[5]), "`general.alignment`: expected a power of two"),
        (after("general.alignment", 4, &[64]), "of the numbers, expected"),
        (after(q, 0, &[0]), "has 0 dimensions"),
        (after(q, 0, &[5]), "has 5 dimensions"),
        (after(q, 4, &[0]), "dimension of length 0"),
        (after(q, 4, &HUGE), "more numbers than the file can hold"),
        (after(q, 4, &LARGE), "ends at byte"),
        (after(q, 4, &[7]), "expected"),
        (after(q, 20, &[2]), "is of type 2; f32 (0), f16 (1) and q8_0 (8) are read"),
        (after(q, 20, &[255, 255, 255, 255]), "is of type 4294967295"),
        (after(q, 20, &[8]), "rows of 6 numbers, which are no whole blocks"),
        (after(q, 24, &[0; 8]), "begins at byte 0 of the numbers, expected"),
        (after(q, 24, &HUGE), "begins at byte 18446744073709551615"),
        (renamed("blk.0.attn_k.weight", q), "is there twice"),
        (renamed("blk.0.attn_k.weight", "blk.0.attn_x.weight"), "`blk.0.attn_k.weight` of shape [6, 6] is missing"),
        (renamed("blk.0.attn_k.weight", "blk.0.attn_x.weight"), "`blk.0.attn_x.weight` of shape [6, 6] belongs to nothing"),
        (renamed("token_embd.weight", "token_embx.weight"), "`token_embd.weight` is missing"),
        (after("general.architecture", 12, b"llamb"), "the architecture `llamb` are not read"),
        (renamed("llama.block_count", "llama.block_counx"), "`llama.block_count`: expected a 32-bit count, found nothing"),
        (after("llama.block_count", 0, &[6]), "`llama.block_count`: expected a 32-bit count, found F32"),
        (after("llama.block_count", 4, &[0, 0, 0, 255]), "n_layers`: expected 1 to 1024"),
        (after("llama.block_count", 4, &[2]), "`blk.1.attn_norm.weight` of shape [6] is missing"),
        (after("llama.attention.head_count", 4, &[0]), "n_heads`: expected 1 to 1024"),
        (after("llama.embedding_length", 4, &[7]), "`token_embd.weight` is of shape [262, 6], expected rows of 7"),
        (after("llama.attention.value_length", 4, &[4]), "4 is not the width of the heads, 6"),
        (after("llama.attention.layer_norm_rms_epsilon", 4, &[0; 4]), "norm_epsilon`: expected a positive number"),
        (Box::new(|bytes| bytes.truncate(bytes.len() - 32)), "ends at byte"),
        (Box::new(|bytes| bytes.extend([0; 32])), "bytes follow the last tensor"),
        (
            Box::new(|bytes| {
                let end = bytes.len();
                bytes[end - 32..].fill(255);
            }),
            "`output_norm.weight` holds a number that is not finite",
        ),
    ];
    for (i, (change, expected)) in cases.iter().enumerate() {
        let mut bytes = whole.clone();
        change(&mut bytes);
        let damaged = path.with_file_name(format!("{i}.gguf"));
        files::write_atomic(&damaged, &bytes).unwrap();
        let error = read_gguf(&damaged).unwrap_err();
        assert!(!matches!(error, HubError::File(_)), "{i}: {error}");
        assert!(error.to_string().contains(expected), "{i}: {error}\nexpected: {expected}");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let (_dir, path, whole) = valid(&tiny());
    // The zeros behind the last number may be missing, as some programs leave them out.
    let last = whole.len() - 8;
    let mut lengths: Vec<usize> = (0..800).chain((800..last).step_by(53)).collect();
    lengths.extend([last - 2, last - 1]);
    for length in lengths {
        files::write_atomic(&path, &whole[..length]).unwrap();
        let error = read_gguf(&path).unwrap_err();
        assert!(matches!(error, HubError::TensorFile { .. }), "{length}: {error}");
    }
    files::write_atomic(&path, &whole[..last]).unwrap();
    read_gguf(&path).unwrap();
}

#[test]
fn factors_that_do_not_follow_from_their_settings_are_refused() {
    let rotary_scaling =
        RotaryScaling { kind: RotaryScalingKind::Llama3, factor: 8.0, original_context_length: 32, ..RotaryScaling::default() };
    let (_dir, path, whole) = valid(&ModelConfig { rotary_scaling, ..tiny() });
    let told = |change: Change<'_>| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        files::write_atomic(&path, &bytes).unwrap();
        read_gguf(&path).unwrap_err().to_string()
    };
    assert!(told(after("codex.rotary_scaling.factor", 4, &4.0_f32.to_le_bytes())).contains("does not hold the factors"));
    assert!(told(renamed("codex.rotary_scaling.factor", "codex.rotary_scaling.factox")).contains("of another program"));
    assert!(told(renamed("rope_freqs.weight", "rope_freqx.weight")).contains("`rope_freqx.weight` of shape [3] belongs to nothing"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_change_of_bytes_makes_it_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        thread_local! {
            static VALID: (tempfile::TempDir, PathBuf, Vec<u8>) = valid(&tiny());
        }
        VALID.with(|(_, path, whole)| {
            let mut bytes = whole.clone();
            for (place, value) in &changes {
                let place = place.index(bytes.len());
                bytes[place] = *value;
            }
            files::write_atomic(path, &bytes).unwrap();
            drop(read_gguf(path));
        });
    }

    #[test]
    fn no_bytes_make_it_panic(rest in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        let bytes: Vec<u8> = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".iter().copied().chain(rest).collect();
        files::write_atomic(&path, &bytes).unwrap();
        prop_assert!(read_gguf(&path).is_err());
    }
}
