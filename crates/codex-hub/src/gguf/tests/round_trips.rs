//! Networks that come back as they were written, and those that are refused.

use codex_core::{ExitClass, Failure, files};
use codex_model::{RotaryScaling, RotaryScalingKind};
use proptest::prelude::*;

use super::*;
use crate::gguf::{GgufValue, held, read_gguf};

#[test]
fn every_family_and_type_comes_back_and_is_proven_before_it_has_its_name() {
    for config in families() {
        let config = ModelConfig { d_feed_forward: 48, ..config };
        let weights = weights(&config, 40, 3);
        let mut sizes = Vec::new();
        for kind in GgufType::ALL {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("small.gguf");
            let provenance = [
                ("run".to_owned(), "r1".to_owned()),
                ("Data Digest".to_owned(), "d1".to_owned()),
                ("data digest".to_owned(), "d2".to_owned()),
            ];
            let request = GgufRequest { provenance: &provenance, ..request(&config, &weights, 40, kind) };
            let mut seen = None;
            let told = export_gguf(&request, &target, |config, weights| {
                assert!(!target.exists(), "it has its name before it is proven");
                seen = Some((config.clone(), weights.clone()));
                Ok::<_, HubError>(())
            })
            .unwrap();
            assert_eq!(files::list_dir(dir.path()).unwrap(), std::slice::from_ref(&target));
            assert_eq!((told.bytes, told.path.as_path()), (files::size(&target).unwrap(), target.as_path()));
            let (config_read, weights_read) = seen.unwrap();
            assert_eq!(config_read, held(&config).unwrap().1);
            if kind == GgufType::F32 {
                assert_eq!(weights_read, weights);
            }
            for (path, tensor) in &weights {
                let step = match kind {
                    GgufType::F32 => 0.0,
                    GgufType::F16 => 1.0 / 2048.0,
                    GgufType::Q8 => 1.0 / 127.0,
                };
                let pairs = tensor.values.iter().zip(&weights_read[path].values);
                assert!(tensor.shape.len() == 1 || pairs.clone().all(|(a, b)| (a - b).abs() <= step), "{path} {kind:?}");
                assert!(tensor.shape.len() > 1 || pairs.clone().all(|(a, b)| a.to_bits() == b.to_bits()), "{path} is a vector");
            }
            let model = read_gguf(&target).unwrap();
            assert_eq!((model.config, model.vocab_size), (config_read, 40));
            let text = |key: &str| model.metadata.get(key).cloned();
            assert_eq!(text("codex.provenance.data_digest"), Some(GgufValue::text("d1")));
            assert_eq!(text("codex.provenance.data_digest_"), Some(GgufValue::text("d2")));
            assert_eq!(text("tokenizer.ggml.eos_token_id"), Some(GgufValue::U32(2)));
            sizes.push(told.bytes);
            let again = export(&request, &target).unwrap_err();
            assert!(again.exit_class() == ExitClass::Io && again.to_string().contains("cannot create"), "{again}");
            assert_eq!(told.digest, codex_core::Digest::of_file(&target).unwrap());
        }
        assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
    }
}

#[test]
fn what_is_not_proven_is_not_published() {
    let [config, ..] = families();
    let weights = weights(&config, 40, 3);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("small.gguf");
    let refusal = || HubError::Differs { path: target.clone(), what: "loss".to_owned(), reason: "it moved".to_owned() };
    let told = export_gguf(&request(&config, &weights, 40, GgufType::F16), &target, |_, _| Err(refusal())).unwrap_err();
    assert!(told.to_string().contains("it moved"));
    assert!(files::list_dir(dir.path()).unwrap().is_empty());
}

#[test]
fn a_file_that_is_not_as_it_was_to_be_written_is_told() {
    let [config, ..] = families();
    let given = weights(&config, 40, 3);
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("small.gguf");
    let request = request(&config, &given, 40, GgufType::Q8);
    export(&request, &target).unwrap();
    let (family, held) = held(&config).unwrap();
    let vocabulary =
        crate::gguf::tokenizer::vocabulary(None, 40, crate::gguf::SpecialIds { bos: Some(1), eos: Some(2), pad: None }, None).unwrap();
    let written = crate::gguf::metadata(&request, family, &held, &vocabulary);
    let judge = |change: &dyn Fn(&mut crate::gguf::GgufModel)| {
        let mut back = read_gguf(&target).unwrap();
        change(&mut back);
        crate::gguf::same(&request, &back, &target, (family, &held), &written).map_err(|error| error.to_string())
    };
    judge(&|_| ()).unwrap();
    let bump =
        |path: &'static str, i: usize| move |back: &mut crate::gguf::GgufModel| back.weights.get_mut(path).unwrap().values[i] += 0.01;
    assert!(judge(&bump("blocks.1.attention.qkv.weight", 70)).unwrap_err().contains("`blk.1.attn_"));
    assert!(judge(&bump("final_norm.weight", 5)).unwrap_err().contains("`output_norm.weight` differs: number 5"));
    assert!(judge(&|back| back.config.norm_epsilon = 1e-5).unwrap_err().contains("`configuration`"));
    assert!(judge(&|back| back.config.rotary_theta = 1e4).unwrap_err().contains("`configuration`"));
    assert!(judge(&|back| drop(back.weights.remove("embedding"))).unwrap_err().contains("it is missing"));
    assert!(
        judge(&|back| drop(back.metadata.insert("general.name".to_owned(), GgufValue::text("x")))).unwrap_err().contains("`general.name`")
    );
    assert!(judge(&|back| drop(back.metadata.insert("more".to_owned(), GgufValue::Bool(true)))).unwrap_err().contains("`metadata`"));
}

fn scaled(kind: RotaryScalingKind) -> RotaryScaling {
    RotaryScaling { kind, factor: 4.0, original_context_length: 8, ..RotaryScaling::default() }
}

#[test]
fn rotary_scaling_comes_back() {
    let [llama, _, qwen2, ..] = families();
    let yarn = RotaryScaling { attention_factor: 0.8, ..scaled(RotaryScalingKind::Yarn) };
    let cases = [
        (&llama, scaled(RotaryScalingKind::Linear), Some("llama.rope.scaling.factor")),
        (&llama, RotaryScaling { original_context_length: 0, ..scaled(RotaryScalingKind::Linear) }, Some("llama.rope.scaling.type")),
        (&qwen2, scaled(RotaryScalingKind::Yarn), Some("qwen2.rope.scaling.original_context_length")),
        (&llama, yarn, Some("llama.rope.scaling.yarn_attn_factor")),
        (&llama, RotaryScaling { low_freq_factor: 1.5, ..scaled(RotaryScalingKind::Llama3) }, None),
    ];
    for (config, rotary_scaling, key) in cases {
        let config = ModelConfig { rotary_scaling: rotary_scaling.clone(), ..config.clone() };
        let weights = weights(&config, 12, 1);
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.gguf");
        export(&request(&config, &weights, 12, GgufType::F32), &target).unwrap();
        let back = read_gguf(&target).unwrap();
        let original = if rotary_scaling.original_context_length == 0 { 24 } else { 8 };
        assert_eq!(back.config.rotary_scaling, RotaryScaling { original_context_length: original, ..rotary_scaling });
        assert_eq!(back.weights, weights);
        let scaling = back.metadata.keys().any(|key| key.contains(".rope.scaling."));
        assert!(key.map_or(!scaling, |key| back.metadata.contains_key(key)), "llama.cpp would take the factor of llama3 for a linear one");
    }
}

#[test]
fn factors_of_llama3_are_those_of_its_definition() {
    let rotary_scaling = RotaryScaling { factor: 8.0, original_context_length: 32, ..scaled(RotaryScalingKind::Llama3) };
    let [llama, ..] = families();
    let config = ModelConfig { rotary_theta: 100.0, rotary_scaling, ..llama };
    // Speeds 1, 0.316, 0.1 and 0.0316 turn 5.09, 1.61, 0.51 and 0.16 times in 32 positions; the ramp is between 1 and 4 turns.
    let found = crate::gguf::rope::factors(&config).unwrap();
    let kept = (32.0 / (2.0 * std::f64::consts::PI * 10.0_f64.sqrt()) - 1.0) / 3.0;
    let expected = [1.0, 1.0 / ((1.0 - kept) / 8.0 + kept), 8.0, 8.0];
    assert!(found.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{found:?} {expected:?}");
}

#[test]
fn what_llama_cpp_cannot_hold_is_refused() {
    let [llama, mistral, qwen2, qwen3, gpt2] = families();
    let with = |config: &ModelConfig, kind| ModelConfig { rotary_scaling: scaled(kind), ..config.clone() };
    let cases = [
        (with(&llama, RotaryScalingKind::Dynamic), "dynamic rotary base"),
        (with(&qwen3, RotaryScalingKind::Llama3), "architecture `llama` alone"),
        (with(&qwen2, RotaryScalingKind::Llama3), "architecture `llama` alone"),
        (
            ModelConfig { rotary_scaling: RotaryScaling { beta_fast: 16.0, ..scaled(RotaryScalingKind::Yarn) }, ..qwen3.clone() },
            "takes 32 and 1",
        ),
        (ModelConfig { activation: Activation::Gelu, ..gpt2.clone() }, "tanh approximation"),
        (ModelConfig { activation: Activation::Gelu, ..llama.clone() }, "without gate"),
        (ModelConfig { norm_epsilon: 1e-60, ..llama.clone() }, "in 32 bits"),
    ];
    for (config, reason) in cases {
        let weights = weights(&config, 12, 1);
        let dir = tempfile::tempdir().unwrap();
        let error = export(&request(&config, &weights, 12, GgufType::F32), &dir.path().join("a.gguf")).unwrap_err();
        assert!(matches!(error, HubError::NotRepresentable { .. }) && error.to_string().contains(reason), "{error}");
        assert!(files::list_dir(dir.path()).unwrap().is_empty());
    }
    // What positions are not turned by is no reason.
    held(&with(&gpt2, RotaryScalingKind::Dynamic)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let given = weights(&mistral, 12, 1);
    let told = export(&request(&mistral, &given, 12, GgufType::F32), &dir.path().join("a.gguf")).unwrap();
    assert!(told.notes.iter().any(|note| note.contains("sliding window of 8")), "{:?}", told.notes);
    let wide = ModelConfig { window: 24, ..mistral };
    let told = export(&request(&wide, &given, 12, GgufType::F32), &dir.path().join("b.gguf")).unwrap();
    assert!(!told.notes.iter().any(|note| note.contains("sliding window")));
}

#[test]
fn weights_that_do_not_fit_are_told() {
    let [config, ..] = families();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("a.gguf");
    let refused = |change: &dyn Fn(&mut TensorMap), kind| {
        let mut weights = weights(&config, 12, 1);
        change(&mut weights);
        let error = export(&request(&config, &weights, 12, kind), &target).unwrap_err().to_string();
        assert!(files::list_dir(dir.path()).unwrap().is_empty());
        error
    };
    let missing = refused(&|weights| drop(weights.remove("final_norm.weight")), GgufType::F32);
    assert!(missing.contains("weight `final_norm.weight` of shape [32] is missing"), "{missing}");
    let more = refused(&|weights| drop(weights.insert("more".to_owned(), HostTensor::new(vec![1], vec![0.0]).unwrap())), GgufType::F32);
    assert!(more.contains("weight `more` belongs to nothing"), "{more}");
    let shape = refused(&|weights| weights.get_mut("embedding").unwrap().shape = vec![32, 12], GgufType::F32);
    assert!(shape.contains("weight `embedding` has shape [32, 12], expected [12, 32]"), "{shape}");
    let set = |path: &'static str, value: f32| move |weights: &mut TensorMap| weights.get_mut(path).unwrap().values[3] = value;
    for kind in GgufType::ALL {
        for value in [f32::NAN, f32::INFINITY] {
            let told = refused(&set("embedding", value), kind);
            assert!(told.contains("`token_embd.weight` holds") && told.contains(kind.name()), "{told}");
        }
    }
    let large = refused(&set("blocks.0.feed_forward.up.weight", 70_000.0), GgufType::F16);
    assert!(large.contains("`blk.0.ffn_gate.weight` holds 70000, which f16 cannot"), "{large}");
    let large = refused(&set("blocks.0.feed_forward.up.weight", 9e6), GgufType::Q8);
    assert!(large.contains("`blk.0.ffn_gate.weight` holds 9000000, which q8_0 cannot"), "{large}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_comes_back(
        family in 0..5_usize,
        kind in 0..3_usize,
        kv in 1..4_usize,
        group in 1..3_usize,
        half in 1..20_usize,
        width in 1..70_usize,
        inner in 1..70_usize,
        layers in 1..3_usize,
        vocab_size in 3..40_usize,
        tie_embeddings in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let kv = if family == 4 { kv * group } else { kv };
        let group = if family == 4 { 1 } else { group };
        let n_heads = kv * group;
        let d_model = if family == 4 { n_heads * half } else { width };
        let head_dim = if family == 4 { 0 } else { 2 * half };
        let base = families()[family].clone();
        let config = ModelConfig { d_model, n_heads, n_kv_heads: kv, head_dim, d_feed_forward: inner, n_layers: layers, tie_embeddings, ..base };
        let weights = weights(&config, vocab_size, seed);
        let dir = tempfile::tempdir().unwrap();
        let kind = GgufType::ALL[kind];
        let target = dir.path().join("a.gguf");
        export(&request(&config, &weights, vocab_size, kind), &target).unwrap();
        if kind == GgufType::F32 {
            prop_assert_eq!(read_gguf(&target).unwrap().weights, weights);
        }
    }
}
