#!/usr/bin/env python3
"""GGUF files of codex: each key and each byte of each tensor, as the Hugging Face folder they were made from and llama.cpp's own libraries give them.

    cargo run -p codex-hub --example gguf_files -- fixtures/parity OUT     # writes them
    python3 xtask/parity/gguf_files.py fixtures/parity OUT                 # compares

Needs `pip install gguf safetensors torch` in any virtual environment. Files are read with `gguf.GGUFReader`; names come from `gguf`'s table of them,
quantised blocks from its `quants`, and keys, orders of rows and types from the folder's `config.json` by the rules below. With `pip install xllamacpp`
the f32 files are also run by llama.cpp itself, and its logits compared with those of transformers in `logits.json`; where a folder has a
`tokenizer.json`, the ids that llama.cpp gives the lines of the files named behind OUT are compared with those of the tokenizers library.
"""
import ctypes, importlib.util, json, math, pathlib, sys
import gguf, numpy as np, torch
from safetensors import safe_open

ARCH = {"gpt2": "gpt2", "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
TYPES = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7}
# Logits of f32 files: the sums are in another order there, and GELU is of a table in half precision.
TOLERANCE = {"gpt2": 5e-3}


def tensors_of(folder, config):
    """Name in the file and f32 array of each tensor, in the order and orientation of llama.cpp."""
    names = gguf.get_tensor_name_map({a: k for k, a in gguf.MODEL_ARCH_NAMES.items()}[ARCH[config["model_type"]]], 64)
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                if name.endswith((".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq")):
                    continue
                value = file.get_tensor(name).to(torch.float32).numpy()
                if config["model_type"] == "gpt2":
                    name = name if name.startswith(("transformer.", "lm_head")) else "transformer." + name
                    if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
                        value = value.T
                if ARCH[config["model_type"]] == "llama":
                    heads = {"q_proj": config["num_attention_heads"], "k_proj": config.get("num_key_value_heads") or config["num_attention_heads"]}
                    for part, n in heads.items():
                        if f".{part}." in name:
                            value = value.reshape(n, 2, value.shape[0] // n // 2, -1).swapaxes(1, 2).reshape(value.shape)
                if name == "lm_head.weight" and config.get("tie_word_embeddings", config["model_type"] == "gpt2"):
                    continue
                mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
                assert mapped, name
                found[mapped] = np.ascontiguousarray(value)
    rope = scaling(config)
    if rope.get("rope_type") == "llama3":
        dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        factors = []
        for i in range(dim // 2):
            turns = rope["original_max_position_embeddings"] * rope["rope_theta"] ** (-2 * i / dim) / (2 * math.pi)
            kept = (turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
            kept = min(1, max(0, kept))
            factors.append(1 / ((1 - kept) / rope["factor"] + kept))
        found["rope_freqs.weight"] = np.array(factors, np.float32)
    return found


def scaling(config):
    old = dict(config.get("rope_scaling") or {})
    new = dict(config.get("rope_parameters") or {})
    all = {"rope_theta": config.get("rope_theta", 10000.0), **old, **new}
    all.setdefault("rope_type", all.get("type", "default"))
    return all


def keys_of(config, kind, name):
    """The keys that say something of the network; those of a tokenizer are compared in the Rust tests."""
    arch = ARCH[config["model_type"]]
    keys = {
        "general.architecture": arch, "general.type": "model", "general.name": name, "general.file_type": FILE_TYPES[kind],
        "general.quantization_version": gguf.GGML_QUANT_VERSION, "general.alignment": gguf.GGUF_DEFAULT_ALIGNMENT, "codex.provenance.folder": name,
        f"{arch}.vocab_size": config["vocab_size"],
    }
    put = lambda template, value: keys.__setitem__(template.format(arch=arch), value)
    K = gguf.Keys
    if arch == "gpt2":
        put(K.LLM.CONTEXT_LENGTH, config.get("n_positions") or config["n_ctx"])
        put(K.LLM.EMBEDDING_LENGTH, config["n_embd"])
        put(K.LLM.BLOCK_COUNT, config["n_layer"])
        put(K.LLM.FEED_FORWARD_LENGTH, config.get("n_inner") or 4 * config["n_embd"])
        put(K.Attention.HEAD_COUNT, config["n_head"])
        put(K.Attention.LAYERNORM_EPS, np.float32(config["layer_norm_epsilon"]))
    else:
        heads = config["num_attention_heads"]
        dim = config.get("head_dim") or config["hidden_size"] // heads
        rope = scaling(config)
        put(K.LLM.CONTEXT_LENGTH, config["max_position_embeddings"])
        put(K.LLM.EMBEDDING_LENGTH, config["hidden_size"])
        put(K.LLM.BLOCK_COUNT, config["num_hidden_layers"])
        put(K.LLM.FEED_FORWARD_LENGTH, config["intermediate_size"])
        put(K.Attention.HEAD_COUNT, heads)
        put(K.Attention.HEAD_COUNT_KV, config.get("num_key_value_heads") or heads)
        put(K.Attention.KEY_LENGTH, dim)
        put(K.Attention.VALUE_LENGTH, dim)
        put(K.Attention.LAYERNORM_RMS_EPS, np.float32(config["rms_norm_eps"]))
        put(K.Rope.DIMENSION_COUNT, dim)
        put(K.Rope.FREQ_BASE, np.float32(rope["rope_theta"]))
        if config["model_type"] == "mistral" and config.get("sliding_window"):
            put(K.Attention.SLIDING_WINDOW, config["sliding_window"])
        kind = rope["rope_type"]
        original = rope.get("original_max_position_embeddings") or config["max_position_embeddings"]
        if kind in ("linear", "yarn"):
            put(K.Rope.SCALING_TYPE, kind)
            put(K.Rope.SCALING_FACTOR, np.float32(rope["factor"]))
            put(K.Rope.SCALING_ORIG_CTX_LEN, original)
        if kind == "yarn":
            put(K.Rope.SCALING_YARN_BETA_FAST, np.float32(rope.get("beta_fast", 32)))
            put(K.Rope.SCALING_YARN_BETA_SLOW, np.float32(rope.get("beta_slow", 1)))
            if rope.get("attention_factor"):
                put(K.Rope.SCALING_YARN_ATTN_FACTOR, np.float32(rope["attention_factor"]))
                put(K.Rope.SCALING_ATTN_FACTOR, np.float32(rope["attention_factor"] / (0.1 * math.log(rope["factor"]) + 1)))
        if kind == "llama3":
            for name in ("factor", "low_freq_factor", "high_freq_factor"):
                keys[f"codex.rotary_scaling.{name}"] = np.float32(rope[name])
            keys["codex.rotary_scaling.original_context_length"] = original
    for token in ("bos", "eos", "pad"):
        id = config.get(f"{token}_token_id")
        id = id[0] if isinstance(id, list) else id
        if id is not None:
            keys[f"tokenizer.ggml.{'padding' if token == 'pad' else token}_token_id"] = id
    return keys


def compare(folder, path, kind):
    """Compares a file, and returns how many keys and tensors it has."""
    config = json.loads((folder / "config.json").read_text())
    reader = gguf.GGUFReader(path)
    expected = keys_of(config, kind, folder.name)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    for name, value in expected.items():
        found = fields[name].contents()
        assert found == value, f"{path.name}: {name}: {found!r}, expected {value!r}"
        if isinstance(value, np.float32):
            assert fields[name].types == [gguf.GGUFValueType.FLOAT32], name
        elif isinstance(value, int):
            assert fields[name].types == [gguf.GGUFValueType.UINT32], name
    left = {name for name in fields if name not in expected and not name.startswith("tokenizer.")}
    assert not left, f"{path.name}: {left} are not expected"
    tensors = tensors_of(folder, config)
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert set(found) == set(tensors), f"{path.name}: {set(found) ^ set(tensors)}"
    for name, value in tensors.items():
        if value.ndim == 1 or name == "position_embd.weight":
            type = TYPES["f32"]
        else:
            type = TYPES["f16"] if kind == "q8_0" and value.shape[-1] % 32 else TYPES[kind]
        tensor = found[name]
        assert tensor.tensor_type == type, f"{path.name}: {name}: {tensor.tensor_type.name}, expected {type.name}"
        assert list(tensor.shape) == list(reversed(value.shape)), f"{path.name}: {name}: {tensor.shape}"
        bytes = np.ascontiguousarray(gguf.quants.quantize(value, type)).view(np.uint8).reshape(-1)
        own = np.ascontiguousarray(tensor.data).view(np.uint8).reshape(-1)
        if name == "rope_freqs.weight":
            assert np.allclose(tensor.data, value, rtol=1e-6), f"{path.name}: {name}"
        else:
            assert np.array_equal(bytes, own), f"{path.name}: {name}: other bytes"
    return len(expected), len(tensors)


class Structure(ctypes.Structure):
    """Settings of llama.cpp, of which only those that are named below are touched."""

    _fields_ = [("bytes", ctypes.c_uint8 * 512)]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p), ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq", ctypes.POINTER(ctypes.c_int32)), ("seq", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


class Llama:
    """llama.cpp as xllamacpp brings it, by its C functions."""

    def __init__(self):
        place = importlib.util.find_spec("xllamacpp").submodule_search_locations[0]
        self.c = ctypes.CDLL(str(pathlib.Path(place) / "xllamacpp.abi3.so"))
        for name, result, arguments in [
            ("llama_model_default_params", Structure, []),
            ("llama_context_default_params", Structure, []),
            ("llama_model_load_from_file", ctypes.c_void_p, [ctypes.c_char_p, Structure]),
            ("llama_init_from_model", ctypes.c_void_p, [ctypes.c_void_p, Structure]),
            ("llama_batch_init", Batch, [ctypes.c_int32] * 3),
            ("llama_decode", ctypes.c_int32, [ctypes.c_void_p, Batch]),
            ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [ctypes.c_void_p, ctypes.c_int32]),
            ("llama_free", None, [ctypes.c_void_p]),
            ("llama_model_free", None, [ctypes.c_void_p]),
            ("llama_model_get_vocab", ctypes.c_void_p, [ctypes.c_void_p]),
            (
                "llama_tokenize", ctypes.c_int32,
                [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_int32), ctypes.c_int32, ctypes.c_bool, ctypes.c_bool],
            ),
        ]:
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments
        self.told = []
        self.log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda _, text, __: self.told.append(text.decode(errors="replace")))
        self.c.llama_log_set(self.log, None)
        self.c.llama_backend_init()

    def load(self, path):
        self.told.clear()
        model = self.c.llama_model_load_from_file(str(path).encode(), self.c.llama_model_default_params())
        assert model, f"{path.name}: llama.cpp does not load it: {''.join(self.told)[-300:]}"
        return model

    def ids(self, path, lines):
        """The ids of each line, with the tokens that the file says go around a text, and with special tokens where a line spells them."""
        model = self.load(path)
        for line in lines:
            text = line.encode()
            ids = (ctypes.c_int32 * (len(text) + 8))()
            n = self.c.llama_tokenize(self.c.llama_model_get_vocab(model), text, len(text), ids, len(ids), True, True)
            yield list(ids[:n])
        self.c.llama_model_free(model)

    def logits(self, path, sequences, n_vocab):
        model = self.load(path)
        settings = self.c.llama_context_default_params()
        words = np.frombuffer(settings.bytes, np.int32).copy()
        words[0], words[7], words[8] = 512, 1, 1  # context and threads
        assert words[13] == -1 and (words[26], words[27]) == (1, 1), "xllamacpp's settings are laid out in another way: look at `llama.h`"
        words[13] = words[26] = words[27] = 0  # no flash attention, keys and values in f32
        ctypes.memmove(settings.bytes, words.tobytes(), 512)
        for ids in sequences:
            context = self.c.llama_init_from_model(model, settings)
            batch = self.c.llama_batch_init(len(ids), 0, 1)
            batch.n = len(ids)
            for i, id in enumerate(ids):
                batch.token[i], batch.pos[i], batch.n_seq[i], batch.logits[i] = id, i, 1, 1
                batch.seq[i][0] = 0
            assert self.c.llama_decode(context, batch) == 0, f"{path.name}: llama.cpp cannot compute it"
            yield np.array([np.ctypeslib.as_array(self.c.llama_get_logits_ith(context, i), (n_vocab,)).copy() for i in range(len(ids))])
            self.c.llama_free(context)
        self.c.llama_model_free(model)


def main():
    folders, out = map(pathlib.Path, sys.argv[1:3])
    told = json.loads((out / "told.json").read_text())
    llama = Llama() if importlib.util.find_spec("xllamacpp") else None
    for file, report in sorted(told.items()):
        name, kind, _ = file.rsplit(".", 2)
        if "error" in report:
            print(f"{file}: not written: {report['error']}")
            continue
        keys, tensors = compare(folders / name, out / file, kind)
        line = f"{file}: {keys} keys and {tensors} tensors are the same"
        wanted = folders / name / "logits.json"
        if llama and kind == "f32" and wanted.exists():
            model_type = json.loads((folders / name / "config.json").read_text())["model_type"]
            sequences = json.loads(wanted.read_text())["sequences"]
            rows = llama.logits(out / file, [sequence["ids"] for sequence in sequences], len(sequences[0]["logits"][0]))
            worst = max(float(np.abs(found - np.array(sequence["logits"])).max()) for found, sequence in zip(rows, sequences))
            line += f"; logits of llama.cpp differ by {worst:.1e}"
            has_note = any("sliding window" in note for note in report["notes"])
            assert worst < TOLERANCE.get(model_type, 1e-4) or has_note, line
        tokenizer = folders / name / "tokenizer.json"
        if llama and kind == "f32" and tokenizer.exists() and len(sys.argv) > 3:
            from tokenizers import Tokenizer

            lines = [line for path in sys.argv[3:] for line in pathlib.Path(path).read_text().splitlines() if line]
            wanted = [encoded.ids for encoded in Tokenizer.from_file(str(tokenizer)).encode_batch(lines)]
            others = [line for line, ids, want in zip(lines, llama.ids(out / file, lines), wanted) if ids != want]
            line += f"; {len(others)} of {len(lines)} lines have other ids in llama.cpp ({report['pre_tokenizer']})"
            assert not others or report["notes"], f"{line}: {others[0]!r}"
        print(line)


if __name__ == "__main__":
    main()
