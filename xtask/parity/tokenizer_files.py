#!/usr/bin/env python3
"""Tokenizers that codex trains and exports, beside the libraries that read them: transformers, tokenizers, tiktoken.

Needs `pip install transformers tokenizers tiktoken` in any virtual environment, and no network. `tokenizer_files.py CODEX_CLI` trains on a novel of fixtures/corpus
and checks that the library's own trainer makes the same vocabulary and merges, that the exported folder and rank file give codex's ids and texts, and that padding
and truncation stored in the file are honoured alike. Prints a line for each case; ends with 1 if any failed, and with 3 if a package is absent.
"""
import importlib.metadata, importlib.util, json, pathlib, subprocess, sys, tempfile

PACKAGES = ["transformers", "tokenizers", "tiktoken"]
ABSENT = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
if ABSENT:
    print(f"PACKAGE ABSENT: {', '.join(ABSENT)}. Nothing was compared. Install: pip install {' '.join(ABSENT)}", file=sys.stderr)
    sys.exit(3)

sys.dont_write_bytecode = True
import base64
import tiktoken
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOVEL = ROOT / "fixtures/corpus/train/emma.txt"
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
TEXTS = ["It is a truth universally acknowledged", "  spaces \n\n\tand émigré 字 🦀", "don't we'll I'm 12345", "<|endoftext|> is text here", "a\u00a0b\u2003c\u3000", "Emma " * 300]
counts = {True: 0, False: 0}


def case(name, good):
    counts[good] += 1
    print(f"{name:70} {'ok' if good else 'FAIL'}", flush=True)


def main():
    codex = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run = lambda *arguments: json.loads(subprocess.run([codex, "tokenizer", *arguments, "--json"], capture_output=True, text=True, cwd=folder, check=True).stdout)
        for vocab in [300, 1000, 5000]:
            run("train", str(NOVEL), "--vocab-size", str(vocab), "--out", f"t{vocab}")
            library = Tokenizer(models.BPE())
            library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            library.train_from_iterator([NOVEL.read_text(encoding="utf-8")], trainers.BpeTrainer(
                vocab_size=vocab, min_frequency=2, special_tokens=["<|endoftext|>", "<|pad|>"], show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
            ours = json.loads((folder / f"t{vocab}/tokenizer.json").read_text(encoding="utf-8"))["model"]
            theirs = json.loads(library.to_str())["model"]
            case(f"{vocab} ids: the library's trainer makes the same vocabulary", ours["vocab"] == theirs["vocab"])
            case(f"{vocab} ids: and the same merges", [list(merge) for merge in ours["merges"]] == [list(merge) for merge in theirs["merges"]])
        run("export", "t5000", "--out", "hf", "--template", "chatml")
        run("export", "t5000", "--out", "ranks.tiktoken", "--format", "tiktoken")
        run("padding", "t5000", "--out", "cut", "--max-length", "12", "--truncate")
        hub = AutoTokenizer.from_pretrained(str(folder / "hf"))
        ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in open(folder / "ranks.tiktoken", "rb"))}
        encoding = tiktoken.Encoding("codex", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})
        stored = Tokenizer.from_file(str(folder / "cut/tokenizer.json"))
        for i, text in enumerate(TEXTS):
            ids = run("encode", "t5000", text)
            case(f"text {i}: transformers has the same ids of the exported folder", hub.encode(text, add_special_tokens=False, split_special_tokens=True) == ids)
            case(f"text {i}: and the same text of them", hub.decode(ids) == text)
            case(f"text {i}: tiktoken has the same ids of the rank file", encoding.encode_ordinary(text) == ids)
            if "<|" not in text:
                case(f"text {i}: tokenizers cuts and fills it alike", stored.encode(text).ids == run("encode", "cut", text))
        shown = hub.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
        case("the chat template goes with the folder", shown == "<|im_start|>user\nhi<|im_end|>\n")
    print("beside " + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES))
    print(f"{counts[True]} passed, {counts[False]} failed")
    sys.exit(1 if counts[False] else 0)


if __name__ == "__main__":
    main()
