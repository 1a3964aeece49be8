//! Reading config texts and the groups that their `defaults` list, each a config of its own below or above the text's own values.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use codex_core::{FileError, files, suggest};

use crate::defaults_list::{self, Item, Wanted};
use crate::error::{ConfigError, LocatedProblem, Mark};
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
    /// Each text by the place of its first line.
    pub(crate) read: BTreeMap<Source, String>,
    /// Groups that the command line chooses or drops, with the options that texts chose for them in vain.
    pub(crate) replaced: BTreeMap<String, BTreeSet<String>>,
    problems: &'a mut Vec<LocatedProblem>,
}

/// Where one top-level text's groups are looked for, and which were already included.
struct Search<'a> {
    folders: &'a [PathBuf],
    seen: BTreeSet<String>,
    /// The names that lead to the text in hand.
    above: Vec<String>,
}

impl Search<'_> {
    /// The groups of the names that lead to the text in hand.
    fn via(&self) -> Vec<String> {
        self.above.iter().map(|name| Wanted::of(name).group).filter(|group| !group.is_empty()).collect()
    }
}

impl<'a> Texts<'a> {
    pub(crate) fn new(library: Library, replaced: impl Iterator<Item = String>, problems: &'a mut Vec<LocatedProblem>) -> Self {
        let replaced = replaced.map(|group| (group, BTreeSet::new())).collect();
        Self { library, layers: Vec::new(), read: BTreeMap::new(), replaced, problems }
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

    /// A group that the command line chose; what texts chose for it is not in the layers.
    pub(crate) fn choice(&mut self, wanted: &Wanted, place: &Source, folders: &[PathBuf]) -> Result<(), ConfigError> {
        // Its own text may take another option of the same group as its base.
        let kept = self.replaced.remove(&wanted.group);
        let done = self.group(wanted, place, &mut Search { folders, seen: BTreeSet::new(), above: Vec::new() });
        self.replaced.extend(kept.map(|kept| (wanted.group.clone(), kept)));
        done
    }

    fn tell(&mut self, place: &Source, message: String, hint: Option<String>, mark: Mark) {
        self.problems.push(LocatedProblem::new(place.clone(), "", message, hint).at(mark));
    }

    fn bytes(&mut self, bytes: &[u8], origin: &Origin, search: &mut Search<'_>) -> Result<(), ConfigError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text(text, origin, search),
            Err(error) => {
                let line = bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count();
                self.tell(&origin.at(line), "this is not UTF-8 text".to_owned(), None, Mark::Nowhere);
                Ok(())
            }
        }
    }

    fn text(&mut self, text: &str, origin: &Origin, search: &mut Search<'_>) -> Result<(), ConfigError> {
        let yaml = matches!(origin, Origin::File(path) if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"));
        let read = if yaml { yaml_text::entries } else { toml_text::entries };
        self.read.insert(origin.at(1), text.to_owned());
        let Some(entries) = read(text, origin, self.problems) else { return Ok(()) };
        let mut layer = Layer::of_table(entries, origin, self.problems);
        layer.via = search.via();
        let place = layer.place(&["defaults".to_owned()]);
        let items = self.listed(&mut layer, &place);
        let mut own = Some(layer);
        for item in items {
            match item {
                Item::Own => self.layers.extend(own.take()),
                Item::Group(wanted) => self.group(&wanted, &place, search)?,
            }
        }
        self.layers.extend(own);
        Ok(())
    }

    /// Takes `defaults` out of the layer.
    fn listed(&mut self, layer: &mut Layer, place: &Source) -> Vec<Item> {
        let Some(value) = layer.values.remove("defaults") else { return Vec::new() };
        defaults_list::items(value).unwrap_or_else(|wrong| {
            for (message, hint, about) in wrong {
                self.problems.push(LocatedProblem::new(place.clone(), "defaults", message, Some(hint)).at(Mark::Text(about)));
            }
            Vec::new()
        })
    }

    fn group(&mut self, wanted: &Wanted, place: &Source, search: &mut Search<'_>) -> Result<(), ConfigError> {
        // An option that takes another of its own group as a base makes no choice.
        let is_choice = !wanted.group.is_empty() && search.above.last().is_none_or(|above| Wanted::of(above).group != wanted.group);
        if wanted.is_override {
            let before = self.layers.len();
            self.layers.retain(|layer| !layer.via.contains(&wanted.group));
            search.seen.retain(|name| Wanted::of(name).group != wanted.group);
            let is_replaced = self.replaced.get(&wanted.group).is_some_and(|options| !options.is_empty());
            if self.layers.len() == before && !is_replaced {
                let message = format!("no text before this one chose an option for `{}`", wanted.group);
                let about = wanted.option.clone().unwrap_or_else(|| wanted.group.clone());
                self.tell(place, message, Some("leave `override` out".to_owned()), Mark::Text(about));
            }
        }
        if let (true, Some(options)) = (is_choice, self.replaced.get_mut(&wanted.group)) {
            options.extend(wanted.option.clone());
            return Ok(());
        }
        let Some(name) = wanted.name() else { return Ok(()) };
        let mark = Mark::Text(wanted.option.clone().unwrap_or_default());
        if search.above.contains(&name) {
            let ring = search.above.iter().map(String::as_str).chain([name.as_str()]).collect::<Vec<_>>().join("` -> `");
            self.tell(place, format!("the group `{name}` includes itself: `{ring}`"), None, mark);
            return Ok(());
        }
        if search.above.len() >= MAX_INCLUDES {
            self.tell(place, format!("more than {MAX_INCLUDES} groups include one another in a row"), None, mark);
            return Ok(());
        }
        if !is_group_name(&name) {
            let hint = "a group is a file's path below a config folder, without its ending, as `model/tiny`";
            self.tell(place, format!("`{}` is no group name", crate::source::shortened(&name)), Some(hint.to_owned()), mark);
            return Ok(());
        }
        // Within one text a group counts once, at its first place.
        if !search.seen.insert(name.clone()) {
            return Ok(());
        }
        search.above.push(name.clone());
        let done = self.find(&name, wanted.is_optional, place, search);
        search.above.pop();
        done
    }

    fn find(&mut self, name: &str, is_optional: bool, place: &Source, search: &mut Search<'_>) -> Result<(), ConfigError> {
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
        if is_optional {
            return Ok(());
        }
        looked.push("the compiled-in configs".to_owned());
        let known = self.known_groups(name, search.folders);
        let near = suggest::nearest(name, known.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`? "));
        let hint = format!("{}known groups: {}", near.unwrap_or_default(), list(known.iter().map(String::as_str)));
        let mark = Mark::Text(name.rsplit('/').next().unwrap_or(name).to_owned());
        self.tell(place, format!("no group `{name}`; looked for {}", looked.join(", ")), (!known.is_empty()).then_some(hint), mark);
        Ok(())
    }

    /// The groups beside the one asked for (`model/…` for `model/tinny`), or every compiled-in one when there are none.
    fn known_groups(&self, name: &str, folders: &[PathBuf]) -> BTreeSet<String> {
        let group = Wanted::of(name).group;
        let mut known: BTreeSet<String> = if group.is_empty() {
            self.library.names().filter(|known| !known.contains('/')).map(str::to_owned).collect()
        } else {
            options(self.library, folders, &group).into_iter().map(|option| format!("{group}/{option}")).collect()
        };
        if known.is_empty() {
            known.extend(self.library.names().filter(|known| known.contains('/')).map(str::to_owned));
        }
        known
    }
}

/// The options of a group: its compiled-in configs, and the files in its folder below one of these.
pub(crate) fn options(library: Library, folders: &[PathBuf], group: &str) -> BTreeSet<String> {
    let inside = |name: &'static str| name.strip_prefix(group)?.strip_prefix('/').filter(|option| !option.contains('/'));
    let mut found: BTreeSet<String> = library.names().filter_map(inside).map(str::to_owned).collect();
    if group.split('/').all(is_group_name) {
        for path in folders.iter().flat_map(|folder| files::list_dir(&folder.join(group)).unwrap_or_default()) {
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            if let (true, Some(stem)) = (ENDINGS.contains(&ending), path.file_stem().and_then(|stem| stem.to_str())) {
                found.insert(stem.to_owned());
            }
        }
    }
    found
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
