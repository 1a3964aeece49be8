//! Text compiled into the program or made by it.

use std::borrow::Cow;
use std::sync::Arc;

use codex_core::Hasher;
use codex_safety::Scanner;

use crate::description::SourceDescription;
use crate::document::{Document, Origin};
use crate::error::DataError;
use crate::source::{DataSource, Documents, SourceChecksum};

/// What a configuration writes before the name of a source in memory.
pub(crate) const BUILTIN: &str = "builtin:";

/// Documents in memory under a name; cloning shares them.
#[derive(Clone, Debug)]
pub struct MemorySource {
    name: String,
    documents: Arc<[Cow<'static, str>]>,
}

impl MemorySource {
    /// One document, which a configuration names as `builtin:NAME`.
    pub fn new(name: &str, text: impl Into<Cow<'static, str>>) -> Self {
        Self::from_documents(name, [text])
    }

    /// Several documents, which a configuration names together as `builtin:NAME`. Messages number them from 1.
    pub fn from_documents<T: Into<Cow<'static, str>>>(name: &str, texts: impl IntoIterator<Item = T>) -> Self {
        let bare = name.strip_prefix(BUILTIN).unwrap_or(name);
        Self { name: format!("{BUILTIN}{bare}"), documents: texts.into_iter().map(Into::into).collect() }
    }

    /// The name without `builtin:`.
    pub fn bare_name(&self) -> &str {
        self.name.strip_prefix(BUILTIN).unwrap_or(&self.name)
    }
}

impl DataSource for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    /// The digest of the only document's bytes; of several, of each preceded by its length.
    fn checksum(&self) -> Result<SourceChecksum, DataError> {
        let mut hasher = Hasher::new();
        if let [only] = &*self.documents {
            hasher.update(only.as_bytes());
        } else {
            for text in self.documents.iter() {
                hasher.field(text.as_bytes());
            }
        }
        let bytes = self.documents.iter().map(|text| text.len() as u64).sum();
        Ok(SourceChecksum { path: self.name.clone(), bytes, blake3: hasher.finish() })
    }

    fn readings(&self) -> Vec<String> {
        vec![if self.documents.len() == 1 { "one text in memory" } else { "texts in memory" }.to_owned()]
    }

    fn describe(&self, _: u64, _: &Scanner) -> Result<Vec<SourceDescription>, DataError> {
        Ok(vec![SourceDescription::new(&self.name, if self.documents.len() == 1 { "one text" } else { "texts" })])
    }

    fn documents(&self) -> Result<Documents<'_>, DataError> {
        let numbered = self.documents.len() > 1;
        let document = move |(i, text): (usize, &Cow<'static, str>)| {
            let origin = Origin { source: self.name.clone(), line: numbered.then_some(i as u64 + 1) };
            Ok(Document::of_text(text.clone().into_owned(), origin))
        };
        Ok(Box::new(self.documents.iter().enumerate().map(document)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_core::Digest;

    #[test]
    fn one_text_is_one_document() {
        let source = MemorySource::new("austen/train", "It is a truth");
        assert_eq!((source.name(), source.bare_name()), ("builtin:austen/train", "austen/train"));
        let checksum = source.checksum().unwrap();
        assert_eq!((checksum.bytes, checksum.blake3), (13, Digest::of_bytes(b"It is a truth")));
        let documents: Vec<Document> = source.documents().unwrap().map(Result::unwrap).collect();
        assert_eq!(documents[0].origin.to_string(), "builtin:austen/train");
        assert_eq!(documents[0].content.text(), "It is a truth");
    }

    #[test]
    fn several_texts_are_numbered_and_do_not_run_together() {
        let source = MemorySource::from_documents("builtin:x", ["ab", "c"]);
        let origins: Vec<String> = source.documents().unwrap().map(|d| d.unwrap().origin.to_string()).collect();
        assert_eq!(origins, ["builtin:x:1", "builtin:x:2"]);
        let other = MemorySource::from_documents("builtin:x", [String::from("a"), String::from("bc")]);
        assert_ne!(source.checksum().unwrap(), other.checksum().unwrap());
    }
}
