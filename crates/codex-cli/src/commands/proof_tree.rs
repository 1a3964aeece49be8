//! What is known of something and of what it was made from, as a tree.

use serde::Serialize;

/// What is known of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Recomputed, and the same.
    Proven,
    /// Recomputed, and another.
    Differs,
    /// Not there.
    Missing,
    /// Told, and not demanded.
    Noted,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Differs => "DIFFERS",
            Self::Missing => "MISSING",
            Self::Noted => "noted",
        }
    }

    pub(super) fn is_wrong(self) -> bool {
        matches!(self, Self::Differs | Self::Missing)
    }
}

/// One part.
#[derive(Debug, Serialize)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) verdict: Verdict,
    pub(super) what: String,
    /// What was found wrong, one place each.
    pub(super) findings: Vec<String>,
    /// What it was made from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) below: Vec<Self>,
}

impl Part {
    pub(super) fn new(name: &str, what: String, findings: Vec<String>) -> Self {
        let verdict = if findings.is_empty() { Verdict::Proven } else { Verdict::Differs };
        Self { name: name.to_owned(), verdict, what, findings, below: Vec::new() }
    }

    pub(super) fn with(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }

    pub(super) fn above(self, below: Vec<Self>) -> Self {
        Self { below, ..self }
    }

    /// It and everything below it that is wrong.
    pub(super) fn wrong(&self) -> Vec<&Self> {
        let below = self.below.iter().flat_map(Self::wrong);
        self.verdict.is_wrong().then_some(self).into_iter().chain(below).collect()
    }
}

/// The parts below each other, each with what was found.
pub(super) fn tree(title: &str, parts: &[Part]) -> String {
    let mut text = format!("{title}\n");
    grow(parts, "", &mut text);
    text.truncate(text.trim_end().len());
    text
}

fn grow(parts: &[Part], stem: &str, text: &mut String) {
    let width = parts.iter().map(|part| part.name.chars().count()).max().unwrap_or(0).clamp(16, 40);
    for (i, part) in parts.iter().enumerate() {
        let (branch, below) = if i + 1 == parts.len() { ("└─", "   ") } else { ("├─", "│  ") };
        text.push_str(&format!("{stem}{branch} {:<width$} {:<8} {}\n", part.name, part.verdict.word(), part.what));
        let stem = format!("{stem}{below}");
        for (k, finding) in part.findings.iter().enumerate() {
            let branch = if k + 1 == part.findings.len() && part.below.is_empty() { "└─" } else { "├─" };
            text.push_str(&format!("{stem}{branch} {finding}\n"));
        }
        grow(&part.below, &stem, text);
    }
}
