#!/usr/bin/env python3
"""A trace of codex, read as Chrome's trace viewer and Perfetto read it: `trace.py TRACE.json… [--strict]`.

Checks the fields of each event as the Trace Event Format has them, and that the spans of a thread lie inside each other or apart. An array without its end,
as a killed process leaves it, is read as those readers read it. Where Perfetto's trace processor is to be had (its program in TRACE_PROCESSOR, and
`pip install perfetto`), it counts the slices too. Prints a JSON line for each reader, as prometheus.py does.
"""
import importlib.metadata, json, os, pathlib, sys


def events(text):
    try:
        return json.loads(text), True
    except ValueError:
        return json.loads(text + "]"), False


def check(path):
    reader = {"reader": "json", "version": sys.version.split()[0], "passed": 0, "failed": [], "absent": None}

    def note(ok, what):
        if ok:
            reader["passed"] += 1
        else:
            reader["failed"].append(f"{path}: {what}")

    found, is_whole = events(pathlib.Path(path).read_text())
    reader["whole"] = is_whole
    by_thread = {}
    for event in found:
        note(event.get("ph") in ("X", "M", "i") and isinstance(event.get("name"), str) and isinstance(event.get("pid"), int), f"{event}")
        if event["ph"] == "X":
            note(event["ts"] >= 0 and event["dur"] >= 0, f"{event}")
            by_thread.setdefault((event["pid"], event["tid"]), []).append(event)
    note(bool(by_thread), "no span")
    named = {(event["pid"], event["tid"]) for event in found if event["ph"] == "M" and event["name"] == "thread_name"}
    for thread, spans in by_thread.items():
        note(thread in named, f"thread {thread} has no name")
        open_ = []
        for span in sorted(spans, key=lambda span: (span["ts"], -span["dur"])):
            start, end = span["ts"], span["ts"] + span["dur"]
            # Times are whole nanoseconds, each rounded by itself.
            while open_ and open_[-1] <= start + 0.002:
                open_.pop()
            note(not open_ or end <= open_[-1] + 0.002, f"{span['name']} at {start} ends after the span around it")
            open_.append(end)
    return reader, sum(len(spans) for spans in by_thread.values())


def perfetto(path, n_spans):
    reader = {"reader": "perfetto", "version": None, "passed": 0, "failed": [], "absent": None}
    program = os.environ.get("TRACE_PROCESSOR")
    if not program:
        reader["absent"] = "TRACE_PROCESSOR names no program of Perfetto's trace processor"
        return reader
    try:
        from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig
    except ImportError as error:
        reader["absent"] = str(error)
        return reader
    reader["version"] = importlib.metadata.version("perfetto")
    with TraceProcessor(trace=path, config=TraceProcessorConfig(bin_path=program)) as processor:
        n = next(iter(processor.query("select count(*) as n from slice"))).n
    if n >= n_spans:
        reader["passed"] += 1
    else:
        reader["failed"].append(f"{path}: {n} slices of {n_spans} spans")
    return reader


def main():
    paths = [argument for argument in sys.argv[1:] if argument != "--strict"]
    if not paths:
        sys.exit(__doc__)
    readers = []
    for path in paths:
        reader, n_spans = check(path)
        readers += [reader, perfetto(path, n_spans)]
    for reader in readers:
        print(json.dumps(reader))
    sys.exit(any(reader["failed"] or ("--strict" in sys.argv and reader["absent"]) for reader in readers))


if __name__ == "__main__":
    main()
