//! The corpus compiled into the program: Jane Austen's novels, compressed.

use std::io::Read;

use codex_data::{DataConfig, MemorySource};
use flate2::read::DeflateDecoder;

use crate::failure::CliError;

static TRAIN: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/train.deflate"));
static VALIDATION: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/validation.deflate"));

/// The compiled-in sources, by the names that `data.train` and `data.validation` know them by; none where the configuration names none, as unpacking
/// them takes a while.
pub(crate) fn builtins(data: &DataConfig) -> Result<Vec<MemorySource>, CliError> {
    if !data.names_builtins() {
        return Ok(Vec::new());
    }
    let unpack = |name: &str, packed: &[u8]| -> Result<MemorySource, CliError> {
        let mut text = String::new();
        let read = DeflateDecoder::new(packed).read_to_string(&mut text);
        read.map_err(|source| CliError::Builtin { name: name.to_owned(), source })?;
        let novels: Vec<String> = text.split('\0').map(str::to_owned).collect();
        Ok(MemorySource::from_documents(name, novels))
    };
    Ok(vec![unpack("austen/train", TRAIN)?, unpack("austen/validation", VALIDATION)?])
}

/// The beginning of the novel that nobody trains on.
pub(crate) fn sample_text() -> Result<String, CliError> {
    const BYTES: u64 = 1 << 13;
    let mut text = Vec::new();
    let read = DeflateDecoder::new(VALIDATION).take(BYTES).read_to_end(&mut text);
    read.map_err(|source| CliError::Builtin { name: "austen/validation".to_owned(), source })?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_data::DataSource;

    #[test]
    fn the_novels_are_whole() {
        let sources = builtins(&DataConfig { train: vec!["builtin:austen/train".to_owned()], ..DataConfig::default() }).unwrap();
        let texts =
            |i: usize| sources[i].documents().unwrap().map(|document| document.unwrap().content.text().into_owned()).collect::<Vec<_>>();
        let (train, validation) = (texts(0), texts(1));
        assert_eq!((train.len(), validation.len()), (5, 1));
        assert!(train.iter().any(|novel| novel.contains("It is a truth universally acknowledged")));
        assert!(validation[0].contains("Sir Walter Elliot, of Kellynch Hall"));
        assert!(train.iter().all(|novel| !novel.contains("Kellynch")), "the validation novel must not be in the training text");
    }
}
