#!/usr/bin/env python3
"""What codex shows to Prometheus, read by the tools that read it: `prometheus.py URL_OR_FILE… [--strict]`.

A URL (`http://127.0.0.1:9464/metrics`) is fetched in both formats, checked by `promtool check metrics`, parsed by Python's prometheus_client, and scraped
by a Prometheus server that is started for it and stopped again. A `.prom` file is checked and parsed; a `prometheus.ndjson` has its lines checked. Needs
prometheus_client in the Python that runs it, and `promtool` and `prometheus` on the PATH or named by the variables PROMTOOL and PROMETHEUS (Debian has
both in its package `prometheus`). For something to read: `cargo run -p codex-track --example exposed_run -- FOLDER ADDRESS FILE.prom`.

A JSON line for each reader: {"reader", "version", "passed", "failed": […], "absent": reason or null}. The exit status is 0 only if nothing failed; with
`--strict` a reader that is absent fails too.
"""
import json, math, os, pathlib, re, shutil, socket, subprocess, sys, tempfile, time, urllib.parse, urllib.request

TEXT = "text/plain;version=0.0.4"
OPEN = "application/openmetrics-text;version=1.0.0"
# What a run that has taken a step always shows, as series are named.
EXPECTED = [
    "codex_train_step", "codex_train_loss", "codex_train_tokens_total", "codex_learning_rate", "codex_gradient_norm", "codex_tokens_per_second",
    "codex_validation_loss", "codex_checkpoints_total", "codex_checkpoint_age_seconds", "process_cpu_seconds_total", "process_resident_memory_bytes",
    "process_start_time_seconds", "process_open_fds", "process_threads",
]


class Reader:
    def __init__(self, name, version=None):
        self.name, self.version, self.passed, self.failed, self.absent = name, version, 0, [], None

    def check(self, ok, what):
        if ok:
            self.passed += 1
        else:
            self.failed.append(what)

    def line(self):
        return json.dumps({"reader": self.name, "version": self.version, "passed": self.passed, "failed": self.failed, "absent": self.absent})


def tool(name):
    path = os.environ.get(name.upper()) or shutil.which(name)
    reader = Reader(name)
    if not path:
        reader.absent = f"no `{name}` on the PATH, and {name.upper()} is not set"
        return reader, None
    said = subprocess.run([path, "--version"], capture_output=True, text=True)
    found = re.search(r"version (\S+)", said.stdout + said.stderr)
    reader.version = found.group(1) if found else None
    return reader, path


def fetch(url, accept):
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def promtool(source, text):
    reader, path = tool("promtool")
    if path:
        said = subprocess.run([path, "check", "metrics"], input=text, capture_output=True, text=True)
        reader.check(said.returncode == 0, f"{source}: exit {said.returncode}: {said.stderr.strip()} {said.stdout.strip()}")
        reader.check(not said.stderr.strip(), f"{source}: {said.stderr.strip()}")
    return reader


def values(families):
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def python(source, text, open_text):
    import importlib.metadata
    try:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
        from prometheus_client.parser import text_string_to_metric_families as parse_text
    except ImportError as error:
        reader = Reader("prometheus_client")
        reader.absent = str(error)
        return reader
    reader = Reader("prometheus_client", importlib.metadata.version("prometheus_client"))
    found = {}
    for name, parse, content in [("text", parse_text, text), ("openmetrics", parse_open, open_text)]:
        if content is None:
            continue
        try:
            families = list(parse(content))
        except Exception as error:
            reader.check(False, f"{source}: {name}: {error!r}")
            continue
        found[name] = values(families)
        names = {key[0] for key in found[name]}
        for expected in EXPECTED:
            reader.check(expected in names, f"{source}: {name}: {expected} is not there")
        for family in families:
            reader.check(family.documentation and family.type in ("gauge", "counter"), f"{source}: {name}: {family.name} has no help or type")
            for sample in family.samples:
                reader.check(bool(sample.labels.get("run")), f"{source}: {name}: {sample.name} has no label `run`")
    if len(found) == 2:
        reader.check(set(found["text"]) == set(found["openmetrics"]), f"{source}: the formats have different series")
        steady = [key for key in found["text"] if not key[0].startswith(("process_", "codex_process_", "codex_checkpoint_age"))]
        for key in steady:
            a, b = found["text"][key], found["openmetrics"].get(key)
            reader.check(a == b or (b is not None and math.isnan(a) and math.isnan(b)), f"{source}: {key}: {a} and {b}")
    return reader


def server(url):
    reader, path = tool("prometheus")
    if not path:
        return reader
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parts = urllib.parse.urlsplit(url)
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "prometheus.yml"
        job = {"job_name": "codex", "metrics_path": parts.path, "static_configs": [{"targets": [parts.netloc]}]}
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
        with open(pathlib.Path(folder) / "log", "w+") as log:
            process = subprocess.Popen([path, *arguments], stdout=log, stderr=log)
            try:
                ask = lambda query: json.loads(fetch(f"http://127.0.0.1:{port}/api/v1/{query}", "application/json")[1])["data"]
                until = time.monotonic() + 60
                targets = []
                while time.monotonic() < until and process.poll() is None:
                    try:
                        targets = ask("targets")["activeTargets"]
                        if targets and targets[0]["lastScrape"][:4] != "0001":
                            break
                    except OSError:
                        pass
                    time.sleep(0.3)
                ok = bool(targets) and targets[0]["health"] == "up"
                reader.check(ok, f"{url}: not scraped: {targets and targets[0].get('lastError')}")
                for name in EXPECTED if ok else []:
                    result = ask("query?" + urllib.parse.urlencode({"query": name}))["result"]
                    reader.check(bool(result) and all(one["metric"].get("run") for one in result), f"{url}: {name} is not stored")
                for name, kind in [("codex_train_tokens_total", "counter"), ("codex_train_loss", "gauge")] if ok else []:
                    known = ask("metadata?" + urllib.parse.urlencode({"metric": name}))
                    known = known or ask("metadata?" + urllib.parse.urlencode({"metric": name.removesuffix("_total")}))
                    kinds = [one["type"] for all_ in known.values() for one in all_]
                    reader.check(kind in kinds, f"{url}: {name} is stored as {kinds}")
            finally:
                process.terminate()
                process.wait(timeout=30)
    return reader


def ndjson(path):
    reader = Reader("json", sys.version.split()[0])
    names = set()
    for number, line in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
        record = json.loads(line)
        names.add(record["metric"])
        ok = set(record) == {"metric", "kind", "value", "labels", "description", "ts"} and record["kind"] in ("gauge", "counter")
        reader.check(ok and (record["kind"] == "counter") == record["metric"].endswith("_total"), f"{path}:{number}: {line}")
    for name in EXPECTED:
        reader.check(name in names, f"{path}: {name} is not there")
    return reader


def main():
    sources = [argument for argument in sys.argv[1:] if argument != "--strict"]
    if not sources:
        sys.exit(__doc__)
    readers = []
    for source in sources:
        if source.startswith("http"):
            served = Reader("http", sys.version.split()[0])
            kind, text = fetch(source, TEXT)
            served.check(kind.startswith("text/plain; version=0.0.4"), f"{source}: {kind} for {TEXT}")
            kind, open_text = fetch(source, OPEN)
            served.check(kind.startswith("application/openmetrics-text; version=1.0.0"), f"{source}: {kind} for {OPEN}")
            readers += [served, promtool(source, text), python(source, text, open_text), server(source)]
        elif source.endswith(".ndjson"):
            readers.append(ndjson(source))
        else:
            text = pathlib.Path(source).read_text()
            readers += [promtool(source, text), python(source, text, None)]
    for reader in readers:
        print(reader.line())
    strict = "--strict" in sys.argv
    sys.exit(any(reader.failed or (strict and reader.absent) for reader in readers))


if __name__ == "__main__":
    main()
