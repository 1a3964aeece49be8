//! The codex command line: parses arguments, runs one command, maps its failure to an exit code. The only crate that chooses a device.

mod arguments;
mod commands;
mod corpus;
mod device;
mod encoder_model;
mod environment;
mod failure;
mod hub_model;
mod memory;
mod model_place;
mod prepared;
mod provenance;
mod run_config;
mod signals;
mod stored_model;
mod terminal;
mod training_setup;

use std::process::ExitCode;

use clap::Parser;
use codex_core::Failure;

use crate::arguments::Arguments;
use crate::terminal::Terminal;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come as errors too; clap knows which stream and code each has.
            drop(error.print());
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    memory::keep_nothing();
    let terminal = Terminal::new(&arguments.global);
    match commands::run(arguments.command, &arguments.global, &terminal) {
        Ok(code) => code,
        Err(error) => {
            terminal.error(&error);
            ExitCode::from(error.exit_class().code())
        }
    }
}
