//! Lines and columns of places in a text.

/// A place that moves forward through a text, so that each byte is looked at once however many places are asked for.
#[derive(Debug, Default)]
pub(crate) struct Place {
    at: usize,
    /// Line breaks before the place.
    n_breaks: usize,
    /// Characters between the last line break and the place.
    n_chars: usize,
    /// Bytes looked at.
    #[cfg(test)]
    n_bytes: usize,
}

impl Place {
    /// Moves to a character boundary of the text that is not before the present place, and always of the same text.
    pub(crate) fn advance(&mut self, text: &str, to: usize) {
        let passed = &text[self.at..to];
        self.n_breaks += passed.matches('\n').count();
        match passed.rsplit_once('\n') {
            Some((_, line)) => self.n_chars = line.chars().count(),
            None => self.n_chars += passed.chars().count(),
        }
        #[cfg(test)]
        {
            self.n_bytes += passed.len();
        }
        self.at = to;
    }

    /// The line, from 1.
    pub(crate) fn line(&self) -> usize {
        self.n_breaks + 1
    }

    /// The column in characters, from 1.
    pub(crate) fn column(&self) -> usize {
        self.n_chars + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_on_from_the_last() {
        let text = "\u{e4}b\n\ncd ef\ng";
        let mut place = Place::default();
        let mut at = |to: usize| {
            place.advance(text, to);
            (place.line(), place.column(), place.n_bytes)
        };
        assert_eq!(at(0), (1, 1, 0));
        assert_eq!(at(2), (1, 2, 2));
        assert_eq!(at(2), (1, 2, 2));
        assert_eq!(at(4), (2, 1, 4));
        assert_eq!(at(8), (3, 4, 8));
        assert_eq!(at(10), (3, 6, 10));
        assert_eq!(at(11), (4, 1, 11));
        assert_eq!(at(text.len()), (4, 2, text.len()));
    }
}
