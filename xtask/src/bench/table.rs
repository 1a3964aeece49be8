//! A table, as aligned text for a terminal and as Markdown for the record.

use serde::Serialize;

/// A title, a header and rows. The first column is text; the others stand right where every cell of them starts like a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// What it is about.
    pub title: String,
    /// The names of the columns.
    pub header: Vec<String>,
    /// The rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
    /// What a reader must know, below it.
    pub notes: Vec<String>,
}

impl Table {
    /// A table without rows.
    pub fn new(title: impl Into<String>, header: &[&str]) -> Self {
        Self { title: title.into(), header: header.iter().map(|&name| name.to_owned()).collect(), ..Self::default() }
    }

    fn is_number(&self, column: usize) -> bool {
        column > 0
            && self.rows.iter().filter_map(|row| row.get(column)).all(|cell| {
                let first = cell.chars().next();
                first.is_none_or(|c| c.is_ascii_digit() || c == '-' || c == '+')
            })
    }

    /// Aligned text.
    pub fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).chain(self.header.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let line = |row: &[String]| {
            let cell = |(column, text): (usize, &String)| {
                let space = " ".repeat(widths[column] - text.chars().count());
                if self.is_number(column) { format!("{space}{text}") } else { format!("{text}{space}") }
            };
            format!("  {}\n", row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end())
        };
        let mut out = format!("{}\n{}", self.title, line(&self.header));
        out.extend(self.rows.iter().map(|row| line(row)));
        out.extend(self.notes.iter().map(|note| format!("  {note}\n")));
        out
    }

    /// Markdown; what could end a cell is escaped.
    pub fn markdown(&self) -> String {
        let line = |row: &[String]| format!("| {} |\n", row.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "));
        let rule: Vec<&str> = (0..self.header.len()).map(|column| if self.is_number(column) { "--:" } else { "---" }).collect();
        let mut out = format!("**{}**\n\n{}|{}|\n", self.title, line(&self.header), rule.join("|"));
        out.extend(self.rows.iter().map(|row| line(row)));
        if !self.notes.is_empty() {
            out.push('\n');
            out.extend(self.notes.iter().map(|note| format!("{note}  \n")));
        }
        out
    }
}

/// A number with commas between thousands.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A measured value with about four digits that mean something.
pub fn measured(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => grouped(value.round() as u64),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("step", &["side", "tokens/s", "note"]);
        table.rows.push(["codex", "1,845", ""].map(str::to_owned).to_vec());
        table.rows.push(["a|b", "99.5", "ABSENT: x"].map(str::to_owned).to_vec());
        table.notes.push("note".to_owned());
        table
    }

    #[test]
    fn text_is_aligned_numbers_to_the_right() {
        assert_eq!(table().text(), "step\n  side   tokens/s  note\n  codex     1,845\n  a|b        99.5  ABSENT: x\n  note\n");
    }

    #[test]
    fn markdown_escapes_what_ends_a_cell() {
        let expected =
            "**step**\n\n| side | tokens/s | note |\n|---|--:|---|\n| codex | 1,845 |  |\n| a\\|b | 99.5 | ABSENT: x |\n\nnote  \n";
        assert_eq!(table().markdown(), expected);
    }

    #[test]
    fn numbers_are_grouped_and_cut_to_what_means_something() {
        assert_eq!([grouped(0), grouped(999), grouped(13_867_776)], ["0", "999", "13,867,776"]);
        assert_eq!([1234.4, 123.4, 12.34, 1.234, 0.0123].map(measured), ["1,234", "123", "12.3", "1.23", "0.0123"]);
    }
}
