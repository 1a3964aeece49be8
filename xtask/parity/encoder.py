#!/usr/bin/env python3
"""Small random encoders (BERT) with what transformers computes from them, and a comparison of whole models.

Needs `pip install torch transformers safetensors numpy blake3` in any virtual environment, and no network. `--out DIR` writes each model anew as
DIR/bert-*/ in the spelling that its name says, loads that folder again and writes what transformers finds in it: the scores of the masked-LM head to
logits.json where there is one, the vectors of two texts of unequal length side by side to embeddings.json. Every model is tried with its
configuration changed in the way that a wrong reader would read it: the numbers must move by more than they may differ, or nothing is written.
`--model DIR --texts FILE` runs codex (its program in CODEX_CLI) on a folder as sentence-transformers has it and compares the vectors of each line with
those of transformers.
"""
import argparse, importlib.metadata, json, os, pathlib, shutil, subprocess, sys, tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
try:
    import blake3, numpy as np, safetensors, torch, transformers
    from safetensors.torch import load_file, save_file
except ImportError as error:
    print(f"PACKAGE ABSENT: {error.name}. Nothing was compared. Install: pip install torch transformers safetensors numpy blake3", file=sys.stderr)
    sys.exit(3)

transformers.utils.logging.disable_progress_bar()
ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "fixtures/parity"
# A mistake must move a number of the vectors at least this far; codex may be off by a tenth of it.
TEETH = 1e-4
VOCAB, LONG, SHORT = 48, 14, 5
SIZES = dict(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, max_position_embeddings=20,
             type_vocab_size=2, initializer_range=0.5, pad_token_id=0, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)


def bert(**changes):
    return transformers.BertConfig(**SIZES | changes)


def spelling_of_2018(folder):
    """As the first conversions of BERT lie on the hub: norms with gamma and beta, the table and bias of the head written out, positions as a buffer."""
    weights = load_file(folder / "model.safetensors")
    weights = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor for name, tensor in weights.items()}
    weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"].clone()
    weights["cls.predictions.decoder.bias"] = weights["cls.predictions.bias"].clone()
    weights["bert.embeddings.position_ids"] = torch.arange(SIZES["max_position_embeddings"]).view(1, -1)
    save_file(weights, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    for key in ["dtype", "tie_word_embeddings", "is_decoder", "add_cross_attention"]:
        config.pop(key, None)
    config |= {"torch_dtype": "float32", "position_embedding_type": "absolute", "gradient_checkpointing": False, "transformers_version": "4.8.2"}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


# Name, class, configuration, what is rewritten after saving, misreadings that must show.
MODELS = [
    ("bert-mlm", transformers.BertForMaskedLM, bert(), None, [{"hidden_act": "gelu_new"}]),
    ("bert-bare", transformers.BertModel, bert(hidden_act="gelu_new", layer_norm_eps=1e-2, type_vocab_size=3), None,
     [{"layer_norm_eps": 1e-12}, {"hidden_act": "gelu"}]),
    ("bert-2018", transformers.BertForPreTraining, bert(layer_norm_eps=1e-5, num_attention_heads=2), spelling_of_2018, [{"num_attention_heads": 4}]),
]


def randomise(model):
    """What is one or zero at first would hide a mistake: norms, biases."""
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_((1.0 if parameter_name.endswith("weight") else 0.0) + 0.3 * torch.randn(parameter.shape))
        # The row of the filling token is zero when it is drawn.
        model.get_input_embeddings().weight.copy_(0.5 * torch.randn(model.get_input_embeddings().weight.shape))


def load(kind, folder, **changes):
    config = transformers.AutoConfig.from_pretrained(folder)
    for key, value in changes.items():
        setattr(config, key, value)
    return kind.from_pretrained(folder, config=config, dtype=torch.float32, attn_implementation="eager").eval()


def mean_of(states, mask):
    """The mean of the positions that are not filling, as sentence-transformers takes it."""
    kept = mask.unsqueeze(-1).float()
    return (states * kept).sum(1) / kept.sum(1).clamp(min=1e-9)


def batch_of(generator):
    """Two texts of unequal length; the second is filled up, with tokens that would show if they were seen."""
    draw = lambda n, high: torch.randint(0, high, (n,), generator=generator)
    ids = torch.stack([draw(LONG, VOCAB), draw(LONG, VOCAB)])
    types = torch.stack([draw(LONG, 2), draw(LONG, 2)])
    mask = torch.ones(2, LONG, dtype=torch.long)
    mask[1, SHORT:] = 0
    return ids, types, mask


def vectors(model, ids, types, mask):
    with torch.no_grad():
        states = model(input_ids=ids, token_type_ids=types, attention_mask=mask).last_hidden_state
    mean = mean_of(states, mask)
    return {"mean": mean, "cls": states[:, 0], "mean_normalized": torch.nn.functional.normalize(mean, p=2, dim=1)}


def number(value):
    text = str(np.float32(value))
    assert np.float32(text) == value and np.float32(float(text)) == value, text
    return text


def rows(matrix):
    return ",\n".join("[" + ",".join(map(number, row)) + "]" for row in matrix.numpy().astype(np.float32))


def versions():
    return f'"transformers":"{transformers.__version__}","torch":"{torch.__version__}"'


def write_model(name, kind, config, after, teeth, parent):
    folder = parent / name
    torch.manual_seed(sum(name.encode()))
    model = kind(config)
    randomise(model)
    if hasattr(model, "tie_weights"):
        model.tie_weights()
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if after:
        after(folder)
    loaded = load(kind, folder)
    for parameter, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[parameter], tensor), f"{name}: {parameter} was not read back"
    base = lambda **changes: load(transformers.BertModel, folder, **changes)
    generator = torch.Generator().manual_seed(7)
    ids, types, mask = batch_of(generator)
    found = vectors(base(), ids, types, mask)
    others = [({"no mask": True}, vectors(base(), ids, types, torch.ones_like(mask))), ({"no types": True}, vectors(base(), ids, torch.zeros_like(types), mask))]
    others += [(changes, vectors(base(**changes), ids, types, mask)) for changes in teeth]
    for what, other in others:
        moved = float((found["mean"] - other["mean"]).abs().max())
        print(f"  {name} with {what}: {moved:.4f}")
        assert moved > TEETH, f"{name}: {what} moves the vectors by {moved} only"
    table = lambda tensor: json.dumps(tensor.tolist(), separators=(",", ":"))
    text = "{" + versions() + f',"ids":{table(ids)},"token_types":{table(types)},"mask":{table(mask)}'
    text += "".join(f',"{key}":[\n{rows(matrix)}]' for key, matrix in found.items())
    (folder / "embeddings.json").write_text(text + "}\n")
    if kind is transformers.BertModel:
        return folder
    sequences = [ids[1, :3].tolist(), ids[0].tolist()]
    with torch.no_grad():
        scores = [getattr(answer, "logits", None) if hasattr(answer, "logits") else answer.prediction_logits
                  for answer in (loaded(input_ids=torch.tensor([sequence])) for sequence in sequences)]
    entries = ",\n".join('{"ids":' + json.dumps(sequence, separators=(",", ":")) + ',"logits":[\n' + rows(matrix[0]) + "]}" for sequence, matrix in zip(sequences, scores))
    (folder / "logits.json").write_text("{" + versions() + f',"sequences":[\n{entries}]}}\n')
    return folder


def write_manifest(parent, names):
    """The rows of these folders in the manifest that all folders share."""
    path = parent / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {"schema": 1, "source": {"written_for": "codex", "license": "MIT OR Apache-2.0"}, "files": []}
    kept = [row for row in manifest["files"] if row["path"].split("/")[0] not in names]
    for name in names:
        for file in sorted((parent / name).iterdir()):
            data = file.read_bytes()
            kept.append({"path": f"{name}/{file.name}", "bytes": len(data), "blake3": blake3.blake3(data).hexdigest()})
    manifest["files"] = sorted(kept, key=lambda row: row["path"].split("/"))
    path.write_text(json.dumps(manifest, indent=2) + "\n")


def compare(folder, texts):
    """The greatest difference of a number between codex's vectors and those of transformers, by the folder's own settings."""
    lines = [line for line in texts.read_text().splitlines() if line.strip()]
    config = json.loads((folder / "sentence_bert_config.json").read_text()) if (folder / "sentence_bert_config.json").exists() else {}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = load(transformers.BertModel, folder)
    want = []
    for line in lines:
        encoded = tokenizer(line, truncation=True, max_length=config.get("max_seq_length", model.config.max_position_embeddings), padding=False, return_tensors="pt")
        with torch.no_grad():
            mean = mean_of(model(**encoded).last_hidden_state, encoded["attention_mask"])
        want.append(torch.nn.functional.normalize(mean, p=2, dim=1)[0].numpy())
    command = [os.environ["CODEX_CLI"], "model", "embed", str(folder), str(texts), "--pooling", "mean", "--normalize", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(done.stderr, end="", file=sys.stderr)
    got = [np.array(entry["embedding"], dtype=np.float32) for entry in json.loads(done.stdout)["texts"]]
    off = max(float(np.abs(a - b).max()) for a, b in zip(want, got, strict=True))
    least = min(float(np.dot(a, b)) for a, b in zip(want, got, strict=True))
    print(f"{len(lines)} texts: numbers differ by at most {off:.2e}; the least cosine between the two is {least:.9f}")
    return off


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=pathlib.Path, default=GOLDEN, help="where the models are written (fixtures/parity)")
    arguments.add_argument("--model", type=pathlib.Path, help="compare codex on this folder, and write nothing")
    arguments.add_argument("--texts", type=pathlib.Path, help="a file of lines")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    if chosen.model:
        sys.exit(1 if compare(chosen.model, chosen.texts) > 1e-5 else 0)
    # Made beside the place first: a model without teeth must leave what is there.
    with tempfile.TemporaryDirectory() as temporary:
        fresh = pathlib.Path(temporary)
        for spec in MODELS:
            folder = write_model(*spec, fresh)
            print(f"{spec[0]:12} {sum(path.stat().st_size for path in folder.iterdir()):7} bytes")
        for folder in sorted(fresh.iterdir()):
            shutil.rmtree(chosen.out / folder.name, ignore_errors=True)
            shutil.copytree(folder, chosen.out / folder.name)
    write_manifest(chosen.out, [spec[0] for spec in MODELS])


if __name__ == "__main__":
    main()
