//! The picture of a text collection: how long its documents are, and in which writing systems they are.

use codex_data::SurveyReport;

use crate::terminal::bytes;

const WIDTH: usize = 760;
/// From where bars begin, and the longest.
const LEFT: usize = 170;
const LONGEST: usize = 480;
const ROW: usize = 24;

/// Two charts of bars, one below the other, without anything that is fetched. Dark where the reader's system is.
pub(super) fn svg(survey: &SurveyReport) -> String {
    let lengths = survey.length_histogram_log2_bytes.iter().enumerate();
    let lengths: Vec<(String, u64)> = lengths.skip_while(|(_, n)| **n == 0).map(|(i, n)| (format!("{} up", bytes(1 << i)), *n)).collect();
    let scripts: Vec<(String, u64)> = survey.scripts.iter().take(12).map(|(name, n)| ((*name).to_owned(), *n)).collect();
    let mut body = String::new();
    let mut y = 30;
    let n = survey.documents;
    for (title, rows) in [(format!("{n} documents by their bytes"), &lengths), ("letters by writing system".to_owned(), &scripts)] {
        body.push_str(&format!("<text x=\"16\" y=\"{y}\" class=\"title\">{title}</text>\n"));
        y += ROW;
        let most = rows.iter().map(|(_, n)| *n).max().unwrap_or(0).max(1);
        for (name, n) in rows {
            let width = (*n as f64 / most as f64 * LONGEST as f64).ceil();
            let (text_y, end) = (y + 15, LEFT as f64 + width + 6.0);
            body.push_str(&format!(
                "<text x=\"{}\" y=\"{text_y}\" class=\"name\">{name}</text><rect x=\"{LEFT}\" y=\"{}\" width=\"{width}\" height=\"16\"/><text x=\"{end}\" y=\"{text_y}\">{n}</text>\n",
                LEFT - 8,
                y + 3
            ));
            y += ROW;
        }
        y += ROW;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\" role=\"img\" aria-label=\"Lengths and writing systems of {n} documents\">\n\
         <style>svg{{background:#fff}}text{{font:13px system-ui,sans-serif;fill:#222}}.title{{font-weight:600;font-size:15px}}.name{{text-anchor:end}}rect{{fill:#2a6fb0}}\
         @media(prefers-color-scheme:dark){{svg{{background:#161616}}text{{fill:#ddd}}rect{{fill:#6aa9e0}}}}</style>\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_data::{Content, Document, Duplicates, Origin, Survey};

    #[test]
    fn bars_are_as_long_as_their_shares() {
        let mut survey = Survey::new(Duplicates::Keep);
        for text in ["aaaa", "bbbb", "Эм"] {
            let origin = Origin { source: "d".to_owned(), line: None };
            survey.add(&Document { content: Content::Text(text.to_owned()), origin });
        }
        let drawn = svg(&survey.report());
        assert!(drawn.contains("3 documents by their bytes") && drawn.contains("4 B up"), "{drawn}");
        let widths: Vec<&str> = drawn.split("width=\"").skip(2).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(widths, ["480", "480", "120"], "{drawn}");
    }
}
