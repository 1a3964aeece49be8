//! Disks of the tests' own, for which one must be root: a file system in a file behind a loop device, or in memory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use codex_core::files;

/// The size of an image: the least with a journal and room for a dozen checkpoints, so that a copy takes a millisecond.
const IMAGE_BYTES: usize = 8 << 20;

/// A mounted file system, until it is dropped.
#[derive(Debug)]
pub(super) struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// A file system in memory, with these options.
    pub(super) fn memory(at: &Path, options: &str) -> Result<Self, String> {
        run("mount", &["-t", "tmpfs", "-o", options, "none", &text(at)])?;
        Ok(Self { at: at.to_owned() })
    }

    /// The file system of an image. The system writes nothing on its own for the next five minutes: only what is flushed is on the disk.
    pub(super) fn image(image: &Path, at: &Path) -> Result<Self, String> {
        run("mount", &["-t", "ext4", "-o", "loop,commit=300", &text(image), &text(at)])?;
        Ok(Self { at: at.to_owned() })
    }

    /// Changes the options.
    pub(super) fn remount(&self, options: &str) {
        run("mount", &["-o", &format!("remount,{options}"), &text(&self.at)]).unwrap();
    }

    /// How much of what the option `size` or `nr_inodes` bounds is taken, in pages or names.
    pub(super) fn used(&self, bound: &str) -> usize {
        let format = if bound == "size" { "%b %f" } else { "%c %d" };
        let told = run("stat", &["-f", "-c", format, &text(&self.at)]).unwrap();
        let numbers: Vec<usize> = told.split_whitespace().map(|number| number.parse().unwrap()).collect();
        numbers[0] - numbers[1]
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A process that was killed a moment ago may still hold it; the name at least is then free.
        if run("umount", &[&text(&self.at)]).is_err() {
            drop(run("umount", &["--lazy", &text(&self.at)]));
        }
    }
}

/// Makes an image with an empty file system.
pub(super) fn format(image: &Path) -> Result<(), String> {
    files::write_atomic(image, &vec![0; IMAGE_BYTES]).map_err(|error| error.to_string())?;
    // All at once, as a table that is written later would be written while the image is copied.
    let lazy = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
    run("mkfs.ext4", &["-q", "-F", "-b", "1024", "-J", "size=1", "-E", lazy, &text(image)]).map(drop)
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let spelled = format!("`{program} {}`", arguments.join(" "));
    let ended = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|error| format!("{spelled}: {error}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if ended.status.success() { Ok(said(&ended.stdout)) } else { Err(format!("{spelled}: {}", said(&ended.stderr))) }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
