//! Pairs of ids with a number each: what encoding and training look up most. It can be asked, not listed, so its order is nobody's business.

/// No pair has this key: ids stay below the largest `u32`.
const FREE: u64 = u64::MAX;

/// Pairs of ids and a number for each.
#[derive(Clone, Debug)]
pub(crate) struct PairMap {
    /// The key and number of each place; a place is looked for from the one a key's hash names.
    places: Vec<(u64, u32)>,
    len: usize,
}

impl PairMap {
    /// A map with room for so many pairs; it grows when there are more.
    pub(crate) fn with_capacity(n: usize) -> Self {
        Self { places: vec![(FREE, 0); (n * 2).next_power_of_two().max(16)], len: 0 }
    }

    pub(crate) fn get(&self, pair: (u32, u32)) -> Option<u32> {
        let key = key(pair);
        let mut at = self.first_place(key);
        loop {
            match self.places[at] {
                (found, number) if found == key => return Some(number),
                (FREE, _) => return None,
                _ => at = (at + 1) & (self.places.len() - 1),
            }
        }
    }

    /// The number of a pair; a new pair gets this one.
    pub(crate) fn get_or_insert(&mut self, pair: (u32, u32), number: u32) -> u32 {
        if self.len * 2 >= self.places.len() {
            self.grow();
        }
        let key = key(pair);
        let at = self.place_of(key);
        if self.places[at].0 == FREE {
            self.places[at] = (key, number);
            self.len += 1;
        }
        self.places[at].1
    }

    /// The place of a key, or the free one where it belongs.
    fn place_of(&self, key: u64) -> usize {
        let mut at = self.first_place(key);
        while self.places[at].0 != FREE && self.places[at].0 != key {
            at = (at + 1) & (self.places.len() - 1);
        }
        at
    }

    fn first_place(&self, key: u64) -> usize {
        (mix(key, 0x9E37_79B9_7F4A_7C15) as usize) & (self.places.len() - 1)
    }

    fn grow(&mut self) {
        let larger = vec![(FREE, 0); self.places.len() * 2];
        let old = std::mem::replace(&mut self.places, larger);
        for (key, number) in old.into_iter().filter(|(key, _)| *key != FREE) {
            let at = self.place_of(key);
            self.places[at] = (key, number);
        }
    }
}

fn key((left, right): (u32, u32)) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// The two halves of a product, joined: every bit of it depends on every bit of both.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0xA076_1D64_78BD_642F) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// A number for some bytes that differs for most others.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        hash = mix(u64::from_le_bytes(*chunk) ^ hash, 0x9E37_79B9_7F4A_7C15);
    }
    let mut last = 0;
    for &byte in rest {
        last = last << 8 | u64::from(byte);
    }
    mix(last ^ hash.rotate_left(29), 0xE703_7ED1_A0B4_28DB)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn pairs_keep_their_first_number() {
        let mut map = PairMap::with_capacity(0);
        let mut reference = BTreeMap::new();
        for i in 0..5000_u32 {
            let pair = (i % 71, i * i % 113);
            let number = *reference.entry(pair).or_insert(i);
            assert_eq!(map.get_or_insert(pair, i), number);
        }
        for pair in (0..80).flat_map(|left| (0..120).map(move |right| (left, right))) {
            assert_eq!(map.get(pair), reference.get(&pair).copied());
        }
    }

    #[test]
    fn bytes_in_another_order_or_number_hash_differently() {
        let texts: [&[u8]; 9] = [b"", b"\0", b"\0\0", b"ab", b"ba", b"abcdefgh", b"abcdefgh\0", b"\0abcdefgh", b"abcdefghabcdefgh"];
        let hashes: std::collections::BTreeSet<u64> = texts.iter().map(|text| hash_bytes(text)).collect();
        assert_eq!(hashes.len(), texts.len());
    }
}
