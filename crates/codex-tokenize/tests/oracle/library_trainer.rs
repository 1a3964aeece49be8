//! The tokenizer file that the tokenizers library's own trainer makes, with the settings that ours must agree with.

use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Trainer};
use tokenizers::{AddedToken, ProgressFormat};

/// `texts` are fed one by one.
pub(crate) fn library_trained(config: &codex_tokenize::TokenizerConfig, texts: &[&str]) -> String {
    let splitter = ByteLevel::new(false, true, true);
    let special: Vec<AddedToken> = config.special_tokens.iter().map(|token| AddedToken::from(token.as_str(), true)).collect();
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(config.vocab_size)
        .min_frequency(config.min_frequency)
        .special_tokens(special.clone())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .progress_format(ProgressFormat::Silent)
        .build();
    let split = |text: &str| {
        let mut split = PreTokenizedString::from(text);
        splitter.pre_tokenize(&mut split)?;
        let words = split.get_splits(OffsetReferential::Original, OffsetType::None);
        let parts = words.into_iter().flat_map(|(word, _, _)| {
            // Each character is a byte, and a long word is counted in parts of 256 bytes.
            let characters: Vec<char> = word.chars().collect();
            characters.chunks(256).map(|part| part.iter().collect()).collect::<Vec<String>>()
        });
        Ok(parts.collect())
    };
    trainer.feed(texts.iter(), split).unwrap();
    let mut model = BPE::default();
    trainer.train(&mut model).unwrap();
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(splitter)).with_decoder(Some(splitter));
    tokenizer.add_special_tokens(special).unwrap();
    tokenizer.to_string(true).unwrap()
}
