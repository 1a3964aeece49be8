//! One module for each command.

mod chat;
mod checkpoint;
mod config;
mod data;
mod data_cache;
mod data_masks;
mod data_picture;
mod data_survey;
mod doctor;
mod draft;
mod dry_run;
mod earlier_run;
mod embed;
mod eval;
mod evaluation;
mod evaluation_compare;
mod evaluation_folder;
mod evaluation_task;
mod evaluation_work;
mod generate;
mod lr_find;
mod memory_forecast;
mod inference_record;
mod lineage;
mod model;
mod model_names;
mod model_out;
mod model_proof;
mod profile;
mod proof_tree;
mod replay;
mod runs;
mod runs_compare;
mod runs_edit;
mod runs_look;
mod runs_push;
mod safety;
mod selftest;
mod sweep;
mod sweep_trial;
mod switched_off;
mod tokenizer;
mod tokenizer_look;
mod train;
mod verify;

use std::process::ExitCode;

use clap::CommandFactory;

use crate::arguments::{Arguments, Command, Global, LearningRate};
use crate::failure::CliError;
use crate::terminal::Terminal;

/// Runs a command; the exit code is 0, or 128 + a signal's number after a run that a signal ended.
pub(crate) fn run(command: Command, global: &Global, terminal: &Terminal) -> Result<ExitCode, CliError> {
    match command {
        Command::Train(arguments) => return train::run(&arguments, terminal),
        Command::Sweep(arguments) => return sweep::run(&arguments, terminal),
        Command::Lr(LearningRate::Find(arguments)) => lr_find::run(&arguments, terminal)?,
        Command::Replay(arguments) => replay::run(&arguments, terminal)?,
        Command::Selftest(arguments) => selftest::run(&arguments, terminal)?,
        Command::Verify(arguments) => verify::run(&arguments, terminal)?,
        Command::Eval(arguments) => eval::run(&arguments, terminal)?,
        Command::Generate(arguments) => generate::run(&arguments, global, terminal)?,
        Command::Chat(arguments) => chat::run(&arguments, terminal)?,
        Command::Tokenizer(arguments) => tokenizer::run(arguments, terminal)?,
        Command::Data(arguments) => data::run(&arguments, terminal)?,
        Command::Model(arguments) => model::run(&arguments, terminal)?,
        Command::Checkpoint(arguments) => checkpoint::run(&arguments, terminal)?,
        Command::Runs(arguments) => runs::run(&arguments, terminal)?,
        Command::Config(arguments) => config::run(&arguments, terminal)?,
        Command::Safety(arguments) => safety::run(&arguments, terminal)?,
        Command::Doctor => doctor::run(terminal)?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "codex-cli", &mut script);
            let script = String::from_utf8_lossy(&script).into_owned();
            terminal.result(&serde_json::json!({ "shell": shell.to_string(), "script": script }), || script.clone())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
