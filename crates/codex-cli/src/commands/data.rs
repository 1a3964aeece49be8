//! `data` and its commands.

use crate::arguments::Data;
use crate::commands::{data_cache, data_masks, data_survey};
use crate::failure::CliError;
use crate::terminal::Terminal;

pub(super) fn run(arguments: &Data, terminal: &Terminal) -> Result<(), CliError> {
    match arguments {
        Data::Inspect { surveyed, masks } if masks.masks => data_masks::run(&surveyed.paths, &surveyed.text_field, masks, terminal),
        Data::Inspect { surveyed, .. } => data_survey::inspect(surveyed, terminal),
        Data::Stats { surveyed, tokenizer } => data_survey::stats(surveyed, tokenizer.as_deref(), terminal),
        Data::Prepare { configuration } => data_cache::prepare(configuration, terminal),
        Data::Verify { cache } => data_cache::verify(cache, terminal),
        Data::Gc { runs, cache, dry_run } => data_cache::gc(runs, cache.as_deref(), *dry_run, terminal),
    }
}
