#!/usr/bin/env python3
"""Text to token ids by Hugging Face `datasets.map` with the same tokenizer.json: the peer of `cargo xtask bench data`.

Needs `pip install datasets tokenizers` in any virtual environment, and no network. An end-of-text id is added to each document, as codex does. Prints one JSON line.
"""
import argparse, json, os, time

p = argparse.ArgumentParser()
p.add_argument("--text", required=True, help="JSON Lines with a field `text`"); p.add_argument("--tokenizer", required=True)
p.add_argument("--cache", required=True); p.add_argument("--processes", type=int, default=2)
a = p.parse_args()
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = a.cache
# Parallel by processes, as its documentation advises; threads inside each would fight for the same cores.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import datasets, tokenizers

datasets.disable_progress_bars()
tokenizer = tokenizers.Tokenizer.from_file(a.tokenizer)


def encode(batch):
    return {"ids": [e.ids + [0] for e in tokenizer.encode_batch(batch["text"])]}


if __name__ == "__main__":
    t0 = time.perf_counter()
    rows = datasets.load_dataset("json", data_files=a.text, split="train", cache_dir=a.cache)
    t1 = time.perf_counter()
    done = rows.map(encode, batched=True, num_proc=a.processes, remove_columns=rows.column_names)
    t2 = time.perf_counter()
    print(json.dumps({
        "peer": f"datasets {datasets.__version__}, tokenizers {tokenizers.__version__}", "processes": a.processes, "documents": len(done),
        "tokens": sum(len(ids) for ids in done["ids"]), "load_seconds": round(t1 - t0, 4), "map_seconds": round(t2 - t1, 4)}))
