#!/usr/bin/env python3
"""Training a byte-level BPE by the tokenizers library itself: a peer of `cargo xtask bench data`.

Needs `pip install tokenizers` in any virtual environment, and no network. The same settings as codex's: all 256 bytes, two special tokens, pairs that occur twice.
Reading and parsing the file counts, as it does for codex. Prints one JSON line.
"""
import argparse, json, time

p = argparse.ArgumentParser()
p.add_argument("--text", required=True, help="JSON Lines with a field `text`"); p.add_argument("--vocab", type=int, required=True); p.add_argument("--out", required=True)
a = p.parse_args()
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

t0 = time.perf_counter()
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=a.vocab, min_frequency=2, special_tokens=["<|endoftext|>", "<|pad|>"], show_progress=False,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
with open(a.text, encoding="utf-8") as lines:
    tokenizer.train_from_iterator((json.loads(line)["text"] for line in lines), trainer)
t1 = time.perf_counter()
tokenizer.save(a.out)
print(json.dumps({"peer": f"tokenizers {tokenizers.__version__}", "seconds": round(t1 - t0, 4), "vocab_size": tokenizer.get_vocab_size()}))
