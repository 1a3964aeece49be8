//! The precompiled character map of a SentencePiece normaliser: a check that the library's reader stays inside it, and how much it can grow a
//! text.
//!
//! Layout (sentencepiece `normalizer.cc`, Darts-clone double array): length of the trie in bytes as u32, the trie's u32 units, then the
//! replacement texts, each ended by NUL. The library indexes both without a check, and a file can say anything.

use std::fmt;

/// The largest map that is read; the real ones have about 300 KiB.
const MAX_BYTES: usize = 4 << 20;

/// What is wrong with a map.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks every state a text can reach, and gives the most bytes that one byte of text can become.
pub(crate) fn check(map: &[u8]) -> Result<usize, Fault> {
    let fault = |message: String| Err(Fault(message));
    if map.len() > MAX_BYTES {
        return fault(format!("{} bytes, more than {MAX_BYTES}", map.len()));
    }
    let Some((length, rest)) = map.split_first_chunk::<4>() else { return fault("no length".to_owned()) };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || !length.is_multiple_of(4) || length > rest.len() {
        return fault(format!("a trie of {length} bytes in {}", rest.len()));
    }
    let (trie, texts) = rest.split_at(length);
    let Ok(texts) = std::str::from_utf8(texts) else { return fault("replacements that are not UTF-8".to_owned()) };
    let units: Vec<u32> = trie.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    let mut growth = 1;
    let mut seen = vec![false; units.len()];
    // States as (position before the byte, bytes read).
    let mut open = vec![(offset(units[0]), 0_usize)];
    while let Some((base, depth)) = open.pop() {
        for byte in 1..=255_usize {
            let at = base ^ byte;
            let Some(&unit) = units.get(at) else { return fault(format!("a step to unit {at} of {}", units.len())) };
            if unit & (1 << 31 | 0xFF) != byte as u32 || std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let next = at ^ offset(unit);
            if unit >> 8 & 1 == 1 {
                let Some(&leaf) = units.get(next) else { return fault(format!("a leaf at unit {next} of {}", units.len())) };
                let start = (leaf & !(1 << 31)) as usize;
                let Some(text) = texts.get(start..) else { return fault(format!("a replacement at {start} of {}", texts.len())) };
                let length = text.find('\0').unwrap_or(text.len());
                growth = growth.max(length.div_ceil(depth + 1));
            }
            open.push((next, depth + 1));
        }
    }
    Ok(growth)
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of 256 units, of which some are set, and its texts.
    fn map(set: &[(usize, u32)], texts: &str) -> Vec<u8> {
        let mut units = vec![0_u32; 256];
        for &(at, unit) in set {
            units[at] = unit;
        }
        let mut map = 1024_u32.to_le_bytes().to_vec();
        map.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        map.extend(texts.as_bytes());
        map
    }

    #[test]
    fn the_growth_is_that_of_the_longest_replacement_for_its_key() {
        // Root offset 0; `a` at unit 0x61 with a leaf, its offset 1 leads to unit 0x60.
        let leaf = |start: u32| [(0x61, 0x61 | 1 << 8 | 1 << 10), (0x60, 1 << 31 | start)];
        assert_eq!(check(&map(&leaf(0), "xyz\0")), Ok(3));
        assert_eq!(check(&map(&leaf(4), "xyz\0")), Ok(1));
        assert_eq!(check(&map(&leaf(5), "xyz\0")), Err(Fault("a replacement at 5 of 4".to_owned())));
        assert_eq!(check(&map(&leaf(1), "é\0")), Err(Fault("a replacement at 1 of 3".to_owned())));
    }

    #[test]
    fn a_map_that_leads_outside_itself_or_in_a_circle_is_found_out() {
        assert!(check(&[]).is_err());
        assert!(check(&[4, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(check(&[0, 0, 0, 0]).is_err());
        assert!(check(&[3, 0, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(check(&vec![0; MAX_BYTES + 1]).is_err());
        assert_eq!(check(&[4, 0, 0, 0, 0, 0, 0, 0]), Err(Fault("a step to unit 1 of 1".to_owned())));
        assert_eq!(check(&map(&[(0, 300 << 10)], "")), Err(Fault("a step to unit 301 of 256".to_owned())));
        assert!(check(&map(&[(0x61, 0x61 | 1 << 8 | 0x3E8 << 10)], "")).is_err());
        assert!(check(&map(&[], "\0")).is_ok_and(|growth| growth == 1));
        // `a` leads back to where `a` is read.
        assert_eq!(check(&map(&[(0x61, 0x61 | 0x61 << 10)], "")), Ok(1));
        let mut text = map(&[], "");
        text.push(0xFF);
        assert_eq!(check(&text), Err(Fault("replacements that are not UTF-8".to_owned())));
    }
}
