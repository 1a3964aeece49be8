//! What a text collection is like: how long its documents are, in which writing systems, which are the longest and the emptiest, and which are there twice.

use std::collections::BTreeMap;

use codex_tokenize::script_shares;
use serde::Serialize;

use crate::document::{Document, Origin};
use crate::filter::{Duplicates, Filter, FilterConfig};

/// Documents that are named as the longest, the emptiest or duplicates.
const NAMED: usize = 5;

/// Counts of what was seen.
#[derive(Debug)]
pub struct Survey {
    kinds: BTreeMap<&'static str, u64>,
    scripts: BTreeMap<&'static str, u64>,
    bytes: Vec<u64>,
    characters: Vec<u64>,
    words: Vec<u64>,
    lines: Vec<u64>,
    longest: Vec<Sized>,
    emptiest: Vec<Sized>,
    filter: Filter,
    duplicates: BTreeMap<String, u64>,
    first_duplicates: Vec<(Origin, Option<Origin>, String)>,
}

/// A document and a number of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sized {
    size: u64,
    /// Its place in reading order, so that ties go to the first.
    number: u64,
    origin: Origin,
}

/// A document that stands out.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Outstanding {
    /// Where it is.
    pub origin: String,
    /// Of the longest its bytes, of the emptiest its characters that are no white space.
    pub size: u64,
}

/// A document that is there before.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct DuplicateFound {
    /// Where it is.
    pub origin: String,
    /// The first one that it is like.
    pub like: Option<String>,
    /// `duplicate` or `near_duplicate`.
    pub reason: String,
}

/// How something is spread over the documents: nearest-rank percentiles.
#[derive(Clone, Copy, Debug, Default, Serialize, PartialEq)]
pub struct Spread {
    /// All of them together.
    pub total: u64,
    /// The mean.
    pub mean: f64,
    /// The smallest.
    pub min: u64,
    /// Where 5 of 100 documents have no more.
    pub p5: u64,
    /// 25 of 100.
    pub p25: u64,
    /// The median.
    pub p50: u64,
    /// 75 of 100.
    pub p75: u64,
    /// 95 of 100.
    pub p95: u64,
    /// 99 of 100.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// The numbers of a text collection.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct SurveyReport {
    /// Documents.
    pub documents: u64,
    /// Documents by what they are: `text`, `prompt`, `chat`.
    pub kinds: BTreeMap<&'static str, u64>,
    /// UTF-8 bytes of a document.
    pub bytes: Spread,
    /// Characters of a document.
    pub characters: Spread,
    /// Words of a document: stretches between white space.
    pub words: Spread,
    /// Lines of a document.
    pub lines: Spread,
    /// Documents by the power of two at or below their bytes: entry i counts 2^i up to 2^(i+1) - 1.
    pub length_histogram_log2_bytes: Vec<u64>,
    /// Characters by writing system, the most first; those that several share are not counted.
    pub scripts: Vec<(&'static str, u64)>,
    /// The longest documents by bytes.
    pub longest: Vec<Outstanding>,
    /// The documents with the fewest characters that are no white space.
    pub emptiest: Vec<Outstanding>,
    /// Documents that are there before, by reason.
    pub duplicates: BTreeMap<String, u64>,
    /// The first of them.
    pub first_duplicates: Vec<DuplicateFound>,
}

impl Survey {
    /// Nothing seen yet. `duplicates` says which are looked for; near ones cost 1.7 kB a document.
    pub fn new(duplicates: Duplicates) -> Self {
        Self {
            kinds: BTreeMap::new(),
            scripts: BTreeMap::new(),
            bytes: Vec::new(),
            characters: Vec::new(),
            words: Vec::new(),
            lines: Vec::new(),
            longest: Vec::new(),
            emptiest: Vec::new(),
            filter: Filter::new(&FilterConfig { duplicates, ..FilterConfig::default() }),
            duplicates: BTreeMap::new(),
            first_duplicates: Vec::new(),
        }
    }

    /// Counts a document in.
    pub fn add(&mut self, document: &Document) {
        let text = document.content.text();
        let number = self.bytes.len() as u64;
        *self.kinds.entry(document.content.kind()).or_default() += 1;
        for (script, n) in script_shares(&text) {
            *self.scripts.entry(script).or_default() += n;
        }
        self.bytes.push(text.len() as u64);
        self.characters.push(text.chars().count() as u64);
        self.words.push(text.split_whitespace().count() as u64);
        self.lines.push(text.lines().count() as u64);
        let sized = |size| Sized { size, number, origin: document.origin.clone() };
        keep(&mut self.longest, sized(text.len() as u64), |a, b| b.size.cmp(&a.size).then(a.number.cmp(&b.number)));
        let visible = text.chars().filter(|c| !c.is_whitespace()).count() as u64;
        keep(&mut self.emptiest, sized(visible), Ord::cmp);
        if let Some(found) = self.filter.judge(&text, &document.origin) {
            *self.duplicates.entry(found.reason.clone()).or_default() += 1;
            if self.first_duplicates.len() < NAMED {
                self.first_duplicates.push((found.origin, found.like, found.reason));
            }
        }
    }

    /// The numbers of what was seen.
    pub fn report(self) -> SurveyReport {
        let named = |list: Vec<Sized>| list.into_iter().map(|one| Outstanding { origin: one.origin.to_string(), size: one.size }).collect();
        let mut scripts: Vec<(&'static str, u64)> = self.scripts.into_iter().collect();
        scripts.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), *name));
        let mut histogram = Vec::new();
        for bytes in &self.bytes {
            let bucket = bytes.max(&1).ilog2() as usize;
            histogram.resize(histogram.len().max(bucket + 1), 0);
            if let Some(count) = histogram.get_mut(bucket) {
                *count += 1;
            }
        }
        let duplicate = |(origin, like, reason): (Origin, Option<Origin>, String)| DuplicateFound {
            origin: origin.to_string(),
            like: like.map(|like| like.to_string()),
            reason,
        };
        SurveyReport {
            documents: self.bytes.len() as u64,
            kinds: self.kinds,
            length_histogram_log2_bytes: histogram,
            bytes: Spread::of(self.bytes),
            characters: Spread::of(self.characters),
            words: Spread::of(self.words),
            lines: Spread::of(self.lines),
            scripts,
            longest: named(self.longest),
            emptiest: named(self.emptiest),
            duplicates: self.duplicates,
            first_duplicates: self.first_duplicates.into_iter().map(duplicate).collect(),
        }
    }
}

/// Puts one into the list of the first few in this order.
fn keep(list: &mut Vec<Sized>, one: Sized, order: impl Fn(&Sized, &Sized) -> std::cmp::Ordering) {
    let at = list.partition_point(|other| order(other, &one).is_lt());
    if at < NAMED {
        list.insert(at, one);
        list.truncate(NAMED);
    }
}

impl Spread {
    /// The spread of these numbers; all 0 where there are none.
    pub fn of(mut numbers: Vec<u64>) -> Self {
        numbers.sort_unstable();
        let n = numbers.len();
        let rank = |percent: usize| numbers.get((n * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
        let total: u64 = numbers.iter().sum();
        Self {
            total,
            mean: total as f64 / n.max(1) as f64,
            min: rank(0),
            p5: rank(5),
            p25: rank(25),
            p50: rank(50),
            p75: rank(75),
            p95: rank(95),
            p99: rank(99),
            max: rank(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Content;

    fn survey(texts: &[&str], duplicates: Duplicates) -> SurveyReport {
        let mut survey = Survey::new(duplicates);
        for (text, line) in texts.iter().zip(1..) {
            let origin = Origin { source: "d".to_owned(), line: Some(line) };
            survey.add(&Document { content: Content::Text((*text).to_owned()), origin });
        }
        survey.report()
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let spread = Spread::of((1..=200).rev().collect());
        assert_eq!(
            (spread.min, spread.p5, spread.p25, spread.p50, spread.p75, spread.p95, spread.p99, spread.max),
            (1, 10, 50, 100, 150, 190, 198, 200)
        );
        assert_eq!((spread.total, spread.mean.to_bits()), (20100, 100.5_f64.to_bits()));
        assert_eq!(Spread::of(vec![7]), Spread { total: 7, mean: 7.0, min: 7, p5: 7, p25: 7, p50: 7, p75: 7, p95: 7, p99: 7, max: 7 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }

    #[test]
    fn documents_are_counted_and_those_that_stand_out_are_named() {
        let texts = ["one two\nthree", " \n ", "Эмма Emma", "one two\nthree", "x", "y", "z", "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww"];
        let found = survey(&texts, Duplicates::Exact);
        assert_eq!((found.documents, found.kinds["text"]), (8, 8));
        assert_eq!(
            (found.bytes.total, found.characters.total, found.words.total, found.lines.max),
            (13 + 3 + 13 + 13 + 3 + 33, 13 + 3 + 9 + 13 + 3 + 33, 3 + 2 + 3 + 3 + 1, 2)
        );
        assert_eq!(found.scripts, [("Latin", 11 + 4 + 11 + 3 + 33), ("Cyrillic", 4)]);
        assert_eq!(found.length_histogram_log2_bytes, [3, 1, 0, 3, 0, 1]);
        let of = |list: &[Outstanding]| list.iter().map(|one| (one.origin.clone(), one.size)).collect::<Vec<_>>();
        let named = |list: &[(u64, u64)]| list.iter().map(|(line, size)| (format!("d:{line}"), *size)).collect::<Vec<_>>();
        assert_eq!(of(&found.longest), named(&[(8, 33), (1, 13), (3, 13), (4, 13), (2, 3)]));
        assert_eq!(of(&found.emptiest), named(&[(2, 0), (5, 1), (6, 1), (7, 1), (3, 8)]));
        assert_eq!(found.duplicates, [("duplicate".to_owned(), 1)].into());
        let expected = DuplicateFound { origin: "d:4".to_owned(), like: Some("d:1".to_owned()), reason: "duplicate".to_owned() };
        assert_eq!(found.first_duplicates, [expected]);
        assert!(survey(&texts, Duplicates::Keep).duplicates.is_empty());
    }

    #[test]
    fn near_duplicates_are_found_where_they_are_looked_for() {
        let long: String = (0..60).map(|i| format!("word{i} ")).collect::<Vec<_>>().concat();
        let near = long.clone() + "more";
        assert!(survey(&[&long, &near], Duplicates::Exact).duplicates.is_empty());
        assert_eq!(survey(&[&long, &near], Duplicates::Near).duplicates, [("near_duplicate".to_owned(), 1)].into());
    }
}
