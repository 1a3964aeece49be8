//! The configs compiled into the program, by name.

/// Compiled-in configs: pairs of a name (`default`, `model/tiny`) and a TOML text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Library(&'static [(&'static str, &'static str)]);

impl Library {
    /// A library of these pairs of name and TOML text.
    pub const fn new(configs: &'static [(&'static str, &'static str)]) -> Self {
        Self(configs)
    }

    /// The text of this name.
    pub fn text(&self, name: &str) -> Option<&'static str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// Every name, in the order they were given.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }
}
