//! Checkpoints that are whole or absent: atomic publish, verified load, retention.
