#!/usr/bin/env python3
"""Whether the JSON Schema of codex-config's test types is one that other validators take, and judges a good and a bad file rightly.

    python xtask/interop/config_schema.py

Needs Python 3.11 and `pip install jsonschema`; with `pip install check-jsonschema taplo` their programs are asked too.
"""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "codex-config" / "schema"
# Where the bad file is wrong, one for each rule of the schema.
WRONG = {"sed", "model.d_model", "model.tied", "train.betas", "train.schedule", "train.lora.rank"}


def main():
    schema = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good, bad = (tomllib.loads((FOLDER / name).read_text(encoding="utf-8")) for name in ("good.toml", "bad.toml"))
    errors = [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(good)]
    assert not errors, errors
    found = set()
    for error in validator.iter_errors(bad):
        path = [str(part) for part in error.path]
        if error.validator in ("additionalProperties", "required"):
            path.append(error.message.split("'")[1])
        found.add(".".join(path))
    assert found == WRONG, f"missed {WRONG - found}, told besides {found - WRONG}"
    print(f"jsonschema {importlib.metadata.version('jsonschema')}: good.toml is valid, bad.toml is wrong at {len(found)} places")
    schema_file = FOLDER / "schema.json"
    programs = {
        "check-jsonschema": lambda path: ["check-jsonschema", "--schemafile", str(schema_file), str(path)],
        "taplo": lambda path: ["taplo", "lint", "--schema", schema_file.as_uri(), str(path)],
    }
    for name, command in programs.items():
        if shutil.which(name) is None and not (Path(sys.executable).parent / name).exists():
            print(f"{name}: not installed, not asked")
            continue
        codes = []
        for file in ("good.toml", "bad.toml"):
            words = command(FOLDER / file)
            words[0] = shutil.which(name) or str(Path(sys.executable).parent / name)
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            codes.append(done.returncode)
        assert codes[0] == 0 and codes[1] != 0, f"{name}: exit codes {codes}: {done.stdout} {done.stderr}"
        print(f"{name}: takes good.toml, refuses bad.toml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
