#!/usr/bin/env python3
"""A text searched for patterns by Python's `re`, one after the other: a peer of `cargo xtask bench safety`. Prints one JSON line."""
import argparse, json, pathlib, re, sys, time

p = argparse.ArgumentParser()
p.add_argument("text", type=pathlib.Path); p.add_argument("patterns", type=pathlib.Path)
a = p.parse_args()
text = a.text.read_text(encoding="utf-8")
patterns = [re.compile(line) for line in a.patterns.read_text().splitlines()]
t0 = time.perf_counter()
matches = sum(sum(1 for _ in pattern.finditer(text)) for pattern in patterns)
print(json.dumps({"peer": f"Python {sys.version.split()[0]} re", "patterns": len(patterns), "matches": matches,
                  "seconds": round(time.perf_counter() - t0, 4)}))
