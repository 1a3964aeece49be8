"""The JSON Schema of codex configurations, read by `jsonschema` from PyPI (pip install jsonschema).

Usage: python xtask/interop/schema.py CODEX_CLI [--strict]

Every configuration that ships must fit the schema, and each of the wrong ones below must not, with the error at the right key.
Prints one JSON line per reader.
"""

import json
import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A wrong file, and the path of the key at which the validator has to see it.
WRONG = [
    ("[train]\nsteps = 'many'\n", ["train", "steps"]),
    ("[train]\nlerning_rate = 1e-3\n", ["train"]),
    ("[tokeniser]\nvocab_size = 300\n", []),
    ("[safety]\nsecrets = 'maybe'\n", ["safety", "secrets"]),
    ("[model]\nn_layers = -1\n", ["model", "n_layers"]),
    ("run = 3\n", ["run"]),
]


def main():
    codex = sys.argv[1]
    line = {"reader": "jsonschema", "version": None, "passed": 0, "failed": []}
    try:
        import jsonschema
        from importlib.metadata import version
    except ImportError:
        line["absent"] = f"no jsonschema in `{sys.executable}`: run `{sys.executable} -m pip install jsonschema`"
        print(json.dumps(line))
        return 1 if "--strict" in sys.argv else 0
    line["version"] = version("jsonschema")
    schema = json.loads(subprocess.run([codex, "config", "schema"], capture_output=True, check=True, text=True).stdout)

    def check(what, right):
        if right:
            line["passed"] += 1
        else:
            line["failed"].append(what)

    validator = jsonschema.validators.validator_for(schema)
    try:
        validator.check_schema(schema)
        check("the schema is one", True)
    except jsonschema.SchemaError as error:
        check(f"the schema is none: {error.message}", False)
    check(f"it is of draft 2020-12 ({schema.get('$schema')})", "2020-12" in schema.get("$schema", ""))
    validator = validator(schema)
    for path in sorted((ROOT / "configs").rglob("*.toml")):
        errors = [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(tomllib.loads(path.read_text()))]
        check(f"{path.relative_to(ROOT)}: {errors}", not errors)
    for text, at in WRONG:
        places = [list(error.absolute_path) for error in validator.iter_errors(tomllib.loads(text))]
        check(f"{text!r} is seen at {places}, expected {at}", at in places)
    print(json.dumps(line))
    return 1 if line["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
