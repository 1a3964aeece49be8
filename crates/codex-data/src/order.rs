//! The order of an epoch's windows: a permutation that is computed, not stored, so that an epoch of any size costs no memory and any
//! position is found at once.
//!
//! A Feistel network of six rounds over the smallest even number of bits that holds n, walked until the value is below n again (J. Black
//! and P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). Fewer than four steps are expected.

use codex_core::Stream;

const ROUNDS: usize = 6;

/// A permutation of 0..n.
#[derive(Clone, Debug)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The order of epoch `epoch` of `n` windows under this seed; `n` is at most 2^62.
    pub fn new(n: u64, seed: u64, epoch: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let mut stream = Stream::new(seed, "order", epoch);
        Self { n: n.max(1), half_bits: bits.div_ceil(2).max(1), keys: std::array::from_fn(|_| stream.next_u64()) }
    }

    /// What stands at `position`, taken modulo n.
    pub fn at(&self, position: u64) -> u64 {
        let mut value = position % self.n;
        loop {
            value = self.encrypt(value);
            if value < self.n {
                return value;
            }
        }
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mask = (1_u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        (left << self.half_bits) | right
    }
}

/// The finalizer of SplitMix64: every input bit reaches every output bit.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(n: u64, seed: u64, epoch: u64) -> Vec<u64> {
        let permutation = Permutation::new(n, seed, epoch);
        (0..n).map(|i| permutation.at(i)).collect()
    }

    #[test]
    fn seeds_and_epochs_give_other_orders_and_the_same_ones_the_same() {
        assert_eq!(order(100, 1, 0), order(100, 1, 0));
        assert_ne!(order(100, 1, 0), order(100, 1, 1));
        assert_ne!(order(100, 1, 0), order(100, 2, 0));
        assert_ne!(order(100, 1, 0), (0..100).collect::<Vec<_>>());
        assert_eq!(order(1, 1, 0), [0]);
        assert_eq!(Permutation::new(0, 1, 0).at(5), 0);
        assert_eq!(Permutation::new(7, 1, 0).at(7), Permutation::new(7, 1, 0).at(0));
    }

    #[test]
    fn the_order_is_pinned() {
        assert_eq!(order(10, 42, 0), [8, 9, 7, 5, 3, 2, 6, 1, 4, 0]);
    }

    #[test]
    fn every_value_stands_everywhere_about_as_often() {
        let mut counts = [[0_u32; 7]; 7];
        for seed in 0..7000 {
            for (position, value) in order(7, seed, 3).into_iter().enumerate() {
                counts[position][value as usize] += 1;
            }
        }
        for count in counts.into_iter().flatten() {
            assert!((850..1150).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn a_thousand_million_windows_need_no_list() {
        let permutation = Permutation::new(1_000_000_000, 5, 9);
        let some: std::collections::BTreeSet<u64> = (999_990_000..1_000_000_000).map(|i| permutation.at(i)).collect();
        assert_eq!(some.len(), 10_000);
        assert!(some.iter().all(|value| *value < 1_000_000_000));
        let mean = some.iter().sum::<u64>() / 10_000;
        assert!((480_000_000..520_000_000).contains(&mean), "{mean}");
    }

    proptest! {
        #[test]
        fn it_is_a_bijection(n in 1_u64..5000, seed: u64, epoch: u64) {
            let mut values = order(n, seed, epoch);
            values.sort_unstable();
            prop_assert_eq!(values, (0..n).collect::<Vec<_>>());
        }
    }
}
