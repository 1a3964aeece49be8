//! All randomness: numbers that are a pure function of (seed, purpose, position).
//!
//! The generator is Philox4x32-10 (J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). The key is derived from the
//! seed and the purpose by BLAKE3; the counter is (block, position). Two streams never share state, so no draw depends on the order in
//! which threads or parameters are visited.

use crate::digest::Hasher;

/// A stream of random numbers for one purpose at one position.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    position: u64,
    block: u64,
    buffer: [u32; 4],
    used: usize,
    spare_normal: Option<f64>,
}

impl Stream {
    /// The stream of this seed for `purpose` (such as `init:blocks.0.attention.qkv`) at `position` (such as a step).
    pub fn new(seed: u64, purpose: &str, position: u64) -> Self {
        Self { key: Self::key(seed, purpose), position, block: 0, buffer: [0; 4], used: 4, spare_normal: None }
    }

    /// The generator's key for a seed and a purpose: for kernels that draw their own blocks of the stream.
    pub fn key(seed: u64, purpose: &str) -> [u32; 2] {
        let mut hasher = Hasher::new();
        hasher.field(b"codex stream v1").field(&seed.to_le_bytes()).field(purpose.as_bytes());
        let digest = hasher.finish();
        let word = |i: usize| {
            u32::from_le_bytes([digest.as_bytes()[i], digest.as_bytes()[i + 1], digest.as_bytes()[i + 2], digest.as_bytes()[i + 3]])
        };
        [word(0), word(4)]
    }

    /// 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            let counter = [self.block as u32, (self.block >> 32) as u32, self.position as u32, (self.position >> 32) as u32];
            self.buffer = philox4x32_10(counter, self.key);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | (u64::from(self.next_u32()) << 32)
    }

    /// A float in [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// An integer in [0, bound) without bias; 0 when `bound` is 0 (D. Lemire, 2019).
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= threshold {
                return (product >> 64) as u64;
            }
        }
    }

    /// A standard normal number (Box and Muller, 1958), by `libm` so that every platform agrees.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        let angle = 2.0 * std::f64::consts::PI * self.uniform();
        self.spare_normal = Some(radius * libm::sin(angle));
        radius * libm::cos(angle)
    }

    /// Puts the items in a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        let product0 = u64::from(counter[0]) * 0xD251_1F53;
        let product1 = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (product1 >> 32) as u32 ^ counter[1] ^ key[0],
            product1 as u32,
            (product0 >> 32) as u32 ^ counter[3] ^ key[1],
            product0 as u32,
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn philox_gives_the_published_vectors() {
        // kat_vectors of Random123 1.14.
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_depend_on_all_three_keys() {
        let first = |seed, purpose, position| Stream::new(seed, purpose, position).next_u64();
        assert_eq!(first(1, "a", 0), first(1, "a", 0));
        assert_ne!(first(1, "a", 0), first(2, "a", 0));
        assert_ne!(first(1, "a", 0), first(1, "b", 0));
        assert_ne!(first(1, "a", 0), first(1, "a", 1));
    }

    #[test]
    fn normals_have_mean_zero_and_unit_variance() {
        let mut stream = Stream::new(7, "normal", 0);
        let draws: Vec<f64> = (0..20_000).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    proptest! {
        #[test]
        fn below_stays_below(seed: u64, bound in 1_u64..) {
            prop_assert!(Stream::new(seed, "below", 0).below(bound) < bound);
        }

        #[test]
        fn shuffling_keeps_every_item(seed: u64, n in 0_usize..200) {
            let mut items: Vec<usize> = (0..n).collect();
            Stream::new(seed, "shuffle", 0).shuffle(&mut items);
            items.sort_unstable();
            prop_assert_eq!(items, (0..n).collect::<Vec<_>>());
        }

        #[test]
        fn uniform_is_in_the_unit_interval(seed: u64) {
            let x = Stream::new(seed, "u", 3).uniform();
            prop_assert!((0.0..1.0).contains(&x));
        }
    }

    #[test]
    fn below_zero_is_zero() {
        assert_eq!(Stream::new(0, "x", 0).below(0), 0);
    }
}
