//! What the tests share: numbers, devices, comparisons.

use burn::tensor::{Device, Tensor, TensorData};

/// The other backend, which runs burn's own operations.
#[expect(deprecated, reason = "burn-ndarray is the reference that flex is compared with, for as long as it exists")]
pub(crate) fn reference() -> Device {
    Device::ndarray()
}

/// `n` numbers between -1 and 1.
pub(crate) fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// A leaf of the graph, where there is one, with numbers of its own.
pub(crate) fn leaf<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let n = shape.iter().product();
    let tensor = Tensor::from_data(TensorData::new(numbers(seed, n), shape), device);
    if device.is_autodiff() { tensor.require_grad() } else { tensor }
}

/// The numbers of a tensor, whatever it is stored as.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec::<f32>().unwrap()
}

/// An output and the gradients of its weighted sum, by name.
pub(crate) type Found = Vec<(&'static str, Vec<f32>)>;

/// The output and the gradient of each leaf, where each element of the output counts with a weight of its own.
pub(crate) fn differentiate<const D: usize>(output: &Tensor<D>, leaves: &[(&'static str, Leaf)]) -> Found {
    let shape = output.dims();
    let weights = TensorData::new(numbers(99, shape.iter().product()), shape);
    // Cast, since a backward pass starts with a gradient of the output's own type.
    let weighted = output.clone().cast(burn::tensor::FloatDType::F32) * Tensor::from_data(weights, &output.device());
    let gradients = weighted.sum().backward();
    let mut found = vec![("output", values(output.clone()))];
    for (name, leaf) in leaves {
        found.push((name, leaf.gradient(&gradients)));
    }
    found
}

/// A leaf of either rank.
pub(crate) enum Leaf {
    Vector(Tensor<1>),
    Matrix(Tensor<2>),
}

impl Leaf {
    fn gradient(&self, gradients: &burn::tensor::Gradients) -> Vec<f32> {
        match self {
            Self::Vector(tensor) => values(tensor.grad(gradients).unwrap()),
            Self::Matrix(tensor) => values(tensor.grad(gradients).unwrap()),
        }
    }
}

/// Checks that two sets are the same but for rounding: each difference is small beside the root mean square of its tensor.
pub(crate) fn assert_agree(what: &str, found: &Found, expected: &Found, tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len(), "{what}: {name}");
        let mean_square = expected.iter().map(|value| value * value).sum::<f32>() / expected.len().max(1) as f32;
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let bound = tolerance * expected.abs().max(mean_square.sqrt()).max(1e-6);
            assert!((found - expected).abs() <= bound, "{what}: {name}[{index}] is {found}, expected {expected}");
        }
    }
}

/// Checks that the work gives the same bits at 1, 2, 3, 4 and 8 threads, and returns it.
pub(crate) fn at_any_threads(what: &str, work: impl Fn() -> Found + Sync) -> Found {
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&work);
    let bits =
        |found: &Found| -> Vec<Vec<u32>> { found.iter().map(|(_, all)| all.iter().map(|value| value.to_bits()).collect()).collect() };
    let one = on(1);
    for threads in [2, 3, 4, 8] {
        assert!(bits(&on(threads)) == bits(&one), "{what}: {threads} threads differ from one");
    }
    one
}
