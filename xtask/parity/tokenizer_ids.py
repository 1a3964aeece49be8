#!/usr/bin/env python3
"""Token ids: what sentencepiece, tiktoken and the tokenizers library give, beside codex-tokenize.

Needs `pip install sentencepiece tiktoken tokenizers transformers mistral-common` in any virtual environment, and
`cargo build -p codex-tokenize --example tokens` with its path in TOKENS. It trains small tokenizers on the corpus where the golden folder lacks them,
compares 2,000 lines of real text, 2,000 random texts and a list of oddities, and writes the golden files that the Rust tests read. Rank files and
SentencePiece models given as arguments (`cl100k_base=PATH`, `PATH.model`) are compared too; the models in mistral-common always are. With `--check`
the golden files stay as they are.
"""
import base64, glob, importlib.metadata, json, os, pathlib, random, subprocess, sys, tempfile, unicodedata
import sentencepiece, tiktoken, tiktoken_ext.openai_public as openai_public
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "crates/codex-tokenize/tests/golden"
CHECK = "--check" in sys.argv
ARGUMENTS = [argument for argument in sys.argv[1:] if argument != "--check"]
COUNTS = {"passed": 0, "failed": 0}
TOKENS = os.environ.get("TOKENS", str(ROOT / "target/debug/examples/tokens"))
ODD = [
    "", " ", "  ", "a", " a", "a ", "  a  b  ", "\n", "a\nb", "a\r\nb", "\tx\t", "naïve café", "nai\u0308ve cafe\u0301", "ﬁ ﬂ ½ ² ™ ㎏", "Ａｂｃ　１２３",
    "字漢字かなカナ한국어", "ไทยสระอำ", "مرحبا ﷺ", "नमस्ते", "🦀🧑‍🚀👍🏽", "e\u200bx\u200d\ufeffz", "\u00a0nbsp\u2003em", "\u0301start", "İstanbul ǅ ß ẞ", "0123456789 1,234.5",
    "don't DON'T I'll we've", "<s> </s> <unk> <|endoftext|> [CLS]", "<0x41>", "\u2581under\u2581", "\x00\x01\x1f\x7f", "x" * 300, "ab " * 100,
    "\U0001F468\u200D\U0001F469\u200D\U0001F467", "\ud7ff\ue000\uffff", "a\u2028b\u2029c", "https://example.invalid/a?b=c&d=%20", "def f(x):\n    return x**2\n\n\n",
    "____----====", "1\u00bd2\u2153", "Ⅷ ⅷ ①", "\r", "\r\n\r\n  \n", "   \n   x", "a <mask> b", "<sep>x<cls> y <sep>", "Hello  <|im_end|>  world", "The price is $1,000.00 (10%)!",
]

SPELLS_SPECIAL = {text for text in ODD if "<unk>" in text}


def lines():
    out = []
    for name in ["train/emma.txt", "validation/persuasion.txt"]:
        out += [line for line in (ROOT / "fixtures/corpus" / name).read_text().split("\n") if line][:1000]
    return out


LINES = lines()
random.seed(0)
POOL = "aB1é字\n\r\t  '’sdLL.,!/_-\u00a0\u3000\u0301🦀½ǅ\u2581ﬁ"
RANDOM = ["".join(random.choice(POOL) for _ in range(random.randint(1, 60))) for _ in range(2000)]
TEXTS = LINES + RANDOM + ODD


def digest(rows):
    """FNV-1a over the ids of some texts, each ended by a mark."""
    state = 0xCBF29CE484222325
    for row in rows:
        for number in row + [0xFFFFFFFF]:
            for byte in number.to_bytes(4, "little"):
                state = (state ^ byte) * 0x100000001B3 % 2**64
    return f"{state:016x}"


# What each real library says, as a function from a text to ids.

def hugging_face(path):
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation(), tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    marked = Tokenizer.from_file(str(path))
    marked.no_truncation(), marked.no_padding()
    return (
        lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        lambda text: marked.encode(text, add_special_tokens=False).ids,
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
    )


QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def tiktoken_encoding(name, path):
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in open(path, "rb") if line.strip()}
    n = max(ranks.values()) + 1
    if name in ("qwen2", "llama3"):
        special = {"<|endoftext|>": n, "<|im_start|>": n + 1, "<|im_end|>": n + 2} if name == "qwen2" else {"<|begin_of_text|>": n, "<|end_of_text|>": n + 1, "<|eot_id|>": n + 9}
        return tiktoken.Encoding(name, pat_str=QWEN2 if name == "qwen2" else LLAMA3, mergeable_ranks=ranks, special_tokens=special)
    openai_public.load_tiktoken_bpe = lambda *a, **k: ranks
    openai_public.data_gym_to_mergeable_bpe_ranks = lambda **k: ranks
    settings = openai_public.ENCODING_CONSTRUCTORS[name]()
    settings.pop("explicit_n_vocab", None)
    if n < 50_000:  # the special tokens of a small file stand as far behind its ranks as those of the real one
        free = next(i for i in range(n + 1) if i not in set(ranks.values()))
        first = {"cl100k_base": 100_256, "o200k_base": 199_998, "o200k_harmony": 199_998}.get(name)
        moved = lambda id: id - first + n if first else free if id == 50_256 else id - 50_281 + max(n, free + 1)
        settings["special_tokens"] = {token: moved(id) for token, id in settings["special_tokens"].items()}
    return tiktoken.Encoding(**settings)


def tiktoken_library(name, path):
    encoding = tiktoken_encoding(name, path)
    compose = (lambda text: unicodedata.normalize("NFC", text)) if name == "qwen2" else (lambda text: text)
    return (
        lambda text: encoding.encode(compose(text), disallowed_special=()),
        lambda text: encoding.encode(compose(text), allowed_special="all"),
        lambda ids: encoding.decode(ids),
    )


def sentencepiece_library(path):
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    # Its text for an unknown character is its own.
    return model.encode, None, lambda ids: None if model.unk_id() in ids else model.decode(ids)


# The small tokenizers.

def train_sentencepiece(name, **settings):
    path = GOLDEN / "sentencepiece" / f"{name}.model"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus, rules = pathlib.Path(folder, "corpus"), pathlib.Path(folder, "rules.tsv")
        corpus.write_text("\n".join(LINES))
        rules.write_text("".join(f"{' '.join(f'{ord(c):X}' for c in a)}\t{' '.join(f'{ord(c):X}' for c in b)}\n" for a, b in
                                 [("ﬁ", "fi"), ("ﬂ", "fl"), ("Ａ", "A"), ("　", " "), ("\u00a0", " "), ("e\u0301", "é"), ("㎏", "kg"), ("\x01", ""), ("ﷺ", "صلى الله عليه وسلم")]))
        sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=str(path.with_suffix("")), vocab_size=600, minloglevel=2,
                                                 normalization_rule_tsv=str(rules), **settings)
    path.with_suffix(".vocab").unlink()


def train_ranks():
    path = GOLDEN / "tiktoken" / "small.tiktoken"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "removed", invert=True), pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    byte = {c: b for b, c in bytes_to_unicode().items()}
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    path.write_text("".join(f"{base64.b64encode(bytes(byte[c] for c in token)).decode()} {rank}\n" for token, rank in vocab))


def bytes_to_unicode():
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return {b: chr(b) if b in kept else chr(256 + sum(c not in kept for c in range(b))) for b in range(256)}


def hugging_face_tokenizers():
    """The layouts of the families, each with the special tokens that family has."""
    n = 450
    special = lambda *tokens: [AddedToken(token, special=True, normalized=False) for token in tokens]
    alphabet = pre_tokenizers.ByteLevel.alphabet()

    bert = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    bert.normalizer, bert.pre_tokenizer, bert.decoder = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    bert.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    bert.enable_truncation(max_length=8), bert.enable_padding(length=8)
    yield "bert", bert, trainers.WordPieceTrainer(vocab_size=n, special_tokens=special("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"), show_progress=False), []

    albert = Tokenizer(models.Unigram())
    albert.normalizer = normalizers.Sequence([normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Replace(Regex(" {2,}"), " ")])
    albert.pre_tokenizer, albert.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    yield "albert", albert, trainers.UnigramTrainer(vocab_size=n, unk_token="<unk>", special_tokens=special("<unk>", "[CLS]", "[SEP]", "<pad>", "[MASK]"), show_progress=False), [AddedToken("<sep>", special=False)]

    llama = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    llama.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    llama.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    bytes_of = [AddedToken(f"<0x{b:02X}>", special=False) for b in range(256)]
    yield "llama", llama, trainers.BpeTrainer(vocab_size=n + 259, special_tokens=special("<unk>", "<s>", "</s>") + bytes_of, show_progress=False), []

    llama3 = Tokenizer(models.BPE(ignore_merges=True))
    llama3.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    llama3.decoder, llama3.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    yield "llama3", llama3, trainers.BpeTrainer(vocab_size=n, initial_alphabet=alphabet, show_progress=False), special("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")

    qwen2 = Tokenizer(models.BPE())
    qwen2.normalizer = normalizers.NFC()
    qwen2.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN2), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    qwen2.decoder = decoders.ByteLevel()
    yield "qwen2", qwen2, trainers.BpeTrainer(vocab_size=n, initial_alphabet=alphabet, show_progress=False), special("<|endoftext|>", "<|im_start|>", "<|im_end|>")

    smollm = Tokenizer(models.BPE())
    smollm.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)])
    smollm.decoder = decoders.ByteLevel()
    yield "smollm", smollm, trainers.BpeTrainer(vocab_size=n, special_tokens=special("<|endoftext|>", "<|im_start|>", "<|im_end|>"), initial_alphabet=alphabet, show_progress=False), []

    roberta = Tokenizer(models.BPE())
    roberta.pre_tokenizer, roberta.decoder = pre_tokenizers.ByteLevel(True), decoders.ByteLevel()
    roberta.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    mask = AddedToken("<mask>", special=True, normalized=False, lstrip=True)
    yield "roberta", roberta, trainers.BpeTrainer(vocab_size=n, special_tokens=[*special("<s>", "<pad>", "</s>", "<unk>"), mask], initial_alphabet=alphabet, show_progress=False), []

    clip = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    clip.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    clip.pre_tokenizer, clip.decoder = pre_tokenizers.Whitespace(), decoders.BPEDecoder("</w>")
    yield "clip", clip, trainers.BpeTrainer(vocab_size=n, special_tokens=special("<|startoftext|>", "<|endoftext|>"), end_of_word_suffix="</w>", show_progress=False), []

    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation()])
    yield "words", words, trainers.WordLevelTrainer(vocab_size=n, special_tokens=special("<unk>", "</s>"), show_progress=False), []

    gemma = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    gemma.normalizer, gemma.pre_tokenizer = normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous")
    gemma.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    yield "gemma", gemma, trainers.BpeTrainer(vocab_size=n + 259, special_tokens=special("<pad>", "<eos>", "<bos>", "<unk>") + bytes_of, show_progress=False), [AddedToken("\n\n", special=False, normalized=False)]


def train_hugging_face():
    for name, tokenizer, trainer, added in hugging_face_tokenizers():
        path = GOLDEN / "hugging_face" / f"{name}.json"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # Where nothing splits a line the trainer would make words of whole sentences.
        words = {"llama": lambda line: line.split(" "), "gemma": lambda line: [f" {word}" for word in line.split(" ")]}.get(name, lambda line: [line])
        tokenizer.train_from_iterator([word for line in LINES for word in words(line)], trainer)
        tokenizer.add_tokens(added)
        value = json.loads(tokenizer.to_str())
        if name in ("llama", "gemma"):  # the bytes are pieces of the model only
            value["added_tokens"] = [token for token in value["added_tokens"] if not token["content"].startswith("<0x")]
        path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


# The comparison.

def compare(name, source, library, folder, golden=None, skip=(), quirk=None):
    """`quirk` is another library whose ids are as good for a text with a combining mark: a character map is applied to whole clusters there."""
    encode, encode_marked, decode = library
    with tempfile.TemporaryDirectory() as temporary:
        texts, out = pathlib.Path(temporary, "texts"), pathlib.Path(temporary, "out")
        texts.write_text(json.dumps(TEXTS))
        subprocess.run([TOKENS, "encode", folder, texts, out], check=True)
        rows = json.loads(out.read_text())
    want = [encode(text) for text in TEXTS]
    marked = [encode_marked(text) for text in TEXTS] if encode_marked else None
    differ = quirks = 0
    left_out = set(skip)
    for i, (text, (ids, ids_marked, decoded)) in enumerate(zip(TEXTS, rows, strict=True)):
        if text in skip:
            continue
        back = decode(want[i])
        wrong = [("ids", want[i], ids)] if want[i] != ids else []
        wrong += [("marked", marked[i], ids_marked)] if marked and marked[i] != ids_marked else []
        wrong += [("decoded", back, decoded)] if back is not None and back != decoded and want[i] == ids else []
        if wrong and quirk and any(unicodedata.combining(c) for c in text) and quirk[0](text) == ids:
            quirks += 1
            left_out.add(text)
            continue
        differ += bool(wrong)
        for what, a, b in wrong[:1] if differ < 5 else []:
            print("  ", name, what, repr(text[:60]), repr(a)[:120], repr(b)[:120])
    COUNTS["failed" if differ else "passed"] += 1
    print(f"{name}: {differ} of {len(TEXTS)} differ from {source}" + (f", {quirks} as the tokenizers library does" if quirk else ""))
    if golden:
        odd = [None if text in left_out else [ids, m, decode(ids)] for text, ids, m in zip(ODD, want[-len(ODD):], (marked or want)[-len(ODD):])]
        golden["tokenizers"][name] = {"from": source, "lines": [digest(want[i:i + 100]) for i in range(0, len(LINES), 100)], "odd": odd}
    return differ


def imported(kind, path, parent):
    folder = pathlib.Path(parent, f"{kind}-{pathlib.Path(path).name}")
    subprocess.run([TOKENS, "import", kind, path, folder], check=True)
    return folder


def main():
    version = lambda package: f"{package} {importlib.metadata.version(package)}"
    differ, golden = 0, {"odd": ODD, "tokenizers": {}}
    train_hugging_face(), train_ranks()
    for kind in ["bpe", "unigram"]:
        for fallback in [False, True]:
            train_sentencepiece(f"{kind}{'-bytes' if fallback else ''}", model_type=kind, byte_fallback=fallback, character_coverage=0.999,
                                user_defined_symbols=["<sep>", "<cls>"], remove_extra_whitespaces=not (kind == "bpe" and fallback))
    with tempfile.TemporaryDirectory() as parent:
        for path in sorted((GOLDEN / "hugging_face").glob("*.json")):
            # The library finds special pieces of a Unigram model in plain text; here a special token in a text is text.
            differ += compare(f"hugging_face/{path.stem}", version("tokenizers"), hugging_face(path), path, golden, SPELLS_SPECIAL if path.stem == "albert" else ())
        # A text like a byte piece is one to the tokenizers library, and a symbol at the start takes no space before it.
        known = {"<0x41>", "<sep>x<cls> y <sep>"}
        for path in sorted((GOLDEN / "sentencepiece").glob("*.model")):
            folder = imported("sentencepiece", path, parent)
            differ += compare(f"sentencepiece/{path.stem}", version("sentencepiece"), sentencepiece_library(path), folder, golden, known, hugging_face(folder / "tokenizer.json"))
        for name in ["gpt2", "p50k_edit", "cl100k_base", "o200k_base", "o200k_harmony", "qwen2", "llama3"]:
            path = GOLDEN / "tiktoken/small.tiktoken"
            differ += compare(f"tiktoken/{name}", version("tiktoken"), tiktoken_library(name, path), imported(name, path, parent), golden)
        if not CHECK:
            GOLDEN.joinpath("ids.json").write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")).replace('"hugging_face/', '\n"hugging_face/').replace('"sentencepiece/', '\n"sentencepiece/').replace('"tiktoken/', '\n"tiktoken/') + "\n")
        import mistral_common
        for path in sorted(glob.glob(os.path.dirname(mistral_common.__file__) + "/data/*.model*")) + [a for a in ARGUMENTS if "=" not in a]:
            folder = imported("sentencepiece", path, parent)
            differ += compare(os.path.basename(path), version("sentencepiece"), sentencepiece_library(path), folder, None, known, hugging_face(folder / "tokenizer.json"))
            differ += compare(os.path.basename(path), version("tokenizers"), hugging_face(folder / "tokenizer.json"), folder, None, SPELLS_SPECIAL)
        for argument in [a for a in ARGUMENTS if "=" in a]:
            name, path = argument.split("=")
            folder = imported(name, path, parent)
            differ += compare(name, version("tiktoken"), tiktoken_library(name, path), folder)
            differ += compare(name, version("tokenizers"), hugging_face(folder / "tokenizer.json"), folder)
    print(f"{differ} differences in all\n{COUNTS['passed']} passed, {COUNTS['failed']} failed")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
