//! Pieces of a page. Text gets into one only escaped, so nothing that a run wrote can become markup.

/// Markup that is whole and safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    /// The markup.
    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// Bytes of it.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Drawn elsewhere in this crate, from numbers and [`escape`]d text only.
    pub(super) fn drawn(markup: String) -> Self {
        Self(markup)
    }

    /// The element with one more attribute.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Some(end) = self.0.find('>') {
            self.0.insert_str(end, &format!(" {name}=\"{}\"", escape(value)));
        }
        self
    }
}

/// Text as it is read.
pub(super) fn text(text: &str) -> Html {
    Html(escape(text))
}

/// An element; without a class when that is empty.
#[expect(clippy::needless_pass_by_value, reason = "pieces are made where they are used")]
pub(super) fn el(tag: &'static str, class: &'static str, inner: Html) -> Html {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    Html(format!("<{tag}{class}>{}</{tag}>", inner.0))
}

/// One piece after the other.
pub(super) fn all(pieces: impl IntoIterator<Item = Html>) -> Html {
    Html(pieces.into_iter().map(|piece| piece.0).collect())
}

/// A table that scrolls sideways in itself when it is wider than the page.
pub(super) fn table(class: &'static str, columns: &[&str], rows: impl IntoIterator<Item = Vec<Html>>) -> Html {
    let head = all(columns.iter().map(|column| el("th", "", text(column)).with("scope", "col")));
    let row = |cells: Vec<Html>| el("tr", "", all(cells.into_iter().map(|cell| el("td", "", cell))));
    let body = all(rows.into_iter().map(row));
    let table = el("table", class, all([el("thead", "", el("tr", "", head)), el("tbody", "", body)]));
    el("div", "scroll", table)
}

/// A table of the rows that fit in so many bytes of markup, and under it how many do not.
pub(super) fn table_within(budget: usize, class: &'static str, columns: &[&str], rows: Vec<Vec<Html>>) -> Html {
    let mut left = budget;
    let n = rows.len();
    let size = |row: &[Html]| row.iter().map(|cell| cell.0.len() + 9).sum::<usize>() + 9;
    let fits: Vec<Vec<Html>> = rows
        .into_iter()
        .take_while(|row| {
            let rest = left.checked_sub(size(row));
            left = rest.unwrap_or(0);
            rest.is_some()
        })
        .collect();
    let n_left = n - fits.len();
    let made = table(class, columns, fits);
    if n_left == 0 { made } else { all([made, el("p", "lede rest", text(&format!("{n_left} more rows are left out of this page.")))]) }
}

/// A part that is folded until it is asked for.
pub(super) fn folded(summary: &str, inner: Html) -> Html {
    el("details", "", all([el("summary", "", text(summary)), inner]))
}

/// Text with everything escaped that could end it, inside an element or an attribute; control characters become visible.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            // Direction overrides could make a line read as something else.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        let hostile = "<script>\"'&\u{0}\u{202e}";
        let element = el("p", "x", text(hostile)).with("title", hostile);
        let escaped = "&lt;script&gt;&quot;&#39;&amp;\u{fffd}\u{fffd}";
        assert_eq!(element.into_string(), format!("<p class=\"x\" title=\"{escaped}\">{escaped}</p>"));
    }

    #[test]
    fn a_table_has_a_row_for_each() {
        let made = table("t", &["a"], [vec![text("1")], vec![text("<")]]).into_string();
        let rows = "<tr><td>1</td></tr><tr><td>&lt;</td></tr>";
        let wide = || vec![text(&"x".repeat(100))];
        let cut = table_within(250, "t", &["a"], vec![wide(), wide(), wide()]).into_string();
        assert!(cut.matches("<tr>").count() == 3 && cut.contains("1 more rows are left out"), "{cut}");
        assert_eq!(table_within(250, "t", &["a"], vec![vec![text("1")], vec![text("<")]]).into_string(), made);
        assert_eq!(
            made,
            format!(
                "<div class=\"scroll\"><table class=\"t\"><thead><tr><th scope=\"col\">a</th></tr></thead><tbody>{rows}</tbody></table></div>"
            )
        );
    }
}
