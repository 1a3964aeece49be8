//! The encoder: the same bits at any thread count and in any batch, blind to filling, and like the reference backend.

use burn::module::Module;
use burn::tensor::Device;
use codex_core::{HostTensor, Stream, TensorMap};
use codex_model::encoder::shapes;
use codex_model::{Activation, Encoder, EncoderConfig, ModelError, Pooling, TextBatch, parameters};

use super::reference;

fn small() -> EncoderConfig {
    EncoderConfig {
        vocab_size: 13,
        d_model: 12,
        n_layers: 2,
        n_heads: 3,
        d_feed_forward: 20,
        max_positions: 9,
        n_token_types: 2,
        norm_epsilon: 1e-12,
        activation: Activation::Gelu,
        masked_lm_head: true,
    }
}

/// Weights that hide nothing: norms about one, everything else about zero.
fn weights(config: &EncoderConfig, std: f64) -> TensorMap {
    let drawn = |(path, shape): (String, Vec<usize>)| {
        let mut stream = Stream::new(3, &path, 0);
        let middle = if path.ends_with("norm.weight") { 1.0 } else { 0.0 };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| (middle + std * stream.normal()) as f32).collect();
        (path, HostTensor::new(shape, values).unwrap())
    };
    shapes(config).into_iter().map(drawn).collect()
}

fn network(config: &EncoderConfig) -> Encoder {
    Encoder::load(config, &weights(config, 0.3), &Device::flex()).unwrap()
}

fn ids(seed: u64, n: usize, vocab_size: usize) -> Vec<u32> {
    let mut stream = Stream::new(seed, "encoder ids", 0);
    (0..n).map(|_| stream.below(vocab_size as u64) as u32).collect()
}

fn batch(n_rows: usize, ids: &[u32]) -> TextBatch<'_> {
    TextBatch { n_rows, ids, token_types: None, mask: None }
}

fn vectors(model: &Encoder, batch: &TextBatch<'_>, pooling: Pooling) -> Vec<f32> {
    parameters::to_host("vectors", model.embed(batch, pooling, true).unwrap()).unwrap().values.into_vec()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn greatest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn the_shapes_told_are_the_shapes_built() {
    for masked_lm_head in [true, false] {
        let config = EncoderConfig { masked_lm_head, ..small() };
        let (model, given) = (network(&config), weights(&config, 0.3));
        assert_eq!(parameters::collect(&model).unwrap(), given, "weights come back as they were given");
        assert_eq!(model.num_params() as u64, config.n_parameters());
    }
}

#[test]
fn names_and_shapes_are_checked_before_anything_is_built() {
    let config = small();
    let load = |change: &dyn Fn(&mut TensorMap)| {
        let mut tensors = weights(&config, 0.3);
        change(&mut tensors);
        Encoder::load(&config, &tensors, &Device::flex()).unwrap_err().to_string()
    };
    let wrong = HostTensor::new(vec![12, 13], vec![0.0; 156]).unwrap();
    let path = "blocks.1.attention.qkv.weight";
    assert!(
        load(&|all| drop(all.remove(path)))
            .contains("`blocks.1.attention.qkv.weight` is missing; the model expects it with shape [12, 36]")
    );
    assert!(load(&|all| drop(all.insert(path.to_owned(), wrong.clone()))).contains("has shape [12, 13]; the model expects [12, 36]"));
    assert!(
        load(&|all| drop(all.insert("pooler".to_owned(), wrong.clone()))).contains("`pooler` of shape [12, 13] belongs to no parameter")
    );
    let none = EncoderConfig { d_model: usize::MAX, ..small() };
    assert!(
        matches!(Encoder::load(&none, &TensorMap::new(), &Device::flex()), Err(ModelError::Config { key, .. }) if key == "model.d_model")
    );
}

#[test]
fn filling_changes_nothing_and_an_absent_mask_hides_nothing() {
    let model = network(&small());
    let text = ids(1, 5, 13);
    for pooling in [Pooling::Mean, Pooling::Cls] {
        let alone = vectors(&model, &batch(1, &text), pooling);
        for filling in [0, 7] {
            let mut rows = ids(2, 9, 13);
            rows.extend(text.iter().copied().chain([filling; 4]));
            let mask: Vec<bool> = (0..18).map(|position| position < 9 + 5).collect();
            let both = vectors(&model, &TextBatch { mask: Some(&mask), ..batch(2, &rows) }, pooling);
            let difference = greatest_difference(&both[12..], &alone);
            assert!(difference < 1e-6, "{pooling:?} {filling}: {difference}");
            let seen = vectors(&model, &batch(2, &rows), pooling);
            assert!(greatest_difference(&seen[12..], &alone) > 1e-3, "{pooling:?}: without the mask filling is seen");
        }
        let all = vec![true; 5];
        assert_eq!(bits(&vectors(&model, &TextBatch { mask: Some(&all), ..batch(1, &text) }, pooling)), bits(&alone));
    }
    // Positions, token types and later tokens are all seen.
    let other = [text[1], text[0], text[2], text[3], text[4]];
    let types = [0, 0, 0, 1, 1];
    let alone = vectors(&model, &batch(1, &text), Pooling::Cls);
    assert!(greatest_difference(&vectors(&model, &batch(1, &other), Pooling::Cls), &alone) > 1e-3);
    assert!(
        greatest_difference(&vectors(&model, &TextBatch { token_types: Some(&types), ..batch(1, &text) }, Pooling::Cls), &alone) > 1e-3
    );
}

/// As wide as MiniLM, so that products and heads are shared among threads; and long texts, whose scores are.
#[test]
fn an_encoder_has_the_same_bits_at_any_thread_count_and_in_any_batch() {
    let config = EncoderConfig {
        vocab_size: 300,
        d_model: 384,
        n_heads: 12,
        d_feed_forward: 1536,
        max_positions: 600,
        activation: Activation::GeluTanh,
        ..small()
    };
    let model = Encoder::load(&config, &weights(&config, 0.05), &Device::flex()).unwrap();
    for (n_rows, time) in [(1, 2), (1, 600), (7, 37), (24, 11)] {
        let rows = ids(5, n_rows * time, 300);
        let mask: Vec<bool> = (0..n_rows * time).map(|position| position % time < time - time / 3).collect();
        let masked = TextBatch { mask: Some(&mask), ..batch(n_rows, &rows) };
        let run = || {
            let scores = parameters::to_host("scores", model.masked_lm_scores(&masked).unwrap()).unwrap().values.into_vec();
            (vectors(&model, &batch(n_rows, &rows), Pooling::Mean), vectors(&model, &masked, Pooling::Mean), scores)
        };
        let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run);
        let one = on(1);
        for threads in [2, 3, 4, 8] {
            let found = on(threads);
            for (one, found) in [(&one.0, &found.0), (&one.1, &found.1), (&one.2, &found.2)] {
                assert_eq!(bits(one), bits(found), "{n_rows} x {time}: {threads} threads");
            }
        }
        for (row, expected) in rows.chunks_exact(time).zip(one.0.chunks_exact(384)) {
            let alone = vectors(&model, &batch(1, row), Pooling::Mean);
            assert_eq!(bits(&alone), bits(expected), "{n_rows} x {time}: a text by itself");
        }
    }
}

#[test]
fn the_reference_backend_agrees() {
    for activation in [Activation::Gelu, Activation::GeluTanh] {
        let config = EncoderConfig { activation, ..small() };
        let all = weights(&config, 0.3);
        let rows = ids(4, 18, 13);
        let mask: Vec<bool> = (0..18).map(|position| position != 3 && position != 17).collect();
        let masked = TextBatch { mask: Some(&mask), ..batch(2, &rows) };
        let scores = |device: Device| {
            let model = Encoder::load(&config, &all, &device).unwrap();
            let scores = parameters::to_host("scores", model.masked_lm_scores(&masked).unwrap()).unwrap().values.into_vec();
            (scores, vectors(&model, &masked, Pooling::Mean))
        };
        let (ours, theirs) = (scores(Device::flex()), scores(reference()));
        assert!(greatest_difference(&ours.0, &theirs.0) < 1e-4 && greatest_difference(&ours.1, &theirs.1) < 1e-5);
    }
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let model = network(&small());
    let rows = ids(1, 6, 13);
    let told = |batch: TextBatch<'_>| model.forward(&batch).unwrap_err().to_string();
    assert!(told(batch(0, &rows)).contains("6 token ids do not make 0 texts of one length"));
    assert!(told(batch(4, &rows)).contains("6 token ids do not make 4 texts"));
    assert!(told(batch(1, &[])).contains("0 token ids"));
    assert!(told(batch(1, &[1; 10])).contains("10 positions do not fit the model's context of 9"));
    assert!(told(batch(1, &[1, 13])).contains("token id 13 at position 1 is outside the vocabulary of 13"));
    assert!(told(TextBatch { token_types: Some(&[0]), ..batch(1, &rows) }).contains("1 token types do not fit 6 token ids"));
    assert!(told(TextBatch { token_types: Some(&[0, 0, 0, 0, 2, 0]), ..batch(1, &rows) }).contains("token type 2 is outside the 2"));
    assert!(told(TextBatch { mask: Some(&[true]), ..batch(1, &rows) }).contains("a mask of 1 does not fit 6 token ids"));
    let half = [true, true, true, false, false, false];
    assert!(told(TextBatch { mask: Some(&half), ..batch(2, &rows) }).contains("text 1 is nothing but filling"));
    let bare = network(&EncoderConfig { masked_lm_head: false, ..small() });
    assert!(bare.masked_lm_scores(&batch(1, &rows)).unwrap_err().to_string().contains("no masked-LM head"));
    // Attention of this many positions would be 16 GiB of scores.
    let long = EncoderConfig { max_positions: 1 << 15, n_heads: 4, n_layers: 1, ..small() };
    let error = network(&long).forward(&batch(1, &vec![1; 1 << 15])).unwrap_err();
    assert!(error.to_string().contains("1 texts of 32768 tokens are too much at once"), "{error}");
}
