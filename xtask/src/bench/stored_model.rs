//! A model to generate from or to save again: a run of one training step of a shape, made once and kept.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::options::Size;
use super::run_files;
use super::session::Session;
use super::shape::Shape;

/// A checkpoint and the shape it really has.
#[derive(Clone, Debug)]
pub struct StoredModel {
    /// The checkpoint folder.
    pub checkpoint: PathBuf,
    /// Its shape, with the vocabulary that the tokenizer reached.
    pub shape: Shape,
    /// Counted in its file.
    pub parameters: u64,
}

impl StoredModel {
    /// Takes the model of this shape and program that is there, or trains one for a step.
    pub fn of(session: &Session, size: Size) -> Result<Self> {
        let tokenizer = session.tokenizer(size.shape().vocab)?;
        let shape = Shape { vocab: tokenizer.vocab_size, ..size.shape() };
        let name = format!("{}-{}", shape.line().replace([' ', ','], "-"), &session.program.blake3[..12]);
        let folder = session.folder.join("models").join(name);
        if !folder.join("model.safetensors").is_file() {
            Session::say(&format!("training a model for one step (once, not measured): {}", shape.line()));
            let settings = session.settings(&shape, &tokenizer, 1);
            let run = session.program.train(&settings, &session.log("stored-model"))?;
            let checkpoint = run_files::newest_checkpoint(&run.folder)?;
            if let Some(parent) = folder.parent() {
                fs::create_dir_all(parent).with_context(|| format!("cannot create `{}`", parent.display()))?;
            }
            fs::rename(&checkpoint, &folder).with_context(|| format!("cannot move `{}`", checkpoint.display()))?;
            run.remove()?;
        }
        let parameters = run_files::count_parameters(&folder.join("model.safetensors"))?;
        Ok(Self { checkpoint: folder, shape, parameters })
    }
}
