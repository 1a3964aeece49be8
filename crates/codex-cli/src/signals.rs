//! SIGINT and SIGTERM: the first asks the loop to save and stop, the second ends the process at once.

use codex_train::StopSignal;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::CliError;

/// Starts listening; the returned signal is set by the first request.
pub(crate) fn listen() -> Result<StopSignal, CliError> {
    let stop = StopSignal::new();
    let heard = stop.clone();
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|source| CliError::Signals { source })?;
    std::thread::spawn(move || {
        for signal in &mut signals {
            if heard.requested().is_some() {
                // Whatever is being written is a draft without its final name: nothing saved is lost.
                signal_hook::low_level::exit(128 + signal);
            }
            heard.request(signal);
        }
    });
    Ok(stop)
}
