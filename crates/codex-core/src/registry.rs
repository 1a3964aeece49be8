//! Named constructors behind a trait, so that another program can add its own and a wrong name gets a useful answer.

use std::collections::BTreeMap;

use crate::failure::{ExitClass, Failure};
use crate::suggest;

/// Values by case-insensitive name, listed in name order.
#[derive(Clone, Debug)]
pub struct Registry<T> {
    kind: &'static str,
    entries: BTreeMap<String, T>,
}

/// Why a registry could not take or give an entry.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryError {
    /// Nothing has that name.
    #[error("unknown {kind} `{name}`; known: {}", known.join(", "))]
    Unknown {
        /// What the registry holds, such as `tokenizer`.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// Every name there is.
        known: Vec<String>,
        /// The nearest of them.
        nearest: Option<String>,
    },
    /// The name is taken.
    #[error("{kind} `{name}` is registered already")]
    Taken {
        /// What the registry holds.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

impl Failure for RegistryError {
    fn exit_class(&self) -> ExitClass {
        ExitClass::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { nearest: Some(name), .. } => Some(format!("did you mean `{name}`?")),
            Self::Unknown { .. } => None,
            Self::Taken { .. } => Some("register it under another name".to_owned()),
        }
    }
}

impl<T> Registry<T> {
    /// An empty registry of `kind`, the word used in its messages.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, entries: BTreeMap::new() }
    }

    /// Adds an entry; a name can be taken once.
    pub fn register(&mut self, name: &str, entry: T) -> Result<(), RegistryError> {
        let name = name.to_lowercase();
        if self.entries.contains_key(&name) {
            return Err(RegistryError::Taken { kind: self.kind, name });
        }
        self.entries.insert(name, entry);
        Ok(())
    }

    /// The entry of this name.
    pub fn resolve(&self, name: &str) -> Result<&T, RegistryError> {
        self.entries.get(&name.to_lowercase()).ok_or_else(|| RegistryError::Unknown {
            kind: self.kind,
            name: name.to_owned(),
            known: self.names().map(str::to_owned).collect(),
            nearest: suggest::nearest(name, self.names()).map(str::to_owned),
        })
    }

    /// Every name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_without_regard_to_case_and_a_miss_says_what_there_is() {
        let mut registry = Registry::new("schedule");
        registry.register("Cosine", 1).unwrap();
        registry.register("linear", 2).unwrap();
        assert_eq!(registry.resolve("COSINE"), Ok(&1));
        let miss = registry.resolve("cosin").unwrap_err();
        assert_eq!(miss.to_string(), "unknown schedule `cosin`; known: cosine, linear");
        assert_eq!(miss.hint().unwrap(), "did you mean `cosine`?");
        assert_eq!(miss.exit_class(), ExitClass::Usage);
        assert_eq!(registry.resolve("zzz").unwrap_err().hint(), None);
        let taken = registry.register("COSINE", 3).unwrap_err();
        assert_eq!(taken.to_string(), "schedule `cosine` is registered already");
        assert!(taken.hint().is_some());
    }
}
