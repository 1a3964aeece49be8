//! The entry point of `cargo xtask`; what it does is in the library beside it.
#![expect(clippy::print_stderr, reason = "a program for people at a terminal")]

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if let Some(code) = xtask::coverage::stand_in_for_rustc() {
        return code;
    }
    match xtask::run(xtask::arguments::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<xtask::gate::Unsuccessful>() => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
