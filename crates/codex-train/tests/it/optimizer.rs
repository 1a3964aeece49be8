//! AdamW and clipping against the formulas in f64.

use burn::tensor::Device;
use codex_model::{Bias, Decoder, LossSettings, ModelConfig, Targets, WindowBatch, parameters};
use codex_train::TrainConfig;
use codex_train::gradients::GradientSum;
use codex_train::optimizer::Optimizer;

const VOCAB: usize = 7;

fn model() -> Decoder {
    let config =
        ModelConfig { d_model: 8, n_layers: 1, n_heads: 2, n_kv_heads: 2, context_length: 4, bias: Bias::All, ..ModelConfig::default() };
    Decoder::init(&config, VOCAB, 2, &Device::flex().autodiff()).unwrap()
}

fn gradients(model: &Decoder) -> GradientSum {
    let windows = WindowBatch { n_rows: 1, inputs: &[1, 2, 3, 4], segments: None, dropout: None };
    let mut found =
        model.loss(&windows, Targets { ids: &[2, 3, 4, 5], weights: &[1.0; 4], settings: LossSettings::default() }).unwrap().sum.backward();
    let mut sum = GradientSum::default();
    sum.add(model, &mut found);
    sum
}

#[test]
fn updates_follow_the_paper() {
    let config = TrainConfig { weight_decay: 0.1, ..TrainConfig::default() };
    let device = Device::flex();
    let mut model = model();
    let mut optimizer = Optimizer::new(&model, &TrainConfig::default(), &device).unwrap();
    let mut expected: Vec<(String, usize, f64, f64, f64)> = Vec::new();
    for (path, index) in
        [("embedding", 9), ("blocks.0.attention.qkv.weight", 5), ("blocks.0.attention.qkv.bias", 3), ("final_norm.weight", 0)]
    {
        let start = parameters::collect(&model).unwrap()[path].values[index];
        expected.push((path.to_owned(), index, f64::from(start), 0.0, 0.0));
    }
    let learning_rate = 0.01;
    for step in 1..=3 {
        let gradient = gradients(&model);
        let host = gradient.to_host().unwrap();
        model = optimizer.step(model, gradient, &config, learning_rate, step).unwrap();
        let found = parameters::collect(&model).unwrap();
        for (path, index, value, m, v) in &mut expected {
            let g = f64::from(host[path.as_str()][*index]);
            *m = config.beta1 * *m + (1.0 - config.beta1) * g;
            *v = config.beta2 * *v + (1.0 - config.beta2) * g * g;
            let m_hat = *m / (1.0 - config.beta1.powi(step as i32));
            let v_hat = *v / (1.0 - config.beta2.powi(step as i32));
            let decay = if found[path.as_str()].shape.len() == 2 { config.weight_decay } else { 0.0 };
            *value -= learning_rate * decay * *value;
            *value -= learning_rate * m_hat / (v_hat.sqrt() + config.epsilon);
            let got = f64::from(found[path.as_str()].values[*index]);
            assert!((got - *value).abs() < 2e-6, "step {step}, {path}[{index}]: {got}, expected {value}");
        }
    }
    let saved = optimizer.collect(&model).unwrap();
    let restored = Optimizer::restore(model.clone(), &saved, &config, &device).unwrap().1;
    assert_eq!(restored.collect(&model).unwrap(), saved);
    assert_eq!(saved.len(), 2 * parameters::collect(&model).unwrap().len());
}

#[test]
fn clipping_scales_to_the_global_norm() {
    let model = model();
    let norm_of = |sum: &GradientSum| {
        let all = sum.to_host().unwrap();
        all.values().flatten().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt()
    };
    let raw = norm_of(&gradients(&model));
    let mut clipped = gradients(&model);
    let told = clipped.scale_and_clip(0.25, 0.01).unwrap();
    assert!((told - 0.25 * raw).abs() < 1e-4 * raw);
    assert!((norm_of(&clipped) - 0.01).abs() < 1e-5);
    let mut free = gradients(&model);
    free.scale_and_clip(0.25, 0.0).unwrap();
    assert!((norm_of(&free) - 0.25 * raw).abs() < 1e-4 * raw);
    assert!(GradientSum::default().scale_and_clip(1.0, 1.0).unwrap().abs() < 1e-12);
}

#[test]
fn the_norm_of_a_large_gradient_does_not_depend_on_threads() {
    // Above the size from which the backend's own sum is split among threads.
    const LARGE: usize = 40_000;
    let config = ModelConfig { d_model: 128, n_layers: 1, n_heads: 2, n_kv_heads: 2, context_length: 4, ..ModelConfig::default() };
    let model = Decoder::init(&config, LARGE, 2, &Device::flex().autodiff()).unwrap();
    let norm = || {
        // Its gradient is twice the embedding: millions of values of one size, whose sum shows the order it was added in.
        let mut found = model.embedding.val().square().sum().backward();
        let mut sum = GradientSum::default();
        sum.add(&model, &mut found);
        assert!(sum.to_host().unwrap()["embedding"].len() > 1 << 22);
        sum.scale_and_clip(1.0, 0.0).unwrap().to_bits()
    };
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(norm);
    let one = on(1);
    for threads in [2, 3, 4, 8] {
        assert_eq!(on(threads), one, "{threads} threads");
    }
}

#[test]
fn foreign_moments_are_refused() {
    let model = model();
    let device = Device::flex();
    let good = Optimizer::new(&model, &TrainConfig::default(), &device).unwrap().collect(&model).unwrap();
    let mut missing = good.clone();
    missing.remove("v.embedding");
    assert!(
        Optimizer::restore(model.clone(), &missing, &TrainConfig::default(), &device)
            .unwrap_err()
            .to_string()
            .contains("`v.embedding` is missing")
    );
    let mut extra = good.clone();
    extra.insert("m.x".to_owned(), good["m.embedding"].clone());
    assert!(Optimizer::restore(model.clone(), &extra, &TrainConfig::default(), &device).unwrap_err().to_string().contains("`m.x`"));
    let mut wrong = good.clone();
    wrong.insert("m.embedding".to_owned(), good["m.final_norm.weight"].clone());
    assert!(Optimizer::restore(model.clone(), &wrong, &TrainConfig::default(), &device).is_err());
}
