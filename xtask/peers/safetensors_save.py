#!/usr/bin/env python3
"""The tensors of a checkpoint saved by safetensors from numpy, with fsync: a reference in `cargo xtask bench checkpoint`.

Needs `pip install safetensors numpy` in any virtual environment. Reading is not timed. Prints one JSON line.
"""
import argparse, json, os, pathlib, time
from safetensors.numpy import load_file, save_file

p = argparse.ArgumentParser()
p.add_argument("source", type=pathlib.Path); p.add_argument("target", type=pathlib.Path)
a = p.parse_args()
names = ["model.safetensors", "optimizer.safetensors"]
tensors = [load_file(a.source / name) for name in names]


def sync(path):
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


t0 = time.perf_counter()
a.target.mkdir(parents=True)
for name, group in zip(names, tensors):
    save_file(group, a.target / name, metadata={"format": "pt"})
    sync(a.target / name)
sync(a.target)
sync(a.target.parent)
seconds = time.perf_counter() - t0
print(json.dumps({"bytes": sum((a.target / name).stat().st_size for name in names), "seconds": round(seconds, 4)}))
