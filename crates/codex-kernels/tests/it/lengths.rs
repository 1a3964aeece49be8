//! Wrong lengths, ids and settings: an error, never a panic, and nothing written.

use codex_kernels::activation::{Activation, backward, forward, forward_in_place};
use codex_kernels::adamw::{AdamWStep, ParameterState};
use codex_kernels::cross_entropy::{LossSettings, Targets, loss, loss_and_gradient, token_scores};
use codex_kernels::embedding::{Lookup, gather, scatter_add};
use codex_kernels::norm::{Norm, NormGradient, NormKind, RowStatistic};
use codex_kernels::{Isa, RowsError};
use proptest::prelude::*;

const STEP: AdamWStep = AdamWStep {
    learning_rate: 0.1,
    beta1: 0.9,
    beta2: 0.9,
    epsilon: 1e-8,
    weight_decay: 0.0,
    correction1: 0.1,
    correction2: 0.1,
    gradient_scale: 1.0,
};

#[test]
fn messages() {
    let isa = Isa::Portable;
    let message = |result: Result<(), RowsError>| result.unwrap_err().to_string();
    let refused = forward(isa, Activation::Swiglu, 3, &[0.0; 6], &mut [0.0; 6]);
    assert_eq!(message(refused), "`pre` of activation has 6 elements, expected 12");
    assert_eq!(message(forward::<f32>(isa, Activation::Gelu, 0, &[], &mut [])), "activation expects rows of at least one element");
    assert_eq!(message(forward_in_place(isa, Activation::Swiglu, &mut [])), "activation in place is not defined for SwiGLU");
    let refused = scatter_add(isa, 2, &[1, 2], &[0.0; 4], &mut [0.0; 4]);
    assert_eq!(message(refused), "id 2 at position 1 of embedding's gradient is outside the table of 2 rows");
    let refused = scatter_add(isa, 2, &[1], &[0.0; 2], &mut [0.0; 5]);
    assert_eq!(message(refused), "`table's gradient` of embedding's gradient has 5 elements, expected a multiple of 2");
    let settings = LossSettings { label_smoothing: 1.5, z_loss: 0.0 };
    let refused = loss(isa, &[0.0], 1, Targets { ids: &[0], weights: &[1.0] }, settings).map(|_| ());
    assert_eq!(message(refused), "`label_smoothing` of cross-entropy is 1.5, expected 0 to 1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_lengths(n in prop::collection::vec(0_usize..7, 8), width in prop_oneof![0_usize..4, Just(usize::MAX)], id in 0_u32..4, flag: bool) {
        let isa = Isa::Portable;
        let start: Vec<Vec<f32>> = n.iter().map(|&n| vec![0.25; n]).collect();
        let mut f = start.clone();
        let [a, b, c, d, e, g, h, i] = &mut f[..] else { unreachable!() };
        let token_ids = vec![id; n[2]];
        let other_ids = vec![id; n[3]];
        let mut statistics = vec![RowStatistic::default(); n[7]];
        let targets = Targets { ids: &token_ids, weights: d };

        let norm = Norm { kind: NormKind::Layer, weight: a, bias: flag.then_some(&b[..]), epsilon: 1e-5 };
        let is_written = [
            norm.forward(isa, c, e, &mut statistics).is_ok() && !e.is_empty(),
            norm.backward(isa, c, &statistics, d, e, NormGradient { weight: g, bias: flag.then_some(&mut h[..]) }).is_ok(),
            loss_and_gradient(isa, i, width, targets, LossSettings::default()).is_ok(),
        ];
        let _ = loss(isa, a, width, targets, LossSettings::default());
        drop(token_scores(isa, a, width, &token_ids));
        if is_written == [false; 3] {
            prop_assert_eq!(&f, &start);
        }

        let [a, b, c, d, e, g, h, _] = &mut f[..] else { unreachable!() };
        for activation in [Activation::Swiglu, Activation::Gelu, Activation::GeluTanh] {
            let _ = forward(isa, activation, width, a, b);
            let _ = backward(isa, activation, width, a, b);
        }
        let state = ParameterState { parameter: a, first_moment: b, second_moment: c };
        let _ = STEP.update(isa, state, d);
        let positions = flag.then_some(Lookup { table: h, ids: &other_ids });
        let _ = gather(isa, width, Lookup { table: e, ids: &token_ids }, positions, g);
        let _ = scatter_add(isa, width, &token_ids, e, g);
    }
}
