//! A model to generate from or to save again: a run of one training step of a shape, made once and kept.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::options::Size;
use super::run_files;
use super::session::Session;
use super::shape::Shape;
use super::table::grouped;

/// A run with its checkpoint, and the shape it really has.
#[derive(Clone, Debug)]
pub struct StoredModel {
    /// The folder of the run.
    pub run: PathBuf,
    /// Its checkpoint.
    pub checkpoint: PathBuf,
    /// Its shape, with the vocabulary that the tokenizer reached.
    pub shape: Shape,
    /// Counted in its file.
    pub parameters: u64,
}

impl StoredModel {
    /// What to say when the tokenizer has fewer ids than the size asks for: the novels have no more.
    pub fn note(&self, size: Size) -> Option<String> {
        let (asked, reached) = (size.shape(), &self.shape);
        (asked.vocab != reached.vocab).then(|| {
            let [parameters, instead] = [reached, &asked].map(|shape| grouped(shape.parameters()));
            let [ids, of] = [reached.vocab, asked.vocab].map(grouped);
            format!("the tokenizer reached {ids} of {of} ids on the novels, so that this shape has {parameters} parameters instead of {instead}, on both sides")
        })
    }

    /// Takes the model of this shape and program that is there, or trains one for a step.
    pub fn of(session: &Session, size: Size) -> Result<Self> {
        let tokenizer = session.tokenizer(size.shape().vocab)?;
        let shape = Shape { vocab: tokenizer.vocab_size, ..size.shape() };
        let name = format!("{}-{}", shape.line().replace([' ', ','], "-"), &session.program.blake3[..12]);
        let folder = session.folder.join("models").join(name);
        if !folder.is_dir() {
            Session::say(&format!("training a model for one step (once, not measured): {}", shape.line()));
            let settings = session.settings(&shape, &tokenizer, 1);
            let run = session.program.train(&settings, &session.log("stored-model"))?;
            if let Some(parent) = folder.parent() {
                fs::create_dir_all(parent).with_context(|| format!("cannot create `{}`", parent.display()))?;
            }
            fs::rename(&run.folder, &folder).with_context(|| format!("cannot move `{}`", run.folder.display()))?;
        }
        let checkpoint = run_files::newest_checkpoint(&folder)?;
        let parameters = run_files::count_parameters(&checkpoint.join("model.safetensors"))?;
        Ok(Self { run: folder, checkpoint, shape, parameters })
    }
}
