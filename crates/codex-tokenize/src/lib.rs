//! Tokenizers: train, save, load, encode and decode, each identified by the digest of its file.
