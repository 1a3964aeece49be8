//! Where a model is that is called by a name: the places that are looked at, in order, each of which a miss names.

use std::path::{Path, PathBuf};

use codex_core::{files, suggest};
use codex_hub::is_model_folder;

use crate::environment;
use crate::failure::CliError;

/// The variable that names the folder with models by name.
pub(crate) const MODELS_VARIABLE: &str = "CODEX_ML_OFFLINE_MODELS_DIR";
/// The folder with models by name where nothing else says so.
pub(crate) const MODELS_FOLDER: &str = "artifacts/models";
/// Models that come with the repository.
const SHIPPED_FOLDER: &str = "fixtures/models";
/// The one of them that is used where there is no run.
pub(crate) const REFERENCE_MODEL: &str = "austen";

/// A place where a model may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// What leads there.
    pub(crate) because: String,
}

/// What the environment says about models.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    variables: Vec<(String, String)>,
}

impl Places {
    /// Of this process.
    pub(crate) fn here() -> Self {
        Self { variables: environment::variables() }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The folder for models by name.
    pub(crate) fn models_folder(&self) -> PathBuf {
        PathBuf::from(self.variable(MODELS_VARIABLE).unwrap_or(MODELS_FOLDER))
    }

    /// Every place where a model of this name may be, in the order they are looked at.
    pub(crate) fn of(&self, name: &str) -> Vec<Place> {
        let mut all = vec![Place { path: PathBuf::from(name), because: "a path".to_owned() }];
        // The reference registry calls its two offline models `gpt2-offline` and `tinyllama-offline`, and their variables GPT2 and TINYLLAMA.
        let short = name.strip_suffix("-offline").unwrap_or(name);
        let variable = format!("CODEX_ML_{}_PATH", short.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        match self.variable(&variable) {
            Some(path) => all.push(Place { path: PathBuf::from(path), because: format!("${variable}") }),
            None => all.push(Place { path: PathBuf::new(), because: format!("${variable}, which is not set") }),
        }
        match self.variable(MODELS_VARIABLE) {
            Some(folder) => all.push(Place { path: Path::new(folder).join(short), because: format!("${MODELS_VARIABLE}") }),
            None => all.push(Place { path: PathBuf::new(), because: format!("${MODELS_VARIABLE}, which is not set") }),
        }
        for folder in [MODELS_FOLDER, SHIPPED_FOLDER] {
            all.push(Place { path: Path::new(folder).join(short), because: "a model of this project".to_owned() });
        }
        all
    }

    /// The first place that is there.
    pub(crate) fn resolve(&self, name: &Path) -> Result<Place, CliError> {
        if name.exists() {
            return Ok(Place { path: name.to_owned(), because: "a path".to_owned() });
        }
        let missing = || CliError::NotAModel { path: name.to_owned() };
        // What is spelled as a path is one.
        let text = name.to_str().ok_or_else(missing)?;
        if text.contains(['/', '\\']) || text.starts_with('.') || text.is_empty() {
            return Err(missing());
        }
        let places = self.of(text);
        if let Some(place) = places.iter().find(|place| !place.path.as_os_str().is_empty() && place.path.is_dir()) {
            return Ok(place.clone());
        }
        let known: Vec<String> = self.list().into_iter().map(|(name, _)| name).collect();
        let nearest = suggest::nearest(text, known.iter().map(String::as_str)).map(str::to_owned);
        let shown = |place: Place| format!("`{}` ({})", place.path.display(), place.because);
        let tried = places.into_iter().map(|place| if place.path.as_os_str().is_empty() { place.because } else { shown(place) });
        Err(CliError::UnknownModel { name: text.to_owned(), tried: tried.collect(), nearest, folder: self.models_folder() })
    }

    /// The models that have a name, each once: the first place wins.
    pub(crate) fn list(&self) -> Vec<(String, Place)> {
        let mut all: Vec<(String, Place)> = Vec::new();
        let folders =
            [(self.models_folder(), "by name"), (MODELS_FOLDER.into(), "by name"), (SHIPPED_FOLDER.into(), "comes with the project")];
        for (folder, because) in folders {
            for path in files::list_dir(&folder).unwrap_or_default() {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                if is_model_folder(&path) && !all.iter().any(|(known, _)| known == name) {
                    all.push((name.to_owned(), Place { path: path.clone(), because: because.to_owned() }));
                }
            }
        }
        let of_variable = |(variable, path): &(String, String)| {
            let name = variable.strip_prefix("CODEX_ML_")?.strip_suffix("_PATH")?.to_lowercase();
            is_model_folder(Path::new(path)).then(|| (name, Place { path: PathBuf::from(path), because: format!("${variable}") }))
        };
        all.extend(self.variables.iter().filter_map(of_variable));
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_names_every_place_and_the_variables_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tinyllama");
        files::create_dir_all(&model).unwrap();
        files::write_atomic(&model.join("config.json"), b"{}").unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let places = Places { variables: vec![(MODELS_VARIABLE.to_owned(), text(folder.path()))] };
        assert_eq!(places.resolve(Path::new("tinyllama-offline")).unwrap().path, model);
        assert_eq!(places.resolve(Path::new("tinyllama")).unwrap().because, format!("${MODELS_VARIABLE}"));
        assert_eq!(places.list().iter().filter(|(name, _)| name == "tinyllama").count(), 1);
        let other = tempfile::tempdir().unwrap();
        let first = Places { variables: vec![places.variables[0].clone(), ("CODEX_ML_TINYLLAMA_PATH".to_owned(), text(other.path()))] };
        assert_eq!(first.resolve(Path::new("tinyllama-offline")).unwrap().path, other.path());
        let error = places.resolve(Path::new("tinylama")).unwrap_err();
        let message = error.to_string();
        for part in ["`tinylama`", "$CODEX_ML_TINYLAMA_PATH, which is not set", MODELS_VARIABLE, "artifacts/models/tinylama"] {
            assert!(message.contains(part), "{part} in {message}");
        }
        let hint = codex_core::Failure::hint(&error).unwrap();
        assert!(hint.contains("did you mean `tinyllama`") && hint.contains(&text(folder.path())), "{hint}");
        for path in ["./tinyllama", "a/b", ".."] {
            assert!(!matches!(places.resolve(Path::new(path)), Err(CliError::UnknownModel { .. })), "{path}");
        }
    }
}
