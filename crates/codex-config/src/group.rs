//! Reading config texts and the groups they list: `defaults = ["model/tiny"]` includes the config of that name below the text's own values.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use codex_core::{FileError, files, suggest};
use figment::value::Value;

use crate::error::{ConfigError, LocatedProblem};
use crate::layer::{Layer, Origin};
use crate::library::Library;
use crate::schema::list;
use crate::source::Source;
use crate::{toml_text, yaml_text};

/// Bytes of a config file.
const MAX_BYTES: u64 = 1 << 20;
/// Configs that may include one another in a row.
const MAX_INCLUDES: usize = 64;
/// The file name endings of a config, in the order they are looked for.
const ENDINGS: [&str; 3] = ["toml", "yaml", "yml"];

/// The texts that were read, lowest layer first.
pub(crate) struct Texts<'a> {
    library: Library,
    pub(crate) layers: Vec<Layer>,
    problems: &'a mut Vec<LocatedProblem>,
}

/// Where one top-level text's groups are looked for, and which were already included.
struct Search<'a> {
    folders: &'a [PathBuf],
    seen: BTreeSet<String>,
    /// The names that lead to the text in hand.
    above: Vec<String>,
}

impl<'a> Texts<'a> {
    pub(crate) fn new(library: Library, problems: &'a mut Vec<LocatedProblem>) -> Self {
        Self { library, layers: Vec::new(), problems }
    }

    /// A compiled-in config. Its groups are looked for in the library only, so that no file in some folder changes what is compiled in.
    pub(crate) fn base(&mut self, name: &str) -> Result<(), ConfigError> {
        let Some(text) = self.library.text(name) else {
            return Err(ConfigError::UnknownBase { name: name.to_owned(), known: self.library.names().map(str::to_owned).collect() });
        };
        let mut search = Search { folders: &[], seen: BTreeSet::new(), above: vec![name.to_owned()] };
        self.text(text, &Origin::Library(name.to_owned()), &mut search)
    }

    /// A user's file; its groups are looked for in these folders and then in the library.
    pub(crate) fn file(&mut self, path: &Path, folders: &[PathBuf]) -> Result<(), ConfigError> {
        let bytes = files::read_bounded(path, MAX_BYTES).map_err(|source| ConfigError::File { source })?;
        let mut search = Search { folders, seen: BTreeSet::new(), above: Vec::new() };
        self.bytes(&bytes, &Origin::File(path.to_owned()), &mut search)
    }

    /// A group that the command line chose.
    pub(crate) fn choice(&mut self, group: &str, place: &Source, folders: &[PathBuf]) -> Result<(), ConfigError> {
        self.group(group, place, &mut Search { folders, seen: BTreeSet::new(), above: Vec::new() })
    }

    fn tell(&mut self, place: &Source, message: String, hint: Option<String>) {
        self.problems.push(LocatedProblem { place: place.clone(), key: String::new(), message, hint });
    }

    fn bytes(&mut self, bytes: &[u8], origin: &Origin, search: &mut Search<'_>) -> Result<(), ConfigError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text(text, origin, search),
            Err(error) => {
                let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
                self.tell(&origin.at(line), "this is not UTF-8 text".to_owned(), None);
                Ok(())
            }
        }
    }

    fn text(&mut self, text: &str, origin: &Origin, search: &mut Search<'_>) -> Result<(), ConfigError> {
        let yaml = matches!(origin, Origin::File(path) if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"));
        let read = if yaml { yaml_text::entries } else { toml_text::entries };
        let Some(entries) = read(text, origin, self.problems) else { return Ok(()) };
        let mut layer = Layer::of_table(entries, origin, self.problems);
        for group in self.listed(&mut layer) {
            self.group(&group, &layer.place(&["defaults".to_owned()]), search)?;
        }
        self.layers.push(layer);
        Ok(())
    }

    /// Takes `defaults` out of the layer.
    fn listed(&mut self, layer: &mut Layer) -> Vec<String> {
        let Some(value) = layer.values.remove("defaults") else { return Vec::new() };
        let names: Option<Vec<String>> = value.into_array().and_then(|items| items.into_iter().map(Value::into_string).collect());
        names.unwrap_or_else(|| {
            let place = layer.place(&["defaults".to_owned()]);
            let message = "expected a list of group names".to_owned();
            let hint = Some("write `defaults = [\"model/tiny\"]`".to_owned());
            self.problems.push(LocatedProblem { place, key: "defaults".to_owned(), message, hint });
            Vec::new()
        })
    }

    fn group(&mut self, name: &str, place: &Source, search: &mut Search<'_>) -> Result<(), ConfigError> {
        if search.above.iter().any(|above| above == name) {
            let ring = search.above.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("` -> `");
            self.tell(place, format!("the group `{name}` includes itself: `{ring}`"), None);
            return Ok(());
        }
        if search.above.len() >= MAX_INCLUDES {
            self.tell(place, format!("more than {MAX_INCLUDES} groups include one another in a row"), None);
            return Ok(());
        }
        if !is_group_name(name) {
            let hint = "a group is a file's path below a config folder, without its ending, as `model/tiny`";
            self.tell(place, format!("`{}` is no group name", crate::source::shortened(name)), Some(hint.to_owned()));
            return Ok(());
        }
        // Within one text a group counts once, at its first place.
        if !search.seen.insert(name.to_owned()) {
            return Ok(());
        }
        search.above.push(name.to_owned());
        let done = self.find(name, place, search);
        search.above.pop();
        done
    }

    fn find(&mut self, name: &str, place: &Source, search: &mut Search<'_>) -> Result<(), ConfigError> {
        let mut looked = Vec::new();
        for folder in search.folders {
            for ending in ENDINGS {
                let path = folder.join(format!("{name}.{ending}"));
                match files::read_bounded(&path, MAX_BYTES) {
                    Ok(bytes) => return self.bytes(&bytes, &Origin::File(path), search),
                    Err(error) if is_absent(&error) => {}
                    Err(source) => return Err(ConfigError::File { source }),
                }
            }
            looked.push(format!("`{}.toml`", folder.join(name).display()));
        }
        if let Some(text) = self.library.text(name) {
            return self.text(text, &Origin::Library(name.to_owned()), search);
        }
        looked.push("the compiled-in configs".to_owned());
        let known = self.known_groups(name, search.folders);
        let near = suggest::nearest(name, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`? "));
        let hint = format!("{}known groups: {}", near.unwrap_or_default(), list(known.iter().map(String::as_str)));
        self.tell(place, format!("no group `{name}`; looked for {}", looked.join(", ")), (!known.is_empty()).then_some(hint));
        Ok(())
    }

    /// The groups beside the one asked for (`model/…` for `model/tinny`), or every compiled-in one when there are none.
    fn known_groups(&self, name: &str, folders: &[PathBuf]) -> BTreeSet<String> {
        let folder_of_group = name.rsplit_once('/').map(|(above, _)| format!("{above}/")).unwrap_or_default();
        let mut known: BTreeSet<String> =
            self.library.names().filter(|known| known.starts_with(&folder_of_group)).map(str::to_owned).collect();
        for folder in folders {
            for path in files::list_dir(&folder.join(&folder_of_group)).unwrap_or_default() {
                let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
                if let (true, Some(stem)) = (ENDINGS.contains(&ending), path.file_stem().and_then(|stem| stem.to_str())) {
                    known.insert(format!("{folder_of_group}{stem}"));
                }
            }
        }
        if known.is_empty() {
            known.extend(self.library.names().filter(|known| known.contains('/')).map(str::to_owned));
        }
        known
    }
}

fn is_absent(error: &FileError) -> bool {
    matches!(error.source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

/// Whether the name can be a path below a folder and cannot leave it.
fn is_group_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.len() <= 200 && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_name_cannot_leave_its_folder() {
        assert!(["model/tiny", "tiny", "model/qwen2.5-0.5b", "a/b/c"].iter().all(|name| is_group_name(name)));
        assert!(!["", "/etc/x", "../x", "a/../b", "a//b", "a/", "a\\b", "a b", "."].iter().any(|name| is_group_name(name)));
    }
}
