//! Puts into the binary what the default run needs: the compressed corpus, the shipped configs, and the facts that provenance names.
#![expect(clippy::disallowed_methods, reason = "a build script reads files and variables itself")]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for split in ["train", "validation"] {
        let folder = root.join("fixtures/corpus").join(split);
        let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        // One document per novel, in name order, separated by a byte that no text has.
        for (i, path) in sorted(&folder)?.iter().enumerate() {
            if i > 0 {
                packed.write_all(b"\0")?;
            }
            packed.write_all(&fs::read(path)?)?;
        }
        fs::write(out.join(format!("{split}.deflate")), packed.finish()?)?;
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    let mut library = String::from("&[\n");
    let configs = root.join("configs");
    println!("cargo::rerun-if-changed={}", configs.display());
    collect_configs(&configs, &configs, &mut library)?;
    library.push_str("]\n");
    fs::write(out.join("configs.rs"), library)?;

    let lock = root.join("Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    println!("cargo::rustc-env=CODEX_LOCK_DIGEST={}", blake3::hash(&fs::read(&lock)?));
    let rustc = Command::new(env::var("RUSTC")?).arg("--version").output()?;
    println!("cargo::rustc-env=CODEX_RUSTC={}", String::from_utf8_lossy(&rustc.stdout).trim());
    println!("cargo::rustc-env=CODEX_PROFILE={}", env::var("PROFILE")?);
    println!("cargo::rustc-env=CODEX_TARGET={}", env::var("TARGET")?);
    Ok(())
}

fn collect_configs(top: &Path, folder: &Path, library: &mut String) -> Result<(), Failure> {
    for path in sorted(folder)? {
        if path.is_dir() {
            collect_configs(top, &path, library)?;
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.strip_prefix(top)?.with_extension("").to_string_lossy().replace('\\', "/");
            writeln!(library, "    ({name:?}, include_str!({:?})),", path.canonicalize()?.display().to_string())?;
        }
    }
    Ok(())
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}
