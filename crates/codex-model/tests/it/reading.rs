//! Models of any shape read alike at once, piece by piece, beside each other, and after another text that begins alike.

use burn::tensor::Device;
use codex_model::{
    Activation, Bias, CachedSession, Decoder, FullSession, KvCache, ModelConfig, NormKind, PositionKind, Precision, RotaryScaling,
    RotaryScalingKind, Session, parameters,
};
use proptest::prelude::*;

use crate::{VOCAB, ids};

const CONTEXT: usize = 40;

/// Any small configuration. `Dynamic` scaling is here as it is within its original context, where it does nothing.
fn configs() -> impl Strategy<Value = ModelConfig> {
    let heads = (1_usize..=3, 1_usize..=3, prop::sample::select(vec![2_usize, 4, 6, 18]), 1_usize..=2);
    let kinds = (
        prop::sample::select(vec![NormKind::Rms, NormKind::Layer]),
        prop::sample::select(vec![Activation::Swiglu, Activation::Gelu, Activation::GeluTanh]),
        prop::sample::select(vec![Bias::None, Bias::Qkv, Bias::All]),
        any::<bool>(),
        any::<bool>(),
    );
    let scalings = vec![
        None,
        Some(RotaryScalingKind::None),
        Some(RotaryScalingKind::Linear),
        Some(RotaryScalingKind::Dynamic),
        Some(RotaryScalingKind::Yarn),
        Some(RotaryScalingKind::Llama3),
    ];
    let window = prop_oneof![Just(0_usize), 1_usize..30];
    (heads, kinds, prop::sample::select(scalings), window, prop::sample::select(vec![8_usize, 12, 20])).prop_map(
        |((n_kv_heads, group, head_dim, n_layers), (norm, activation, bias, tie_embeddings, qk_norm), scaling, window, d_model)| {
            let original_context_length = if scaling == Some(RotaryScalingKind::Dynamic) { 0 } else { 16 };
            let kind = scaling.unwrap_or_default();
            ModelConfig {
                d_model,
                n_layers,
                n_heads: n_kv_heads * group,
                n_kv_heads,
                // Only positions that are no rotations take a head of any width.
                head_dim: if scaling.is_none() { head_dim - 1 } else { head_dim },
                context_length: CONTEXT,
                window,
                norm,
                positions: if scaling.is_none() { PositionKind::Learned } else { PositionKind::Rotary },
                rotary_scaling: RotaryScaling { kind, factor: 2.5, original_context_length, ..RotaryScaling::default() },
                qk_norm,
                activation,
                bias,
                tie_embeddings,
                init_std: 0.3,
                ..ModelConfig::default()
            }
        },
    )
}

fn bits(scores: &[f32]) -> Vec<u32> {
    scores.iter().map(|score| score.to_bits()).collect()
}

/// Whether scores are the same but for rounding: within 1e-5 of the largest, or of 1.
fn near(found: &[f32], expected: &[f32]) -> bool {
    let largest = expected.iter().fold(1.0_f32, |most, score| most.max(score.abs()));
    found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-5 * largest)
}

/// A text in pieces of these lengths, by turns.
fn pieces<'t>(text: &'t [u32], lengths: &[usize]) -> Vec<&'t [u32]> {
    let mut rest = text;
    let mut pieces = Vec::new();
    for &length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_read_as_the_whole(config in configs(), n in 2..=CONTEXT, lengths in prop::collection::vec(1_usize..8, 1..5), seed in 0_u64..1000) {
        let model = Decoder::init(&config, VOCAB, seed, &Device::flex()).unwrap();
        let text = ids(seed, n);
        let expected = FullSession::new(&model).feed(&text).unwrap();
        prop_assert_eq!(bits(&CachedSession::new(&model).feed(&text).unwrap()), bits(&expected), "at once");
        // Pieces of several tokens have the bits of the whole; one token alone is rounded otherwise.
        let wide: Vec<usize> = lengths.iter().map(|length| length + 1).collect();
        let wide = pieces(&text, &wide);
        let mut session = CachedSession::new(&model);
        let mut found = Vec::new();
        for piece in &wide {
            found = session.feed(piece).unwrap();
        }
        if wide.iter().all(|piece| piece.len() > 1) {
            prop_assert_eq!(bits(&found), bits(&expected), "in pieces");
        }
        let (mut session, mut n_read) = (CachedSession::new(&model), 0);
        for piece in pieces(&text, &lengths) {
            n_read += piece.len();
            let found = session.feed(piece).unwrap();
            let expected = FullSession::new(&model).feed(&text[..n_read]).unwrap();
            prop_assert!(near(&found, &expected), "{found:?} {expected:?}");
        }
    }

    #[test]
    fn a_batch_has_the_bits_of_each(config in configs(), texts in prop::collection::vec((1..=CONTEXT, 1_usize..6), 1..4), seed in 0_u64..1000) {
        let model = Decoder::init(&config, VOCAB, seed, &Device::flex()).unwrap();
        let all: Vec<Vec<u32>> = texts.iter().enumerate().map(|(i, &(n, _))| ids(seed + i as u64, n)).collect();
        let cut: Vec<Vec<&[u32]>> = all.iter().zip(&texts).map(|(text, &(_, length))| pieces(text, &[length, 1])).collect();
        let mut alone: Vec<_> = all.iter().map(|_| CachedSession::new(&model)).collect();
        let mut caches: Vec<_> = all.iter().map(|_| KvCache::new(Precision::F32)).collect();
        for round in 0..cut.iter().map(Vec::len).max().unwrap_or_default() {
            let going: Vec<usize> = (0..cut.len()).filter(|&i| round < cut[i].len()).collect();
            let now: Vec<&[u32]> = going.iter().map(|&i| cut[i][round]).collect();
            let mut used: Vec<&mut KvCache> =
                caches.iter_mut().enumerate().filter(|(i, _)| going.contains(i)).map(|(_, cache)| cache).collect();
            let scores = parameters::to_host("scores", model.forward_cached_batch(&now, &mut used).unwrap()).unwrap().values;
            for (&i, scores) in going.iter().zip(scores.chunks(VOCAB)) {
                prop_assert_eq!(bits(scores), bits(&alone[i].feed(cut[i][round]).unwrap()));
            }
        }
    }

    #[test]
    fn a_text_that_begins_alike_is_read_on_with_the_same_bits(
        config in configs(),
        same in 0..CONTEXT / 2,
        ends in (1..CONTEXT / 2, 1..CONTEXT / 2),
        n_generated in 0_usize..5,
        narrow in any::<bool>(),
        seed in 0_u64..1000,
    ) {
        let model = Decoder::init(&config, VOCAB, seed, &Device::flex()).unwrap();
        let storage = if narrow { Precision::Bf16 } else { Precision::F32 };
        let texts = [ends.0, ends.1].map(|n| [ids(seed, same), ids(seed + n as u64, n)].concat());
        let mut session = CachedSession::with_cache(&model, storage);
        session.begin(&texts[0]).unwrap();
        for id in ids(seed + 99, n_generated.min(CONTEXT - texts[0].len())) {
            session.feed(&[id]).unwrap();
        }
        for text in [&texts[1], &texts[1], &texts[0]] {
            let expected = CachedSession::with_cache(&model, storage).begin(text).unwrap();
            prop_assert_eq!(bits(&session.begin(text).unwrap()), bits(&expected));
            prop_assert_eq!(session.len(), text.len());
            prop_assert!(session.n_reused() >= same.min(text.len().saturating_sub(2)), "{} of {same}", session.n_reused());
        }
    }
}

#[test]
fn dynamic_scaling_turns_by_what_has_been_read() {
    let rotary_scaling =
        RotaryScaling { kind: RotaryScalingKind::Dynamic, factor: 4.0, original_context_length: 8, ..RotaryScaling::default() };
    let config = ModelConfig {
        d_model: 12,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 1,
        head_dim: 6,
        context_length: 32,
        rotary_scaling,
        init_std: 0.3,
        ..ModelConfig::default()
    };
    let model = Decoder::init(&config, VOCAB, 4, &Device::flex()).unwrap();
    let text = ids(3, 20);
    let full = |n: usize| FullSession::new(&model).feed(&text[..n]).unwrap();
    assert_eq!(bits(&CachedSession::new(&model).feed(&text).unwrap()), bits(&full(20)), "at once it is the full pass");
    let mut session = CachedSession::new(&model);
    assert!(near(&[session.feed(&text[..7]).unwrap(), session.feed(&text[7..8]).unwrap()].concat(), &[full(7), full(8)].concat()));
    assert!(!near(&session.feed(&text[8..16]).unwrap(), &full(16)), "the first eight stay turned as they were");
    // Beyond the original context another length is turned otherwise, so nothing is reused.
    let mut session = CachedSession::new(&model);
    for (n, reused) in [(8, 0), (7, 5), (12, 0), (12, 10), (16, 0), (8, 0)] {
        assert_eq!(bits(&session.begin(&text[..n]).unwrap()), bits(&full(n)));
        assert_eq!(session.n_reused(), reused, "{n}");
    }
}
