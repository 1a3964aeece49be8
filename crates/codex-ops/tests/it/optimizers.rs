//! The other optimizers: literal numbers of PyTorch 2.15, both backends, any number of threads.

use burn::tensor::{Device, Tensor, TensorData};
use codex_ops::optimizers::{AdafactorStep, FirstOrder, FirstOrderStep, Rule, Squares, adafactor, blend, first_order, orthogonal};

use crate::harness::{assert_agree, at_any_threads, leaf, reference, values};

/// The weights that every series starts with, and the gradient of a turn from 1.
fn start(n: usize) -> Vec<f32> {
    (0..n).map(|i| libm::cos(0.9 * i as f64) as f32).collect()
}

fn gradient(turn: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| libm::sin(0.7 * i as f64 + 1.3 * turn as f64) as f32).collect()
}

fn tensor(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

fn assert_near(what: &str, found: &[f32], expected: &[f32]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 2e-6, "{what}: {found} and {expected}");
    }
    assert_eq!(found.len(), expected.len());
}

/// Three steps with a learning rate of 0.1 and a decay of 0.05, the gradients given at four times their size.
fn three_steps(rule: Rule, device: &Device) -> Vec<f32> {
    let (mut parameter, mut mean) = (tensor(start(12), device), Tensor::zeros([12], device));
    for turn in 1..=3 {
        let step = FirstOrderStep { rule, learning_rate: 0.1, weight_decay: 0.05, gradient_scale: 0.25 };
        let gradient = tensor(gradient(turn, 12).into_iter().map(|value| 4.0 * value).collect(), device);
        (parameter, mean) = first_order(vec![FirstOrder { step, parameter, mean, gradient }]).remove(0);
    }
    values(parameter)
}

#[test]
fn momentum_is_pytorchs_and_lion_the_papers() {
    // torch.optim.SGD(lr=0.1, momentum=0.9, nesterov=True), the decay applied to the weights before each step.
    let sgd = [
        0.647_388,
        0.533_117_1,
        -0.007_298_6,
        -0.480_167_8,
        -0.472_087_5,
        0.011_078_4,
        0.548_517_9,
        0.648_877_7,
        0.161_911_1,
        -0.572_874_8,
        -0.969_503_4,
        -0.653_048_4,
    ];
    // The paper's program 1 in f64, beta 0.9 and 0.99.
    let lion = [
        0.886_572_4,
        0.712_829_9,
        -0.123_313_6,
        -0.592_076_3,
        -0.784_871_7,
        -0.109_147_2,
        0.524_722_5,
        0.884_438_1,
        0.300_769_1,
        -0.338_411_7,
        -0.797_034,
        -0.775_422_4,
    ];
    for device in [Device::flex(), reference()] {
        assert_near("sgd", &three_steps(Rule::Sgd { momentum: 0.9, nesterov: true }, &device), &sgd);
        assert_near("lion", &three_steps(Rule::Lion { beta1: 0.9, beta2: 0.99 }, &device), &lion);
        let without = three_steps(Rule::Sgd { momentum: 0.9, nesterov: false }, &device);
        assert!((without[0] - sgd[0]).abs() > 1e-3, "looking ahead makes a difference");
    }
}

#[test]
fn adafactor_is_pytorchs() {
    // torch.optim.Adafactor(lr=0.1, weight_decay=0.05) on a matrix of 4 x 3 and a vector of 5.
    let matrix = [
        0.908_985_4,
        0.636_388_1,
        -0.110_614_5,
        -0.746_033,
        -0.769_180_7,
        -0.168_016,
        0.574_304_9,
        0.843_495_8,
        0.419_559_7,
        -0.314_192,
        -0.871_188_9,
        -0.760_887_2,
    ];
    let vector = [0.921_107_5, 0.636_388_5, -0.141_023_2, -0.691_631_3, -0.776_934_4];
    for device in [Device::flex(), reference()] {
        let zeros = |n: usize| Tensor::<1>::zeros([n], &device);
        let series = [(Squares::Factored { rows: zeros(4), columns: zeros(3) }, &matrix[..]), (Squares::Whole(zeros(5)), &vector[..])];
        for (mut squares, expected) in series {
            let n = expected.len();
            let mut parameter = tensor(start(n), &device);
            for turn in 1..=3 {
                let step = AdafactorStep { learning_rate: 0.1, weight_decay: 0.05, gradient_scale: 1.0, step: turn as u64 };
                (parameter, squares) = adafactor(&step, parameter, squares, tensor(gradient(turn, n), &device)).unwrap();
            }
            assert_near("adafactor", &values(parameter), expected);
        }
    }
}

#[test]
fn large_updates_agree_and_do_not_depend_on_threads() {
    for (rows, columns) in [(1, 1), (3, 40_000), (700, 33), (16_385, 2)] {
        let n = rows * columns;
        let run = |device: &Device| {
            let zeros = |n: usize| Tensor::<1>::zeros([n], device);
            let (mut by_sign, mut mean) = (leaf(1, [n], device), zeros(n));
            let (mut adapted, mut squares) = (leaf(1, [n], device), Squares::Factored { rows: zeros(rows), columns: zeros(columns) });
            let mut average = leaf(9, [n], device);
            for turn in 1..=3 {
                let gradient: Tensor<1> = leaf(1 + turn, [n], device);
                let step = FirstOrderStep {
                    rule: Rule::Sgd { momentum: 0.9, nesterov: turn % 2 == 0 },
                    learning_rate: 0.01,
                    weight_decay: 0.1,
                    gradient_scale: 0.5,
                };
                (by_sign, mean) = first_order(vec![FirstOrder { step, parameter: by_sign, mean, gradient: gradient.clone() }]).remove(0);
                let step = AdafactorStep { learning_rate: 0.01, weight_decay: 0.1, gradient_scale: 0.5, step: turn };
                (adapted, squares) = adafactor(&step, adapted, squares, gradient).unwrap();
                average = blend(0.9, vec![(average, adapted.clone())]).remove(0);
            }
            vec![("first order", values(by_sign)), ("mean", values(mean)), ("adafactor", values(adapted)), ("average", values(average))]
        };
        let found = at_any_threads("optimizers", || run(&Device::flex()));
        assert_agree("optimizers", &found, &run(&reference()), 2e-5);
    }
}

#[test]
fn the_orthogonal_factor_is_that_of_five_rounds_in_f64() {
    // numpy in f64, the coefficients of K. Jordan's program.
    let tall = [
        0.628_683, 0.114_521, -0.486_308, -0.396_655, -0.241_149, 0.096_853, 0.088_526, 0.321_512, 0.311_185, 0.236_587, -0.340_191,
        -0.659_519,
    ];
    let wide = [0.627_905, 0.371_903, -0.165_548, -0.577_715, -0.552_68, -0.139_345, 0.332_228, 0.552_377, 0.354_498, -0.111_658];
    for device in [Device::flex(), reference()] {
        for (rows, columns, expected) in [(4, 3, &tall[..]), (2, 5, &wide[..])] {
            let found = orthogonal(tensor(start(rows * columns), &device).reshape([rows, columns])).unwrap();
            for (found, expected) in values(found.reshape([rows * columns])).iter().zip(expected) {
                assert!((found - expected).abs() < 2e-5, "{rows} x {columns}: {found} and {expected}");
            }
        }
    }
}

#[test]
fn all_singular_values_become_about_one() {
    for (rows, columns) in [(8, 8), (40, 12), (12, 40), (1, 7)] {
        let run = |device: &Device| {
            let found = orthogonal(leaf(3, [rows, columns], device)).unwrap();
            assert_eq!(found.dims(), [rows, columns]);
            let short = rows.min(columns);
            let square = if rows > columns {
                found.clone().transpose().matmul(found.clone())
            } else {
                found.clone().matmul(found.clone().transpose())
            };
            // What is left of the identity, times its transpose: its trace is the sum of the singular values' distances from one, squared.
            let trace = values(square.reshape([short * short])).iter().step_by(short + 1).sum::<f32>() / short as f32;
            assert!((0.45..1.3).contains(&trace), "{rows} x {columns}: mean of the squared singular values {trace}");
            vec![("orthogonal", values(found.reshape([rows * columns])))]
        };
        let found = at_any_threads("orthogonal", || run(&Device::flex()));
        assert_agree("orthogonal", &found, &run(&reference()), 1e-4);
    }
}
