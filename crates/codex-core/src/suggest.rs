//! "Did you mean": the nearest of the names that would have been right.

/// The candidate nearest to `name`, if one is near enough to be a slip of the fingers.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        let likeness = strsim::normalized_damerau_levenshtein(&wanted, &candidate.to_lowercase());
        if best.is_none_or(|(most, _)| likeness > most) {
            best = Some((likeness, candidate));
        }
    }
    best.filter(|(likeness, _)| *likeness >= 0.6).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let names = ["learning_rate", "weight_decay", "batch_size"];
        assert_eq!(nearest("learning_rat", names), Some("learning_rate"));
        assert_eq!(nearest("Wieght_Decay", names), Some("weight_decay"));
        assert_eq!(nearest("zzzz", names), None);
        assert_eq!(nearest("x", []), None);
    }
}
