//! Handing a sweep to whoever runs it: files that are rendered, and commands that start the work. Nothing is started here but by [`local`].
//!
//! Each task runs `codex-cli train --sweep-file FILE --index N`. It may come twice or be killed: the claim of the trial makes that harmless.

mod kubernetes;
pub mod local;
mod ray;
mod slurm;

use std::path::{Path, PathBuf};

use codex_core::files;

use crate::error::SweepError;
use crate::launcher_config::{LauncherConfig, TaskConfig};
use crate::sweep::Sweep;

/// What the sweep file does not say. Paths are those of this machine; the file's `[launcher]` may name others for where the tasks run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The program that trains, such as `codex-cli`.
    pub program: String,
    /// The sweep file, absolute.
    pub sweep_file: String,
    /// The folder that tasks run in, absolute.
    pub working_dir: String,
    /// The folder for what is rendered and for logs, absolute: `launch` in the sweep's folder.
    pub launch_dir: String,
    /// Arguments of every task, behind those of the sweep file.
    pub arguments: Vec<String>,
}

/// A file that a launcher needs, in [`Context::launch_dir`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedFile {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Who runs the trials of a sweep.
pub trait Launcher {
    /// What it is called in a sweep file.
    fn name(&self) -> &'static str;

    /// The files that [`commands`](Self::commands) name.
    ///
    /// # Errors
    /// A text that cannot be written safely where it belongs.
    fn render(&self, sweep: &Sweep, context: &Context) -> Result<Vec<RenderedFile>, SweepError>;

    /// The commands that start the work, each a program and its arguments, once the rendered files are written.
    ///
    /// # Errors
    /// As of [`render`](Self::render).
    fn commands(&self, sweep: &Sweep, context: &Context) -> Result<Vec<Vec<String>>, SweepError>;
}

/// The launcher that a sweep file asks for.
pub fn launcher(config: &LauncherConfig) -> Box<dyn Launcher + '_> {
    match config {
        LauncherConfig::Local(config) => Box::new(local::Local(config)),
        LauncherConfig::Slurm(config) => Box::new(slurm::Slurm(config)),
        LauncherConfig::Kubernetes(config) => Box::new(kubernetes::Kubernetes(config)),
        LauncherConfig::Ray(config) => Box::new(ray::Ray(config)),
    }
}

/// Writes what was rendered into a folder, and returns the paths.
pub fn write(rendered: &[RenderedFile], launch_dir: &Path) -> Result<Vec<PathBuf>, SweepError> {
    files::create_dir_all(launch_dir)?;
    let mut paths = Vec::with_capacity(rendered.len());
    for file in rendered {
        let path = launch_dir.join(&file.name);
        files::write_atomic(&path, file.text.as_bytes())?;
        paths.push(path);
    }
    Ok(paths)
}

/// The command of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Task {
    working_dir: String,
    /// The program and its arguments up to `--index`.
    before: Vec<String>,
    /// The arguments behind the index.
    after: Vec<String>,
}

impl Task {
    fn new(config: &TaskConfig, context: &Context) -> Self {
        let or = |set: &Option<String>, other: &str| set.clone().unwrap_or_else(|| other.to_owned());
        let program = or(&config.program, &context.program);
        let sweep_file = or(&config.sweep_file, &context.sweep_file);
        Self {
            working_dir: or(&config.working_dir, &context.working_dir),
            before: vec![program, "train".to_owned(), "--sweep-file".to_owned(), sweep_file, "--index".to_owned()],
            after: config.arguments.iter().chain(&context.arguments).cloned().collect(),
        }
    }

    /// The whole command for this index.
    fn argv(&self, index: &str) -> Vec<String> {
        self.before.iter().cloned().chain([index.to_owned()]).chain(self.after.iter().cloned()).collect()
    }
}

/// `<launch dir>/<name>`
fn path_of(context: &Context, name: &str) -> String {
    Path::new(&context.launch_dir).join(name).to_string_lossy().into_owned()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
