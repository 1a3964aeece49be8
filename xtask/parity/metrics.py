#!/usr/bin/env python3
"""Metrics of texts and probabilities: what sacrebleu, rouge-score, scikit-learn and numpy compute, for codex-eval's `text` to be held to.

Needs `pip install sacrebleu rouge-score scikit-learn numpy blake3` in any virtual environment, and no network. It makes pairs of texts from the novels of
fixtures/corpus and writes them with the values that the packages give to fixtures/parity/metrics.json, which the Rust test
crates/codex-eval/tests/it/text.rs reads; with `--check` nothing is written, and what is there is computed again. Metrics of SQuAD and distinct-n are in no
package: they are written here from the procedures that their authors published, the way of the packages' code, not codex's.

The pairs: of each novel 90 sentences of 25 to 170 characters, evenly spaced, each with the sentence behind it. Sentence number i is a prediction after the
i mod 15 th change of CHANGES; the reference is the sentence itself, or the next one where the change is `next`; every seventh has the next one as a second
reference. ODD stands behind them. Every value is tried with the setting that a wrong reading of the packages would use (WRONG): the value of the corpus
must move by more than TEETH, or nothing is written.
"""
import importlib.metadata, json, logging, math, pathlib, re, string, sys, warnings
from collections import Counter

try:
    import blake3, numpy as np, sklearn.calibration, sklearn.metrics as sk
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF
except ImportError as error:
    print(f"PACKAGE ABSENT: {error.name}. Nothing was compared. Install: pip install sacrebleu rouge-score scikit-learn numpy blake3", file=sys.stderr)
    sys.exit(3)

# They advise on settings that are tried on purpose.
logging.getLogger("sacrebleu").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
ROOT = pathlib.Path(__file__).resolve().parents[2]
PARITY = ROOT / "fixtures/parity"
GOLDEN = PARITY / "metrics.json"
PACKAGES = ["sacrebleu", "rouge-score", "nltk", "scikit-learn", "numpy"]
TEETH, TOLERANCE = 1e-3, 1e-9


# The pairs.

def sentences(path):
    text = re.sub(r"\s+", " ", path.read_text())
    return [found for found in re.split(r"(?<=[.!?;])\s", text) if 25 <= len(found) <= 170]


def pieces(text, i):
    """The text on several lines, the lines turned round by i."""
    lines = [line for line in re.split(r"(?<=[,;:])\s", text) if line]
    return "\n".join(lines[i % len(lines):] + lines[:i % len(lines)])


ODD_LETTERS = str.maketrans({"'": "\u2019", '"': "\u201d", "e": "\u00e9", "-": "\u2014", "o": "o\u0308"})
CHANGES = [
    ("next", lambda t, i: t),
    ("same", lambda t, i: t),
    ("words dropped", lambda t, i: " ".join(w for k, w in enumerate(t.split()) if k % 4 != i % 4)),
    ("words doubled", lambda t, i: " ".join(f"{w} {w}" if k % 5 == i % 5 else w for k, w in enumerate(t.split()))),
    ("neighbours swapped", lambda t, i: " ".join(w for k in range(0, len(t.split()), 2) for w in t.split()[k:k + 2][::-1])),
    ("other punctuation", lambda t, i: t.translate(str.maketrans({",": "", ".": "!", ";": " ...", "-": " - ", "'": ""}))),
    ("capitals", lambda t, i: t.upper() if i % 2 else t.title()),
    ("odd characters", lambda t, i: t.translate(ODD_LETTERS).replace(" ", "\u00a0", 1).replace(" ", " \u200b", 1)),
    ("first half", lambda t, i: t[:len(t) // 2]),
    ("lines", pieces),
    ("numbers", lambda t, i: " ".join(f"{w} {k},{i}00.{k}-{k}" if k % 6 == 2 else w for k, w in enumerate(t.split()))),
    ("entities", lambda t, i: t.replace(" and ", " &amp; ").replace("the", "&quot;the&quot; <skipped>", 1).replace(" ", "-\n", 1)),
    ("words turned round", lambda t, i: " ".join(t.split()[::-1])),
    ("letters dropped", lambda t, i: "".join(c for k, c in enumerate(t) if k % 9 != i % 9)),
    ("spaces", lambda t, i: "  " + t.replace(" ", "   ").replace(" ", "\t", 1) + " \x1c\n"),
]
ODD = [
    ("", ["Elizabeth"]), ("Elizabeth", [""]), ("", [""]), (" \n", ["a"]), ("the", ["The!"]), ("a", ["b"]), ("x", ["x"]), ("Anne", ["anne", "Anne."]),
    ("an apple, the", ["Apple"]), ("!!!", ["..."]), ("\u201cThe\u201d end\u2019s", ["the \u201cend\u201d\u2019s"]), ("Emma Woodhouse", ["Emma"]), ("no", ["yes", "no", "maybe"]),
    ("one two three", ["one two three"]), ("one two three four", ["one two three four", ""]), ("\u0130stanbul \u1e9e \u03a3\u03a3", ["i\u0307stanbul \u00df \u03c3\u03c2"]),
    ("\u5b57\u6f22\u5b57 \u304b\u306a\u3002", ["\u5b57\u6f22\u5b57\u304b\u306a"]), ("\U0001f980\U0001f980 crab", ["\U0001f980 crab"]), ("1,000.5", ["1000.5", "1,000.50"]),
    ("the the the the", ["the cat the mat"]), ("a\nb\n\nc a", ["a b c\na\n"]), ("Mr. Darcy's (very) well-known 3-4 %", ["Mr Darcy's very well known 3 - 4%"]),
    ("well-\nknown\nthing", ["well-known thing"]), ("flies died happily dying generally theology running sensibilities hopefulness hopefully", ["fly dies happy die general theological runner sensible hopeful hopes"]),
    ("\x1f", ["\x85\u3000"]), ("a_b the-re", ["ab there"]), ("Anne was there today", ["Anne was there today too", "Anne was there"]), ("\u00e9", ["e\u0301"]),
]


def make_pairs():
    pairs, kinds = [], []
    files = sorted((ROOT / "fixtures/corpus").glob("*/*.txt"))
    for number, path in enumerate(files):
        found = sentences(path)
        step = len(found) // 90
        for k in range(90):
            i = number * 90 + k
            text, behind = found[k * step], found[k * step + 1]
            name, change = CHANGES[i % len(CHANGES)]
            references = [behind] if name == "next" else [text]
            if i % 7 == 0 and name != "next":
                references.append(behind)
            if name == "lines":
                references = [reference.replace(", ", ",\n") for reference in references]
            pairs.append((change(text, i // len(CHANGES)), references))
            kinds.append(name)
    return pairs + ODD, kinds


# Those that no package has, as their authors' procedures say.

def squad_normal(text):
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(prediction, reference):
    said, wanted = squad_normal(prediction).split(), squad_normal(reference).split()
    if not said or not wanted:
        return float(said == wanted)
    same = sum((Counter(said) & Counter(wanted)).values())
    return 2 * same / (len(said) + len(wanted)) if same else 0.0


def distinct(texts, n):
    runs = [tuple(words[k:k + n]) for words in map(str.split, texts) for k in range(len(words) - n + 1)]
    return len(set(runs)) / len(runs) if runs else 0.0


# The packages.

def of_corpus(metric, sentence, pairs):
    most = max(len(references) for _, references in pairs)
    columns = [[references[k] if k < len(references) else None for _, references in pairs] for k in range(most)]
    return {"value": metric.corpus_score([prediction for prediction, _ in pairs], columns).score,
            "per_record": [sentence.sentence_score(prediction, references).score for prediction, references in pairs]}


def mean(values):
    return {"value": math.fsum(values) / len(values), "per_record": values}


def text_metrics(pairs):
    found = {
        "exact_match": mean([max(float(squad_normal(r) == squad_normal(p)) for r in rs) for p, rs in pairs]),
        "f1": mean([max(squad_f1(p, r) for r in rs) for p, rs in pairs]),
        "bleu": of_corpus(BLEU(), BLEU(effective_order=True), pairs),
        "chrf": of_corpus(CHRF(), CHRF(), pairs),
        "chrf++": of_corpus(CHRF(word_order=2), CHRF(word_order=2), pairs),
    }
    found["sentence_bleu"] = mean(found["bleu"]["per_record"])
    rouge = {}
    for suffix, stem in [("", False), ("_stemmed", True)]:
        names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
        scorer = RougeScorer(names, use_stemmer=stem)
        scores = [scorer.score_multi(references, prediction) for prediction, references in pairs]
        for name in names:
            found[name + suffix] = mean([float(score[name].fmeasure) for score in scores])
            rouge[name + suffix] = {side: [float(getattr(score[name], side)) for score in scores] for side in ["precision", "recall"]}
    for n in [1, 2]:
        found[f"distinct{n}"] = {"value": distinct([p for p, _ in pairs], n), "per_record": [distinct([p], n) for p, _ in pairs]}
    return found, rouge


def wrong_settings(pairs):
    """The values of the corpus under settings that are not the default, by metric."""
    value = lambda metric: of_corpus(metric, metric, pairs)["value"]
    sentence = lambda metric: math.fsum(metric.sentence_score(p, rs).score for p, rs in pairs) / len(pairs)
    first = [(p, rs[:1]) for p, rs in pairs]
    last = [(p, rs[-1:]) for p, rs in pairs]
    scored = lambda metric, pairs: of_corpus(metric, metric, pairs)["value"]
    return {
        "bleu": {"lowercase": value(BLEU(lowercase=True)), "tokenize none": value(BLEU(tokenize="none")), "tokenize intl": value(BLEU(tokenize="intl")),
                 "order 3": value(BLEU(max_ngram_order=3)), "first reference": scored(BLEU(), first), "last reference": scored(BLEU(), last)},
        "sentence_bleu": {"floor": sentence(BLEU(smooth_method="floor", effective_order=True)), "add-k": sentence(BLEU(smooth_method="add-k", effective_order=True)),
                          "none": sentence(BLEU(smooth_method="none", effective_order=True)), "every order": sentence(BLEU())},
        "chrf": {"beta 1": value(CHRF(beta=1)), "beta 3": value(CHRF(beta=3)), "order 5": value(CHRF(char_order=5)), "whitespace": value(CHRF(whitespace=True)),
                 "lowercase": value(CHRF(lowercase=True)), "first reference": scored(CHRF(), first)},
        "chrf++": {"beta 1": value(CHRF(word_order=2, beta=1)), "beta 3": value(CHRF(word_order=2, beta=3)), "chrF+": value(CHRF(word_order=1)),
                   "whitespace": value(CHRF(word_order=2, whitespace=True))},
        "rouge1": {"stemmed": math.fsum(RougeScorer(["rouge1"], use_stemmer=True).score_multi(rs, p)["rouge1"].fmeasure for p, rs in pairs) / len(pairs)},
        "rougeLsum": {"one line": math.fsum(RougeScorer(["rougeL"]).score_multi(rs, p)["rougeL"].fmeasure for p, rs in pairs) / len(pairs)},
    }


# Numbers, from the same texts.

def splitmix(state):
    """Sebastiano Vigna's splitmix64, as numbers in [0, 1) of 53 bits."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        yield ((z ^ z >> 31) >> 11) / 2**53


def numbers(pairs, found):
    out = {}
    # How sure: the share of words that are right, and edges of bins; too sure of the lower half of them and not sure enough of the upper one.
    draw = splitmix(7)
    confidences = [round(value, 4) for value in found["rouge1"]["per_record"]] + [k / 15 for k in range(16)] + [k * (1 / 15) for k in range(1, 15)]
    right = [next(draw) < c * c * (3 - 2 * c) for c in confidences]
    bins = np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidences)
    shares, means = sklearn.calibration.calibration_curve(right, confidences, n_bins=15)
    counts = np.bincount(bins, minlength=15)
    distances = np.abs(shares - means)
    out["calibration"] = {
        "confidences": confidences, "right": [int(r) for r in right], "counts": counts.tolist(), "accuracy": shares.tolist(), "confidence": means.tolist(),
        "ece": float(np.average(distances, weights=counts[counts > 0])), "mce": float(distances.max()), "brier": float(sk.brier_score_loss(right, confidences)),
    }
    rows, answers = [], []
    for prediction, (reference, *_) in pairs[:60]:
        tally = np.array([prediction.lower().count(vowel) + 1 for vowel in "aeo"], dtype=float)
        rows.append((tally / tally.sum()).tolist())
        answers.append(int(np.argmax([reference.lower().count(vowel) for vowel in "aeo"])))
    out["brier_classes"] = {"probabilities": rows, "answers": answers, "brier": float(sk.brier_score_loss(answers, rows, labels=[0, 1, 2], scale_by_half=False))}
    initial = lambda text: (re.findall(r"[a-z]", text.lower()) or ["?"])[0]
    sets = {"letters": ([initial(rs[0]) for _, rs in pairs], [initial(p) for p, _ in pairs]),
            "binary": ([int("the" in rs[0]) for _, rs in pairs], [int("the" in p) for p, _ in pairs]),
            "one label": ([1, 1, 1], [1, 1, 1]), "always one": ([0, 1, 1], [1, 1, 1])}
    out["classes"] = {}
    for name, (truth, said) in sets.items():
        labels = sorted(set(truth) | set(said))
        by_label = sk.precision_recall_fscore_support(truth, said, labels=labels, zero_division=0)
        out["classes"][name] = {
            "truth": [str(t) for t in truth], "predicted": [str(s) for s in said], "labels": [str(label) for label in labels],
            "confusion": sk.confusion_matrix(truth, said, labels=labels).tolist(), "accuracy": float(sk.accuracy_score(truth, said)),
            "macro_f1": float(sk.f1_score(truth, said, labels=labels, average="macro", zero_division=0)),
            "micro_f1": float(sk.f1_score(truth, said, labels=labels, average="micro", zero_division=0)), "matthews": float(sk.matthews_corrcoef(truth, said)),
            "precision": by_label[0].tolist(), "recall": by_label[1].tolist(), "f1": by_label[2].tolist(), "support": by_label[3].tolist(),
        }
    # Choices: the right one is the reference, and three others are predictions; likelihoods fall with the length, and less where words are right.
    draw = splitmix(11)
    questions, chosen = [], []
    for k in range(0, 120, 2):
        texts = [pairs[k + j][1][0] if j == k // 2 % 4 else pairs[k + j + 1][0] or "-" for j in range(4)]
        lls = [round(-len(t.encode()) * (0.6 + 0.5 * next(draw)) + (8 * next(draw) if j == k // 2 % 4 else 0), 4) for j, t in enumerate(texts)]
        lengths = [[len(t) for t in texts], [len(t.encode()) for t in texts], [len(re.findall(r"\w+|\S", t)) for t in texts]]
        questions.append({"log_likelihoods": lls, "lengths": lengths, "answer": k // 2 % 4})
        chosen.append([int(np.argmax(lls))] + [int(np.argmax(np.array(lls) / np.array(n, dtype=float))) for n in lengths])
    gold = np.array([question["answer"] for question in questions])
    out["choices"] = {"questions": questions, "chosen": chosen, "accuracy": [float(np.mean(np.array(chosen)[:, k] == gold)) for k in range(4)]}
    values = np.array(found["chrf"]["per_record"])
    draw, n = splitmix(42), len(values)
    means = [values[[int(next(draw) * n) for _ in range(n)]].mean() for _ in range(1000)]
    out["bootstrap"] = {"seed": 42, "mean": float(values.mean()), "interval": {str(level): np.percentile(means, [50 - 50 * level, 50 + 50 * level]).tolist() for level in [0.95, 0.8]}}
    return out


# The file.

def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(entry) for entry in value]
    return int(value) if isinstance(value, float) and value == int(value) else value


def short(value):
    """Nine decimals: the tolerance of the Rust test is 1e-6."""
    if isinstance(value, dict):
        return {key: short(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [short(entry) for entry in value]
    return round(value, 9) if isinstance(value, float) else value


def golden():
    pairs, kinds = make_pairs()
    found, rouge = text_metrics(pairs)
    wrong = wrong_settings(pairs)
    for metric, settings in wrong.items():
        for name, value in settings.items():
            assert abs(value - found[metric]["value"]) > TEETH, f"{metric} is {value} under `{name}` too"
    texts = sorted({text for prediction, references in pairs for text in [prediction, *references]})
    place = {text: k for k, text in enumerate(texts)}
    rows = [[place[prediction]] + [place[reference] for reference in references] for prediction, references in pairs]
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    data = numbers(pairs, found)
    inputs = {"confidences": data["calibration"].pop("confidences"), "probabilities": data["brier_classes"].pop("probabilities")}
    parts = {"from": versions, "texts": texts, "pairs": rows, "metrics": short(found), "rouge": short(rouge), "wrong": short(wrong), "numbers": short(data), "inputs": inputs}
    return rounded(parts), Counter(kinds)


def differences(want, have, where=""):
    """The places at which two values are further apart than the rounding."""
    if isinstance(want, dict) and isinstance(have, dict) and want.keys() == have.keys():
        return [place for key in want for place in differences(want[key], have[key], f"{where}/{key}")]
    if isinstance(want, list) and isinstance(have, list) and len(want) == len(have):
        return [place for k, (a, b) in enumerate(zip(want, have)) for place in differences(a, b, f"{where}/{k}")]
    numeric = isinstance(want, (int, float)) and isinstance(have, (int, float))
    return [] if (abs(want - have) <= 2 * TOLERANCE if numeric else want == have) else [where]


def write_manifest():
    path = PARITY / "manifest.json"
    manifest = json.loads(path.read_text())
    data = GOLDEN.read_bytes()
    row = {"path": GOLDEN.name, "bytes": len(data), "blake3": blake3.blake3(data).hexdigest()}
    manifest["files"] = sorted([kept for kept in manifest["files"] if kept["path"] != GOLDEN.name] + [row], key=lambda row: row["path"].split("/"))
    path.write_text(json.dumps(manifest, indent=2) + "\n")


def main():
    fresh, kinds = golden()
    for name, scores in fresh["metrics"].items():
        print(f"{name:18} {scores['value']:.9f} of {len(scores['per_record'])} records")
    print(f"{len(fresh['pairs'])} pairs: {', '.join(f'{n} {kind}' for kind, n in kinds.items())}, {len(ODD)} odd ones")
    print("beside " + ", ".join(f"{package} {version}" for package, version in fresh["from"].items()))
    if "--check" not in sys.argv:
        text = json.dumps(fresh, ensure_ascii=True, separators=(",", ":"))
        for part in ["texts", "pairs", "metrics", "rouge", "wrong", "numbers", "inputs"]:
            text = text.replace(f',"{part}":', f',\n"{part}":', 1)
        GOLDEN.write_text(text + "\n")
        write_manifest()
        print(f"{GOLDEN.stat().st_size} bytes written")
        return
    stored = json.loads(GOLDEN.read_text())
    failed = 0
    for part in fresh:
        if part == "from":
            continue
        wrong = differences(fresh[part], stored.get(part), part)
        failed += bool(wrong)
        print(f"{'FAIL' if wrong else 'ok  '} {part} {wrong[:3] if wrong else ''}".rstrip())
    print(f"{len(fresh) - 1 - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
