//! Reductions over a slice in a fixed order: element `i` goes to accumulator `i % 32`, and the accumulators are folded by halves.

/// Independent accumulators: four AVX2 registers, enough to hide the latency of an addition.
pub(crate) const LANES: usize = 32;

/// The sum of the accumulators, a power of two of them, the upper half onto the lower until one is left.
#[inline(always)]
pub(crate) fn fold_sum<T: Copy + std::ops::AddAssign, const N: usize>(mut lanes: [T; N]) -> T {
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            let upper = lanes[lane + half];
            lanes[lane] += upper;
        }
        half /= 2;
    }
    lanes[0]
}

/// Sums `values`, where `add(sum, value)` adds one.
#[inline(always)]
pub(crate) fn sum_by(values: &[f32], add: impl Fn(f32, f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = add(*lane, value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = add(*lane, value);
    }
    fold_sum(lanes)
}

/// The largest of `values`; NaN is passed over, and nothing at all is minus infinity.
#[inline(always)]
pub(crate) fn maximum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = if value > *lane { value } else { *lane };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, |most, value| if value > most { value } else { most })
}
