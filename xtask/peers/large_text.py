#!/usr/bin/env python3
"""A large text to try memory with: `large_text.py GIGABYTES FILE`, JSON Lines of the novels of fixtures/corpus, each document with ten random words of its own.

Needs nothing but Python. The same bytes each time; 10 gigabytes take two to three minutes.
"""
import json, pathlib, random, sys

paragraphs = []
for novel in sorted((pathlib.Path(__file__).resolve().parents[2] / "fixtures/corpus/train").glob("*.txt")):
    document = ""
    for paragraph in novel.read_text(encoding="utf-8").split("\n\n"):
        document += paragraph + "\n\n"
        if len(document) > 4000:
            paragraphs.append(json.dumps(document)[1:-1])
            document = ""
random.seed(5)
goal, size, number = int(float(sys.argv[1]) * 1e9), 0, 0
with open(sys.argv[2], "w", buffering=1 << 20) as out:
    while size < goal:
        bits = random.getrandbits(320)
        digits = f"{bits:080x}"
        words = " ".join(digits[i:i + 8] for i in range(0, 80, 8))
        line = f'{{"text": "[doc {number}] {words}\\n{paragraphs[bits % len(paragraphs)]}"}}\n'
        out.write(line)
        size, number = size + len(line), number + 1
print(f"{number} documents, {size} bytes")
