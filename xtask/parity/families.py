#!/usr/bin/env python3
"""Small random models of every family that codex reads, with the logits that transformers computes from them.

Needs `pip install torch transformers safetensors peft numpy blake3` in any virtual environment, and no network. `--out DIR` writes each model anew as
DIR/NAME/ in the spelling that its name says, loads that folder again and writes what transformers finds in it to logits.json. Every model is tried
with its configuration changed in the way that a wrong reader would read it: the logits must move by more than 0.01, or nothing is written.
`--check CODEX_CLI` runs that program on the folders of --out and compares.
"""
import argparse, copy, importlib.metadata, json, os, pathlib, shutil, subprocess, sys, tempfile, warnings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
warnings.filterwarnings("ignore", category=FutureWarning)
try:
    import blake3, numpy as np, peft, safetensors, torch, transformers
    from safetensors.torch import load_file, save_file
except ImportError as error:
    print(f"PACKAGE ABSENT: {error.name}. Nothing was compared. Install: pip install torch transformers safetensors peft numpy blake3", file=sys.stderr)
    sys.exit(3)

transformers.utils.logging.disable_progress_bar()
ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "fixtures/parity"
# A mistake must move a logit at least this far, and codex may be this far off.
TEETH, TOLERANCE = 1e-2, 1e-4
SHORT, LONG = 20, 40
VOCAB = 48
SHARED = dict(vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, pad_token_id=None, initializer_range=0.2)


def gpt2(**changes):
    return transformers.GPT2Config(**SHARED | dict(n_positions=32, n_embd=16, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0) | changes)


def rotary(kind, **changes):
    # Heads of 8: four frequencies, which theta 100 spreads over the bands that yarn and llama3 tell apart.
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, intermediate_size=24, max_position_embeddings=64)
    return kind(**SHARED | sizes | dict(tie_word_embeddings=True) | changes)


def llama(**changes):
    return rotary(transformers.LlamaConfig, **changes)


def rope(kind, theta=100.0, **values):
    return {"rope_type": kind, "rope_theta": theta, **values}


def old_spelling(folder, keys):
    """config.json as transformers 4 wrote it: torch_dtype, rope_theta and rope_scaling, no layer types."""
    config = json.loads((folder / "config.json").read_text())
    parameters = config.pop("rope_parameters")
    for key in ["dtype", "layer_types", "head_dim"]:
        config.pop(key, None)
    config |= {"torch_dtype": "float32", "rope_theta": parameters["rope_theta"], "transformers_version": "4.42.3"} | keys
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def hub_spelling(folder):
    """GPT-2 as it lies on the hub since 2019: no prefix, the causal masks among the weights, no metadata, names of then in config.json."""
    weights = load_file(folder / "model.safetensors")
    weights = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    for layer in range(2):
        weights[f"h.{layer}.attn.bias"] = torch.ones(32, 32).tril().view(1, 1, 32, 32).contiguous()
    save_file(weights, folder / "model.safetensors")
    config = {
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 0, "embd_pdrop": 0.1,
        "eos_token_id": 0, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 32, "n_embd": 16, "n_head": 4,
        "n_layer": 2, "n_positions": 32, "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
        "summary_type": "cls_index", "summary_use_proj": True, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "vocab_size": VOCAB,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "generation_config.json").unlink()


GQA = dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2)
SMOLLM = {"pretraining_tp": 1, "rope_scaling": None, "rope_interleaved": False, "is_llama_config": True}


class Model:
    """One model: its configuration, how it is saved, how long the last sequence is, and misreadings that must show."""

    def __init__(self, name, config, long=SHORT, dtype=torch.float32, after=None, shards=None, teeth=(), least=TEETH):
        self.name, self.config, self.long, self.dtype, self.after, self.shards = name, config, long, dtype, after, shards
        self.teeth, self.least = teeth, least


MODELS = [
    # The two kinds of gelu differ by 0.0005 at most: wide weights, and still a smaller step to see.
    Model("gpt2", gpt2(initializer_range=0.6), teeth=[{"activation_function": "gelu"}], least=1e-3),
    Model("gpt2-gelu", gpt2(initializer_range=0.6, activation_function="gelu", n_inner=24, layer_norm_epsilon=1e-2),
          teeth=[{"layer_norm_epsilon": 1e-5}, {"activation_function": "gelu_new"}], least=1e-3),
    Model("gpt2-hub", gpt2(), after=hub_spelling),
    Model("llama-tied", llama(), teeth=[{"hidden_act": "gelu"}, {"rope_parameters": rope("default", 100.0)}]),
    Model("llama-untied", llama(**GQA, tie_word_embeddings=False, rms_norm_eps=1e-2), teeth=[{"rms_norm_eps": 1e-5}]),
    Model("llama-head-dim", llama(num_attention_heads=4, num_key_value_heads=2, head_dim=8)),
    Model("llama-old-spelling", llama(rope_parameters=rope("linear", 500.0, factor=4.0)),
          after=lambda folder: old_spelling(folder, {"rope_scaling": {"type": "linear", "factor": 4.0}}), teeth=[{"rope_scaling": None}, {"rope_theta": 1e4}]),
    Model("llama-rope-linear", llama(rope_parameters=rope("linear", factor=2.0)), teeth=[{"rope_parameters": rope("default")}]),
    # The original context of the dynamic kind is max_position_embeddings itself.
    Model("llama-rope-dynamic", llama(max_position_embeddings=24, rope_parameters=rope("dynamic", factor=4.0)), long=LONG,
          teeth=[{"rope_parameters": rope("default")}, {"rope_parameters": rope("dynamic", factor=2.0)}]),
    Model("llama-rope-yarn", llama(max_position_embeddings=128, rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=32)), long=LONG,
          teeth=[{"rope_parameters": rope("default")}, {"rope_parameters": rope("linear", factor=4.0)},
                 {"rope_parameters": rope("yarn", factor=4.0, original_max_position_embeddings=128)}]),
    Model("llama-rope-yarn-explicit", llama(max_position_embeddings=128, rope_parameters=rope(
        "yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=4.0, beta_slow=0.5, attention_factor=0.8, truncate=False)), long=LONG,
          teeth=[{"rope_parameters": rope("yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=4.0, beta_slow=0.5, attention_factor=0.8)},
                 {"rope_parameters": rope("yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=4.0, beta_slow=0.5, truncate=False)}]),
    Model("llama-rope-llama3", llama(max_position_embeddings=128, eos_token_id=[2, 3], rope_parameters=rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)), long=LONG,
          teeth=[{"rope_parameters": rope("default")}, {"rope_parameters": rope("linear", factor=8.0)}, {"rope_parameters": rope(
              "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=1.01, original_max_position_embeddings=32)}]),
    Model("llama-f16", llama(), dtype=torch.float16),
    Model("llama-bf16", llama(), dtype=torch.bfloat16),
    Model("llama-sharded", llama(**GQA, tie_word_embeddings=False), shards="20KB"),
    Model("smollm", rotary(transformers.LlamaConfig, hidden_size=24, num_attention_heads=3, num_key_value_heads=1, intermediate_size=32, bos_token_id=0,
                           eos_token_id=0), after=lambda folder: old_spelling(folder, SMOLLM)),
    Model("mistral", rotary(transformers.MistralConfig, **GQA, sliding_window=8), teeth=[{"sliding_window": None}, {"sliding_window": 7}, {"sliding_window": 9}]),
    Model("qwen2", rotary(transformers.Qwen2Config, **GQA, rope_parameters=rope("default", 1e6))),
    Model("qwen2-old-yarn", rotary(transformers.Qwen2Config, tie_word_embeddings=False, rope_parameters=rope(
        "yarn", 100.0, factor=4.0, original_max_position_embeddings=32), max_position_embeddings=32), long=LONG,
          after=lambda folder: old_spelling(folder, {
              "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}, "sliding_window": 32, "use_sliding_window": False}),
          teeth=[{"rope_scaling": None}]),
    Model("qwen3", rotary(transformers.Qwen3Config, num_attention_heads=4, head_dim=8, rope_parameters=rope("default", 1e6))),
]

# Adapters as the peft library writes them, each on one of the models above.
ADAPTERS = {
    "peft-lora": ("llama-untied", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], rank_pattern={"layers.1.self_attn.q_proj": 2})),
    "peft-rslora": ("gpt2", dict(r=4, lora_alpha=8, use_rslora=True, fan_in_fan_out=True, target_modules=["c_attn", "c_proj"])),
    "peft-dora": ("llama-tied", dict(r=2, lora_alpha=4, use_dora=True, target_modules=["q_proj", "o_proj", "up_proj"])),
}


def load(folder, **changes):
    """A folder's model in f32, as transformers reads it, with parts of config.json read otherwise."""
    config = transformers.AutoConfig.from_pretrained(folder)
    if changes:
        raw = json.loads((pathlib.Path(folder) / "config.json").read_text()) | changes
        config = type(config).from_dict({key: value for key, value in raw.items() if value is not None or key in changes})
    return transformers.AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation="eager").eval()


def logits_of(model, sequences):
    """One matrix for each sequence. The dynamic rotary embedding remembers the longest sequence, so each gets a model that has seen none."""
    with torch.no_grad():
        return [copy.deepcopy(model)(torch.tensor([ids]), use_cache=False).logits[0].numpy() for ids in sequences]


def difference(wants, gots):
    """The largest difference; not a number where one of them is not, which `max` would hide."""
    return float(np.max([np.abs(np.asarray(want) - np.asarray(got)).max() for want, got in zip(wants, gots, strict=True)]))


def sequences_of(model, generator):
    draw = lambda n: torch.randint(0, VOCAB, (n,), generator=generator).tolist()
    return [draw(3), draw(SHORT)] + ([draw(model.long)] if model.long > SHORT else [])


def write_logits(folder, sequences, logits, **more):
    """One line for each position; a number has the digits that give the same f32 again."""
    def number(value):
        text = str(value)
        assert np.float32(text) == value and np.float32(float(text)) == value, text
        return text
    rows = lambda matrix: ",\n".join("[" + ",".join(map(number, row)) + "]" for row in matrix.astype(np.float32))
    entries = ",\n".join('{"ids":' + json.dumps(ids, separators=(",", ":")) + ',"logits":[\n' + rows(matrix) + "]}" for ids, matrix in zip(sequences, logits))
    head = "".join(f'"{key}":{json.dumps(value)},' for key, value in more.items())
    (folder / "logits.json").write_text("{" + head + f'"transformers":"{transformers.__version__}","torch":"{torch.__version__}","sequences":[\n{entries}]}}\n')


def randomise(model):
    """What is one or zero at first would hide a mistake: norms, biases."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_((1.0 if name.endswith("weight") else 0.0) + 0.3 * torch.randn(parameter.shape))


def write_model(spec, parent):
    folder = parent / spec.name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(sum(spec.name.encode()))
    model = transformers.AutoModelForCausalLM.from_config(spec.config)
    randomise(model)
    model.to(spec.dtype).save_pretrained(folder, **({"max_shard_size": spec.shards} if spec.shards else {}))
    if spec.after:
        spec.after(folder)
    sequences = sequences_of(spec, torch.Generator().manual_seed(7))
    loaded = load(folder)
    for name, parameter in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], parameter.float()), f"{spec.name}: {name} was not read back"
    logits = logits_of(loaded, sequences)
    for changes in spec.teeth:
        moved = difference(logits, logits_of(load(folder, **changes), sequences))
        print(f"  {spec.name} with {changes}: {moved:.3f}")
        assert moved > spec.least, f"{spec.name}: {changes} moves the logits by {moved} only"
    write_logits(folder, sequences, logits)
    return folder


def make_adapter(base, out, seed, **options):
    """A LoRA adapter of random numbers on a folder's model, written by peft; returns the model that carries it."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, lora_dropout=0.0, **options)
    model = peft.get_peft_model(load(base), config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_magnitude_vector" in name:
                parameter.mul_(1 + 0.3 * torch.randn(parameter.shape))
            elif "lora_" in name:
                parameter.copy_(0.2 * torch.randn(parameter.shape))
    model.save_pretrained(out)
    return model


def load_adapter(base, folder):
    return peft.PeftModel.from_pretrained(load(base), folder).eval()


def write_adapter(name, base, options, parent):
    folder = parent / name
    shutil.rmtree(folder, ignore_errors=True)
    make_adapter(parent / base, folder, sum(name.encode()), **options)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    # The library writes a set here, in any order, and the folder of this machine.
    config |= {"target_modules": sorted(config["target_modules"]), "base_model_name_or_path": base}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    sequences = [entry["ids"] for entry in golden(parent / base)["sequences"]]
    logits = logits_of(load_adapter(parent / base, folder), sequences)
    moved = difference(logits, [entry["logits"] for entry in golden(parent / base)["sequences"]])
    assert moved > TEETH, f"{name}: the adapter moves the logits by {moved} only"
    write_logits(folder, sequences, logits, base=base, peft=peft.__version__)
    return folder


def golden(folder):
    return json.loads((pathlib.Path(folder) / "logits.json").read_text())


def codex_logits(program, folder, sequences, base=None):
    ids = [word for ids in sequences for word in ("--ids", ",".join(map(str, ids)))]
    command = [program, "model", "logits", str(folder), *(["--base", str(base)] if base else []), *ids, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])}: exit {done.returncode}: {done.stderr.strip()}")
    answers = json.loads(done.stdout)["sequences"]
    assert [answer["ids"] for answer in answers] == sequences
    return [answer["logits"] for answer in answers]


def check(program, parent):
    """Whether codex finds in every folder what transformers found; the number of folders in which it does not."""
    wrong = 0
    for folder in sorted(path.parent for path in parent.glob("*/logits.json")):
        want = golden(folder)
        sequences = [entry["ids"] for entry in want["sequences"]]
        try:
            base = parent / want["base"] if "base" in want else None
            off = difference([entry["logits"] for entry in want["sequences"]], codex_logits(program, folder, sequences, base))
            result, bad = f"{off:.2e}", not off <= TOLERANCE
        except (RuntimeError, AssertionError, ValueError) as error:
            result, bad = str(error), True
        wrong += bad
        print(f"{'FAIL' if bad else 'ok  '} {folder.name:28} {result}")
    print(f"{wrong} folders differ from transformers by more than {TOLERANCE}")
    return wrong


def write_manifest(parent):
    versions = {name: importlib.metadata.version(name) for name in ["transformers", "torch", "safetensors", "peft"]}
    source = {"written_for": "codex", "license": "MIT OR Apache-2.0", "script": "xtask/parity/families.py", **versions}
    rows = []
    # metrics.json is that of metrics.py, and stays.
    for path in sorted([*parent.glob("*/*"), *parent.glob("metrics.json")]):
        data = path.read_bytes()
        rows.append({"path": path.relative_to(parent).as_posix(), "bytes": len(data), "blake3": blake3.blake3(data).hexdigest()})
    (parent / "manifest.json").write_text(json.dumps({"schema": 1, "source": source, "files": rows}, indent=2) + "\n")
    return sum(row["bytes"] for row in rows)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=pathlib.Path, default=GOLDEN, help="where the models are (fixtures/parity)")
    arguments.add_argument("--check", metavar="CODEX_CLI", help="compare this program with what is there, and write nothing")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    if chosen.check:
        sys.exit(1 if check(chosen.check, chosen.out) else 0)
    # Made beside the place first: a model without teeth must leave what is there.
    with tempfile.TemporaryDirectory() as temporary:
        fresh = pathlib.Path(temporary)
        for spec in MODELS:
            folder = write_model(spec, fresh)
            print(f"{spec.name:28} {sum(path.stat().st_size for path in folder.iterdir()):7} bytes")
        for name, (base, options) in ADAPTERS.items():
            write_adapter(name, base, options, fresh)
        for folder in fresh.iterdir():
            shutil.rmtree(chosen.out / folder.name, ignore_errors=True)
            shutil.copytree(folder, chosen.out / folder.name)
    print(f"{write_manifest(chosen.out)} bytes in all")


if __name__ == "__main__":
    main()
