//! `cargo xtask`: checks and measures the workspace, and builds nothing that ships.
//!
//! It depends on no codex crate, so that it still runs when they do not compile.
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "codex_core is out of reach: the gate must run when it is broken")]

pub mod arguments;
pub mod bench;
pub mod coverage;
pub mod coverage_report;
pub mod crash;
pub mod dag;
pub mod gate;
pub mod interop;
pub mod log;
pub mod parity;
pub mod sanitize;
pub mod source;
pub mod steps;
pub mod tidy;
pub mod tools;
pub mod vendor;
pub mod workspace;

use anyhow::{Result, bail};

use arguments::{Cli, Task};
use gate::{Options, Step};
use vendor::Proof;
use workspace::Workspace;

/// Does what the arguments ask; an error is what stopped it, and everything else has been printed.
pub fn run(cli: Cli) -> Result<()> {
    let workspace = Workspace::locate()?;
    match cli.task {
        Task::Gate { no_install, with_network, only, package, list } => {
            if list {
                for step in Step::ALL {
                    println!("{:<9} {}", step.name(), step.what());
                }
                return Ok(());
            }
            gate::run(&workspace, &Options { no_install, with_network, steps: Step::selection(&only), package })
        }
        Task::Lint { no_install } => {
            gate::run(&workspace, &Options { no_install, with_network: false, steps: Step::QUICK.to_vec(), package: None })
        }
        Task::Tidy => report("tidy", &tidy::check_workspace(&workspace.root)?),
        Task::Dag => report("dag", &dag::check_workspace(&workspace)?),
        Task::Vendor { check, build, package } => {
            let proof = if build { Some(Proof::Build) } else { check.then_some(Proof::Check) };
            vendor::run(&workspace, proof, package.as_deref())
        }
        Task::Parity(options) => parity::run(&workspace, &options),
        Task::Interop(options) => interop::run(&workspace, &options),
        Task::Crash(options) => crash::run(&workspace, &options),
        Task::Sanitize => sanitize::run(&workspace),
        Task::Bench { what } => bench::run(&workspace, &what),
    }
}

fn report<V: std::fmt::Display>(what: &str, violations: &[V]) -> Result<()> {
    for violation in violations {
        println!("{violation}");
    }
    if !violations.is_empty() {
        bail!("{what}: {} violations", violations.len());
    }
    println!("{what}: nothing to report");
    Ok(())
}
