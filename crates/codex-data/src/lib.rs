//! From text files to batches: sources, splits, token cache, order, packing and the cursor.
