//! The layers, from the lowest to the highest, and the one function that resolves them.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::path::PathBuf;

use codex_core::files;
use figment::value::{Dict, Value};

use crate::adjustment::Verdict;
use crate::error::{ConfigError, LocatedProblem};
use crate::group::Texts;
use crate::layer::{Layer, leaves, put};
use crate::library::Library;
use crate::resolved::Resolved;
use crate::schema::{Known, Problem, Schema, defaults_of, located};
use crate::source::Source;
use crate::typing::{self, Merged};
use crate::{adjustment, argument, environment, excerpt, group, interpolation};

/// The layers of one configuration of type `T`. The order of the calls means nothing, except among files.
pub struct Layers<T: Schema> {
    library: Library,
    base: Option<String>,
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    prefix: String,
    environment: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    arguments: Vec<String>,
    schema: PhantomData<fn() -> T>,
}

impl<T: Schema> Layers<T> {
    /// The default of `T` and nothing else; `library` is what groups and [`Self::base`] are taken from.
    pub fn new(library: Library) -> Self {
        Self {
            library,
            base: None,
            files: Vec::new(),
            folders: Vec::new(),
            prefix: String::new(),
            environment: BTreeMap::new(),
            variables: BTreeMap::new(),
            arguments: Vec::new(),
            schema: PhantomData,
        }
    }

    /// Starts from the compiled-in config of this name.
    #[must_use]
    pub fn base(mut self, name: &str) -> Self {
        self.base = Some(name.to_owned());
        self
    }

    /// Adds a user's file: YAML when it ends in `.yaml` or `.yml`, else TOML. Of several files the later wins.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Adds a folder that groups are looked for in, after the folder of the user's file and before the library.
    #[must_use]
    pub fn search_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.push(folder.into());
        self
    }

    /// Adds the environment: of these variables, those whose name starts with `prefix` (`CODEX_`).
    ///
    /// `CODEX_TRAIN__LEARNING_RATE` sets `train.learning_rate`, `CODEX_SEED` sets `seed`. A name with `__` that is no key is a problem; a name
    /// without `__` that is no top-level value is left alone.
    #[must_use]
    pub fn environment(mut self, prefix: &str, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        prefix.clone_into(&mut self.prefix);
        self.environment = variables.into_iter().filter(|(name, _)| name.starts_with(prefix)).collect();
        self
    }

    /// Hands in the variables that `${env:NAME}` takes; without them there are none.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.variables = variables.into_iter().collect();
        self
    }

    /// Adds assignments of the command line, in Hydra's grammar: `key=value`, `+key=value`, `++key=value`, `~key`, and `group=option` where
    /// `group` is a top-level table or a folder of configs.
    ///
    /// A group chosen here takes the place of what any text chose for it, and wins over every text's own values.
    #[must_use]
    pub fn overrides(mut self, arguments: &[String]) -> Self {
        self.arguments.extend_from_slice(arguments);
        self
    }

    /// The configuration, or every problem of every layer.
    pub fn resolve(self) -> Result<Resolved<T>, ConfigError> {
        let defaults = defaults_of::<T>()?;
        let known = Known::of(&defaults);
        let mut problems = Vec::new();

        let mut texts = excerpt::Texts { variables: self.environment.clone(), ..excerpt::Texts::default() };
        let mut layers = self.collect(&defaults, &known, &mut texts, &mut problems)?;
        interpolation::resolve(&mut layers, &defaults, &self.variables, &mut problems);
        for layer in &mut layers {
            known.screen(layer, &mut problems);
        }
        let value = typing::check::<T>(&defaults, &mut layers, &mut problems);
        let merged = Merged::of(&defaults, &layers);
        if let Some(value) = &value {
            for problem in meaning_problems(value, &merged, &layers) {
                let place = merged_place(&problem.key, &merged, &layers);
                if !problems.iter().any(|earlier| earlier.key == problem.key) {
                    problems.push(located(problem, place));
                }
            }
        }
        match value {
            Some(value) if problems.is_empty() => Resolved::new(value, &merged, &layers, texts.digests()),
            _ => {
                let typed = |place: &Source| match place {
                    Source::Argument { text } => self.arguments.iter().position(|argument| argument == text),
                    _ => None,
                };
                // By layer and line; arguments in the order they were typed.
                problems.sort_by(|a, b| typed(&a.place).cmp(&typed(&b.place)).then_with(|| a.place.cmp(&b.place)));
                problems.dedup();
                for problem in &mut problems {
                    texts.show(problem);
                }
                Err(ConfigError::Problems { problems })
            }
        }
    }

    /// The options of a group, from the compiled-in configs, the folders of the files and the search folders.
    pub fn options(&self, group: &str) -> BTreeSet<String> {
        group::options(self.library, &self.all_folders(), group)
    }

    /// The folders of the files, then the search folders.
    fn all_folders(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        for folder in self.files.iter().map(|path| files::parent(path).to_owned()).chain(self.folders.iter().cloned()) {
            if !all.contains(&folder) {
                all.push(folder);
            }
        }
        all
    }

    /// Every layer above the type's default, lowest first.
    fn collect(
        &self,
        defaults: &Dict,
        known: &Known,
        read: &mut excerpt::Texts,
        problems: &mut Vec<LocatedProblem>,
    ) -> Result<Vec<Layer>, ConfigError> {
        let environment = environment::layer(&self.prefix, &self.environment, known, problems);
        let is_group = |name: &str| !self.options(name).is_empty();
        let (choices, changes) = argument::read(&self.arguments, known, &is_group, problems);
        let mut wrong = Vec::new();
        let mut texts = Texts::new(self.library, argument::groups(&choices).into_iter(), problems);
        if let Some(name) = &self.base {
            texts.base(name)?;
        }
        for path in &self.files {
            let beside = files::parent(path).to_owned();
            let mut folders = vec![beside.clone()];
            folders.extend(self.folders.iter().filter(|folder| **folder != beside).cloned());
            texts.file(path, &folders)?;
        }
        texts.layers.push(environment);
        for choice in &choices {
            let chosen = texts.replaced.get(&choice.wanted.group).cloned().unwrap_or_default();
            match adjustment::judged(choice, &chosen) {
                Ok(Verdict::Take) => texts.choice(&choice.wanted, &choice.place, &self.all_folders())?,
                Ok(Verdict::Drop) => {}
                Ok(Verdict::DropTable) => {
                    wrong.extend(adjustment::drop_table(choice, &mut texts.layers, defaults).err().map(|problem| *problem));
                }
                Err(problem) => wrong.push(*problem),
            }
        }
        read.files = texts.read;
        let mut layers = texts.layers;
        problems.append(&mut wrong);
        let top = adjustment::layer(&changes, &mut layers, defaults, known, problems);
        layers.push(top);
        Ok(layers)
    }
}

/// What the schema says of the value. A misspelled key counts as the key that was probably meant, so that it causes no second problem.
fn meaning_problems<T: Schema>(value: &T, merged: &Merged, layers: &[Layer]) -> Vec<Problem> {
    let guesses: Vec<_> = layers.iter().flat_map(|layer| &layer.guesses).collect();
    if guesses.is_empty() {
        return value.problems();
    }
    let mut values: Dict = merged.values.clone();
    for (path, guess) in guesses {
        let mut parts = Vec::new();
        match guess.as_dict() {
            Some(table) => leaves(path, table, &mut parts),
            None => parts.push((path.clone(), guess.clone())),
        }
        for (path, value) in parts {
            put(&mut values, &path, value);
        }
    }
    Value::from(values).deserialize::<T>().map_or_else(|_| value.problems(), |meant| meant.problems())
}

/// The place that set this key, or for a table the highest place that set something in it.
fn merged_place(key: &str, merged: &Merged, layers: &[Layer]) -> Source {
    let path: Vec<String> = key.split('.').map(str::to_owned).collect();
    let mut below = Vec::new();
    leaves(&[], &merged.values, &mut below);
    let places = below.into_iter().filter(|(leaf, _)| leaf.starts_with(&path)).map(|(leaf, _)| merged.source(&leaf, layers));
    places.max().unwrap_or_else(|| merged.source(&path, layers))
}
