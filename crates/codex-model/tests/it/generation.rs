//! Generation: alone, in batches, from a cache of either precision, to the end of the context.

use super::*;

#[test]
fn generation_has_the_same_bits_at_any_thread_count() {
    // Wide enough that products and the cache are shared among threads.
    let config = ModelConfig { d_model: 256, n_heads: 8, n_kv_heads: 4, context_length: 320, ..small() };
    let model = Decoder::init(&config, 3000, 8, &Device::flex()).unwrap();
    let sampling = SamplingConfig { temperature: 1.0, top_p: 1.0, seed: 1, max_new_tokens: 24, ..SamplingConfig::default() };
    let prompt: Vec<u32> = (0..290).map(|i| i * 7 % 3000).collect();
    let run = || generate(&mut CachedSession::new(&model), &prompt, 9999, &sampling, &mut |_| true).unwrap();
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run);
    let one = on(1);
    assert_eq!(one.ids.len(), 24);
    let bits = |all: &[f32]| all.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for threads in [2, 3, 4, 8] {
        let found = on(threads);
        assert_eq!((&found.ids, bits(&found.log_probabilities)), (&one.ids, bits(&one.log_probabilities)), "{threads} threads");
    }
}

#[test]
fn a_batch_reads_as_each_by_itself() {
    for config in variants() {
        for device in [Device::flex(), reference()] {
            let model = Decoder::init(&config, VOCAB, 4, &device).unwrap();
            let texts = [ids(3, 8), ids(4, 8), ids(5, 8)];
            let mut alone: Vec<_> = texts.iter().map(|_| CachedSession::new(&model)).collect();
            let mut caches: Vec<_> = texts.iter().map(|_| KvCache::new(Precision::F32)).collect();
            // Prompts of unequal lengths, then pieces of unequal lengths: some one token, some more.
            for cuts in [[0..3, 0..1, 0..5], [3..4, 1..4, 5..6], [4..5, 4..5, 6..7], [5..8, 5..6, 7..8]] {
                let pieces: Vec<&[u32]> = texts.iter().zip(&cuts).map(|(text, cut)| &text[cut.clone()]).collect();
                let mut all: Vec<&mut KvCache> = caches.iter_mut().collect();
                let scores = parameters::to_host("scores", model.forward_cached_batch(&pieces, &mut all).unwrap()).unwrap().values;
                for ((scores, session), piece) in scores.chunks(VOCAB).zip(&mut alone).zip(pieces) {
                    let expected = session.feed(piece).unwrap();
                    assert!(scores.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{scores:?} {expected:?}");
                }
            }
            // The second cannot take four more, so none of the caches grows.
            let lengths = |caches: &[KvCache]| caches.iter().map(KvCache::len).collect::<Vec<_>>();
            let before = lengths(&caches);
            let (first, mut rest) = caches.split_first_mut().map(|(first, rest)| (first, rest.iter_mut().collect::<Vec<_>>())).unwrap();
            first.clear();
            rest.insert(0, first);
            assert!(matches!(model.forward_cached_batch(&[&[1], &[1, 2, 3], &[1]], &mut rest), Err(ModelError::TooLong { .. })));
            assert_eq!(lengths(&caches), [0, before[1], before[2]]);
        }
    }
}

#[test]
fn a_batch_generates_what_each_prompt_gives_by_itself() {
    let model = Decoder::init(&small(), VOCAB, 8, &Device::flex()).unwrap();
    let prompt = |seed: u64, max_new_tokens: usize| BatchPrompt {
        ids: ids(seed, 1 + seed as usize % 4),
        sampling: SamplingConfig { temperature: 1.0, top_p: 1.0, seed, max_new_tokens, ..SamplingConfig::default() },
    };
    // Some reach the end of the context of 8, one ends at once, and one is stopped by its caller.
    let prompts = [prompt(1, 30), prompt(2, 3), prompt(3, 0), prompt(5, 17), prompt(6, 9)];
    let more = |index: usize, n: usize| !(index == 4 && n == 5);
    for end_of_text in [999, 4] {
        let mut counts = [0; 5];
        let mut told = |index: usize, _: u32| {
            counts[index] += 1;
            more(index, counts[index])
        };
        let batch = generate_batch(&model, Precision::F32, &prompts, end_of_text, &mut told).unwrap();
        for (index, (found, prompt)) in batch.iter().zip(&prompts).enumerate() {
            let mut n = 0;
            let mut go_on = |_| {
                n += 1;
                more(index, n)
            };
            let alone = generate(&mut CachedSession::new(&model), &prompt.ids, end_of_text, &prompt.sampling, &mut go_on).unwrap();
            let bits = |all: &[f32]| all.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            let of = |text: &Generated| (text.ids.clone(), bits(&text.log_probabilities), text.stopped);
            assert_eq!(of(found), of(&alone), "prompt {index}");
        }
    }
    assert!(generate_batch(&model, Precision::F32, &[], 9, &mut |_, _| true).unwrap().is_empty());
}

#[test]
fn a_cache_in_bf16_is_near_and_never_mixed_with_another() {
    let model = Decoder::init(&small(), VOCAB, 4, &Device::flex()).unwrap();
    let text = ids(3, 8);
    let (mut whole, mut half) = (CachedSession::new(&model), CachedSession::with_cache(&model, Precision::Bf16));
    let mut apart = 0.0_f32;
    for piece in [&text[..3], &text[3..4], &text[4..8]] {
        let (whole, half) = (whole.feed(piece).unwrap(), half.feed(piece).unwrap());
        let scale = whole.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        apart = whole.iter().zip(&half).map(|(a, b)| (a - b).abs() / scale).fold(apart, f32::max);
    }
    assert!(apart > 0.0 && apart < 2e-2, "{apart}");
    let (mut one, mut other) = (KvCache::new(Precision::F32), KvCache::new(Precision::Bf16));
    assert!(model.forward_cached_batch(&[&[1], &[1]], &mut [&mut one, &mut other]).is_err());
    assert!(model.forward_cached_batch(&[&[1]], &mut []).is_err());
}

#[test]
fn weights_in_8_bits_score_nearly_the_same() {
    for config in variants() {
        let model = Decoder::init(&config, VOCAB, 4, &Device::flex()).unwrap();
        let (text, targets) = (ids(3, 8), ids(4, 8));
        let scores = |model: &Decoder| CachedSession::new(model).feed(&text).unwrap();
        let losses = |model: &Decoder| model.token_scores(&windows(&text, 1, None), &targets).unwrap();
        let (whole, of_whole) = (scores(&model), losses(&model));
        let quantized = model.quantize().unwrap();
        let (coarse, of_coarse) = (scores(&quantized), losses(&quantized));
        let scale = whole.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let apart = whole.iter().zip(&coarse).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max);
        assert!(apart > 0.0 && apart < 3e-2, "{apart}");
        let apart = of_whole.iter().zip(&of_coarse).map(|(a, b)| (a.0 - b.0).abs()).fold(0.0, f32::max);
        assert!(apart > 0.0 && apart < 5e-2, "{apart}");
        // The full pass and the cached one read the same weights.
        let full = FullSession::new(&quantized).feed(&text).unwrap();
        assert!(full.iter().zip(&coarse).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

#[test]
fn the_other_backend_reads_with_a_cache_too() {
    let model = Decoder::init(&small(), VOCAB, 4, &reference()).unwrap();
    let (mut cached, mut full) = (CachedSession::new(&model), FullSession::new(&model));
    for ids in [&[1_u32, 2, 3][..], &[4], &[5, 6]] {
        let (found, expected) = (cached.feed(ids).unwrap(), full.feed(ids).unwrap());
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    }
}

#[test]
fn generation_is_a_function_of_the_seed() {
    let model = Decoder::init(&ModelConfig { context_length: 40, ..small() }, VOCAB, 8, &Device::flex()).unwrap();
    let sampling = SamplingConfig { temperature: 1.0, top_p: 1.0, seed: 1, max_new_tokens: 30, ..SamplingConfig::default() };
    let run = |session: &mut dyn Session, sampling: &SamplingConfig| generate(session, &[1, 2, 3], 999, sampling, &mut |_| true).unwrap();
    let first = run(&mut CachedSession::new(&model), &sampling);
    assert_eq!(first, run(&mut CachedSession::new(&model), &sampling));
    assert_eq!(first.ids, run(&mut FullSession::new(&model), &sampling).ids);
    assert_ne!(first.ids, run(&mut CachedSession::new(&model), &SamplingConfig { seed: 2, ..sampling.clone() }).ids);
    assert_eq!((first.ids.len(), first.stopped), (30, StopReason::Length));
    assert!(first.log_probabilities.iter().all(|&p| p < 0.0 && p.is_finite()));

    let stop_at = first.ids[4];
    let n = first.ids.iter().position(|&id| id == stop_at).unwrap();
    let ended = generate(&mut CachedSession::new(&model), &[1, 2, 3], stop_at, &sampling, &mut |_| true).unwrap();
    assert_eq!((ended.ids.as_slice(), ended.stopped), (&first.ids[..n], StopReason::EndOfText));
    let called = generate(&mut CachedSession::new(&model), &[1, 2, 3], 999, &sampling, &mut |_| false).unwrap();
    assert_eq!((called.ids.len(), called.stopped), (1, StopReason::Caller));
    assert!(generate(&mut CachedSession::new(&model), &[], 999, &sampling, &mut |_| true).is_err());
}

#[test]
fn a_text_ends_with_the_context_and_a_prompt_fits_in_it() {
    let model = Decoder::init(&small(), VOCAB, 8, &Device::flex()).unwrap();
    let sampling = |max_new_tokens| SamplingConfig { max_new_tokens, ..SamplingConfig::default() };
    let run = |prompt: &[u32], max_new_tokens| {
        generate(&mut CachedSession::new(&model), prompt, 999, &sampling(max_new_tokens), &mut |_| true)
            .map(|text| (text.ids.len(), text.stopped))
    };
    // Of a context of 8, the ninth token is chosen and cannot be read.
    assert_eq!(run(&ids(1, 3), 30).unwrap(), (6, StopReason::Context));
    assert_eq!(run(&ids(1, 3), 6).unwrap(), (6, StopReason::Length));
    assert_eq!(run(&ids(1, 8), 30).unwrap(), (1, StopReason::Context));
    let too_long = run(&ids(1, 11), 1).unwrap_err();
    assert!(matches!(too_long, ModelError::PromptTooLong { prompt_tokens: 11, context_length: 8 }));
    assert_eq!(too_long.to_string(), "the prompt has 11 tokens and the model's context is 8: 3 too many");
    assert!(too_long.exit_class() == ExitClass::Usage && too_long.hint().unwrap().contains("model.context_length"));
    let prompts = [3, 9].map(|n| BatchPrompt { ids: ids(1, n), sampling: sampling(1) });
    let batch = generate_batch(&model, Precision::F32, &prompts, 999, &mut |_, _| panic!("nothing is generated"));
    assert!(matches!(batch, Err(ModelError::PromptTooLong { prompt_tokens: 9, .. })));
}

#[test]
fn a_prompt_of_many_samples_is_read_once_with_the_bits_of_each() {
    let config = ModelConfig { context_length: 64, ..small() };
    for (model, prompt) in [
        (Decoder::init(&config, VOCAB, 8, &Device::flex()).unwrap(), ids(1, 21)),
        (Decoder::init(&config, VOCAB, 8, &Device::flex()).unwrap().quantize().unwrap(), ids(2, 1)),
    ] {
        let sample = |seed: u64, ids: &[u32]| BatchPrompt {
            ids: ids.to_vec(),
            sampling: SamplingConfig { temperature: 1.0, seed, max_new_tokens: 20, ..SamplingConfig::default() },
        };
        // The fourth is another prompt, between two of the same.
        let prompts = [sample(1, &prompt), sample(2, &prompt), sample(3, &prompt), sample(1, &prompt[..1]), sample(4, &prompt)];
        for cache in [Precision::F32, Precision::Bf16] {
            let together = generate_batch(&model, cache, &prompts, 999, &mut |_, _| true).unwrap();
            for (found, prompt) in together.iter().zip(&prompts) {
                let mut session = CachedSession::with_cache(&model, cache);
                let alone = generate(&mut session, &prompt.ids, 999, &prompt.sampling, &mut |_| true).unwrap();
                assert_eq!(found, &alone);
            }
        }
    }
}
