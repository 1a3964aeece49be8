//! Loss, perplexity, bits per byte and token accuracy from real logits, and the unigram baseline beside them.
