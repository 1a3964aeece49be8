#!/usr/bin/env python3
"""What the real programs read of a run folder: every value of metrics.ndjson once and no other, the texts, the configuration and how the run ended.

    python xtask/interop/tracking.py RUN_FOLDER [--strict]

Prints one line of JSON for each reader: reader, version, passed, failed, absent. A reader that is not installed, or whose format the run does not have, is
`absent` with the reason, also said on stderr. The exit code is 1 when a check failed, and with --strict also when a reader was absent. Needs
`pip install tensorboard mlflow wandb` for the readers of those; no network beyond loopback is used.
"""
import csv, importlib.metadata, json, logging, math, os, pathlib, re, shutil, subprocess, sys, tempfile, time, urllib.parse, urllib.request

logging.disable(logging.CRITICAL)
BIN = pathlib.Path(sys.executable).parent
WAIT_SECONDS = 120
# A page that TensorBoard or MLflow serves may not go through a proxy.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def number(value):
    return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}[value] if isinstance(value, str) else float(value)


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


class Run:
    """What the run folder itself says."""

    def __init__(self, folder):
        self.folder = folder
        parts = sorted((int(m[1]), p) for p in folder.glob("metrics-*.ndjson") if (m := re.fullmatch(r"metrics-(\d{5,})\.ndjson", p.name)))
        self.files = [path for _, path in parts] + [folder / "metrics.ndjson"]
        lines = [json.loads(line) for path in self.files for line in path.read_text().splitlines()]
        self.points = {}
        for line in lines:
            self.points.setdefault(f"{line['split']}/{line['metric']}", []).append((line["step"], number(line["value"])))
        self.texts = self.read_texts()
        self.record = json.loads((folder / "run.json").read_text())
        self.run_id = self.record["id"]
        self.config = self.read_config()

    def read_texts(self):
        texts = {}
        for line in (self.folder / "events.ndjson").read_text().splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event["kind"] == "started":
                texts.clear()
            elif event["kind"] == "resumed":
                texts = {key: text for key, text in texts.items() if key[1] <= event["step"]}
            elif event["kind"] == "sample":
                texts["sample", event["step"]] = event["prompt"] + event["text"]
            elif event["kind"] == "text":
                texts[event["name"], event["step"]] = event["text"]
        return texts

    def read_config(self):
        import tomllib
        path = self.folder / "config.resolved.toml"
        return tomllib.loads(path.read_text()) if path.exists() else {}

    def leaves(self):
        return leaves(self.config)


def leaves(table):
    """Every value that is no table, by its dotted key."""
    def walk(prefix, value):
        if isinstance(value, dict):
            for key, below in value.items():
                yield from walk(f"{prefix}.{key}" if prefix else key, below)
        else:
            yield prefix, value
    return dict(walk("", table))


class Report:
    def __init__(self, reader, version=None):
        self.reader, self.version, self.passed, self.failed, self.absent = reader, version, 0, [], None

    def check(self, what, holds, found=""):
        if holds:
            self.passed += 1
        else:
            self.failed.append(f"{what}: {str(found)[:300]}" if found != "" else what)

    def series(self, run, found, narrow=lambda value: value):
        self.check("the metrics are those of the run", sorted(found) == sorted(run.points), sorted(found))
        for name, points in run.points.items():
            got, want = found.get(name, []), [(step, narrow(value)) for step, value in points]
            wrong = [pair for pair in zip(got, want) if pair[0][0] != pair[1][0] or not same(pair[0][1], pair[1][1])]
            self.check(f"{name}: {len(want)} values, each once", len(got) == len(want) and not wrong, f"{len(got)} values, wrong: {wrong[:2]}")


class Absent(Exception):
    pass


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise Absent(f"`{package}` is not installed beside {sys.executable}")


def folder_of(run, name):
    folder = run.folder / name
    if not folder.is_dir():
        raise Absent(f"the run has no `{name}`")
    return folder


def command(*words, **more):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=WAIT_SECONDS, **more)
    return done.returncode, done.stdout, done.stderr


# The readers.

def python_csv(run, report):
    report.version = sys.version.split()[0]
    if not (run.folder / "metrics.csv").exists():
        raise Absent("the run has no `metrics.csv`")
    found, ids = {}, set()
    with open(run.folder / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file, strict=True):
            found.setdefault(f"{row['split']}/{row['metric']}", []).append((int(row["step"]), float(row["value"])))
            ids.add(row["run_id"])
    report.check("run id", ids == {run.run_id}, ids)
    report.series(run, found)


def event_accumulator(run, report):
    report.version = version("tensorboard")
    folder = folder_of(run, "tensorboard")
    import numpy
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2
    from tensorboard.util import tensor_util
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    found, texts = {}, {}
    for tag in events.Tags()["scalars"]:
        found[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    for tag in events.Tags()["tensors"]:
        values = [(event.step, tensor_util.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
        plugin = events.SummaryMetadata(tag).plugin_data
        if plugin.plugin_name == "scalars":
            found[tag] = [(step, float(value.item())) for step, value in values]
        elif plugin.plugin_name == "text":
            for step, value in values:
                report.check(f"text of step {step} is there once", (tag, step) not in texts)
                texts[tag, step] = value.item().decode()
    report.series(run, found, lambda value: float(numpy.float32(value)))
    report.check("texts", texts == run.texts, sorted(texts))
    if run.config:
        data = plugin_data_pb2.HParamsPluginData.FromString(events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
        kinds = {key: getattr(value, value.WhichOneof("kind")) for key, value in data.session_start_info.hparams.items()}
        want = {key: value if isinstance(value, (bool, int, float, str)) else json.dumps(value, separators=(",", ":")) for key, value in run.leaves().items()}
        report.check("hyperparameters", kinds == want, kinds)


def tensorboard_server(run, report):
    report.version = version("tensorboard") + ", data server " + version("tensorboard-data-server")
    folder = folder_of(run, "tensorboard")
    import numpy
    samples = "scalars=10000000,text=100000"
    words = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--host", "127.0.0.1", "--port", "0", "--load_fast=true", "--samples_per_plugin", samples]
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen([str(word) for word in words], stdout=said, stderr=said) as server:
        try:
            address, until = None, time.monotonic() + WAIT_SECONDS
            while address is None and server.poll() is None and time.monotonic() < until:
                time.sleep(0.2)
                said.seek(0)
                address = re.search(r"http://[^ ]*:\d+/", said.read())
            if address is None:
                said.seek(0)
                report.failed.append(f"TensorBoard did not start: {said.read()[-300:]}")
                return
            ask = lambda path, body=None: json.load(OPENER.open(urllib.request.Request(
                address[0] + "data/plugin/" + path, body and json.dumps(body).encode(), {"Content-Type": "application/json"}), timeout=60))
            query = lambda tag: urllib.parse.urlencode({"run": ".", "tag": tag})
            scalars = lambda tag: [(step, number(value)) for _, step, value in ask("scalars/scalars?" + query(tag))]
            while time.monotonic() < until:
                tags = ask("scalars/tags").get(".", {})
                # It loads in the background: what is read last is waited for.
                if all(tag in tags and len(scalars(tag)) >= len(points) for tag, points in run.points.items()):
                    break
                time.sleep(0.3)
            report.series(run, {tag: scalars(tag) for tag in tags}, lambda value: float(numpy.float32(value)))
            found = {}
            for tag in ask("text/tags").get(".", []):
                for one in ask("text/text?" + query(tag)):
                    found.setdefault(tag, []).append(one["step"])
            want = {}
            for tag, step in sorted(run.texts):
                want.setdefault(tag, []).append(step)
            report.check("steps of texts", found == want, found)
            if run.config:
                judged = [tag for tag in ("validation/loss", "train/loss") if tag in run.points]
                known = ask("hparams/experiment", {"experimentName": "", "includeMetrics": True, "hparamsLimit": 10000})
                names = [one["name"] for one in known["hparamInfos"]]
                shown = [one["name"]["tag"] for one in known["metricInfos"]]
                report.check("the HParams tab knows what runs are judged by", all(tag in shown for tag in judged), shown)
                body = {"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
                        "colParams": [{"metric": {"tag": tag}, "includeInResult": True} for tag in judged]
                        + [{"hparam": name, "includeInResult": True} for name in names], "startIndex": 0, "sliceSize": 10}
                groups = ask("hparams/session_groups", body)["sessionGroups"]
                report.check("the HParams tab lists one run", len(groups) == 1, groups)
                for group in groups[:1]:
                    status = {"finished": "STATUS_SUCCESS", "failed": "STATUS_FAILURE", "interrupted": "STATUS_FAILURE"}.get(run.record["status"])
                    session = group["sessions"][0]
                    report.check("its status", status is None or session["status"] == status, session["status"])
                    report.check("its hyperparameters", sorted(group["hparams"]) == sorted(run.leaves()), sorted(group["hparams"]))
                    metrics = {value["name"]["tag"]: value for value in group["metricValues"]}
                    for tag in judged:
                        step, value = run.points[tag][-1]
                        at = metrics.get(tag, {})
                        report.check(f"its final {tag}", at.get("trainingStep") == step and same(number(at["value"]), float(numpy.float32(value))), at)
        finally:
            server.terminate()
            server.wait(timeout=30)


def mlflow_store(run, report):
    report.version = version("mlflow")
    folder = folder_of(run, "mlflow")
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    import mlflow
    check_mlflow(run, report, mlflow.MlflowClient(folder.resolve().as_uri()), "", lambda value: value)
    with tempfile.TemporaryDirectory() as scratch:
        source = pathlib.Path(scratch, "mlruns")
        shutil.copytree(folder, source)
        target = f"sqlite:///{scratch}/x.db"
        code, out, err = command(sys.executable, "-m", "mlflow", "migrate-filestore", "--source", source, "--target", target)
        report.check("migrate-filestore", code == 0, out[-200:] + err[-400:])
        if code == 0:
            # A database holds no infinity, so MLflow puts the greatest number there.
            finite = lambda value: math.copysign(sys.float_info.max, value) if math.isinf(value) else value
            check_mlflow(run, report, mlflow.MlflowClient(target), " in the database", finite)


def check_mlflow(run, report, client, where, narrow):
    experiments = [one for one in client.search_experiments() if one.name == "codex"]
    report.check("one experiment" + where, len(experiments) == 1, experiments)
    runs = client.search_runs([one.experiment_id for one in experiments])
    report.check("one run" + where, len(runs) == 1, runs)
    for one in runs[:1]:
        found = {name: [(m.step, m.value) for m in client.get_metric_history(one.info.run_id, name)] for name in one.data.metrics}
        if where:
            found = {name: sorted(values, key=lambda pair: pair[0]) for name, values in found.items()}
        report.series(run, found, narrow)
        want = run.leaves()
        # A parameter is text: a number may be spelled in more than one way.
        params = {key: text if isinstance(want.get(key), str) else json.loads(text) for key, text in one.data.params.items()}
        wrong = {key: (params.get(key), want.get(key)) for key in params.keys() | want.keys() if params.get(key) != want.get(key)}
        report.check("parameters" + where, not wrong, wrong)
        status = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "running": "RUNNING"}[run.record["status"]]
        report.check("status" + where, one.info.status == status, one.info.status)
        report.check("name" + where, one.info.run_name == run.record["name"], one.info.run_name)
        report.check("its folder's name is a tag" + where, one.data.tags.get("run_id") == run.run_id, one.data.tags)
        if run.config:
            names = [artifact.path for artifact in client.list_artifacts(one.info.run_id)]
            report.check("the configuration is an artifact" + where, "config.resolved.toml" in names, names)


def wandb_leet(run, report):
    report.version = version("wandb")
    folders = sorted(folder_of(run, "wandb").glob("offline-run-*"))
    with tempfile.TemporaryDirectory() as home:
        more = {"env": {**os.environ, "HOME": home, "WANDB_MODE": "offline", "WANDB_DIR": home}}
        rows, texts, ids, last = [], {}, set(), {}
        for folder in folders:
            code, out, err = command(BIN / "wandb", "leet", "inspect", "--json", folder, **more)
            report.check(f"{folder.name} is read to its end", code == 0 and not err.strip(), err)
            records = [json.loads(line) for line in out.splitlines()]
            report.check(f"{folder.name} has an exit", any(record["type"] == "exit" for record in records))
            report.check(f"{folder.name}: records are numbered", [record["num"] for record in records] == list(range(1, len(records) + 1)))
            ids |= {record["run"]["run_id"] for record in records if record["type"] == "run"}
            rows += [record["history"]["item"] for record in records if record["type"] == "history"]
            code, out, err = command(BIN / "wandb", "leet", "inspect", "--summary", "--json", folder, **more)
            report.check(f"{folder.name} has a summary", code == 0, err)
            last = json.loads(out) if code == 0 else {}
        found = {}
        for row in rows:
            for key, value in row.items():
                if key.startswith("text/"):
                    texts[key.removeprefix("text/"), row["_step"]] = value
                elif not key.startswith("_"):
                    found.setdefault(key, []).append((row["_step"], number(value)))
        report.series(run, found)
        steps = [row["_step"] for row in rows]
        report.check("no step goes back", steps == sorted(steps), [pair for pair in zip(steps, steps[1:]) if pair[0] > pair[1]][:3])
        report.check("texts", texts == run.texts, sorted(texts))
        report.check("one run id", len(ids) == 1, ids)
        state = {"finished": "finished", "failed": "failed", "interrupted": "failed"}.get(run.record["status"])
        report.check("state", state is None or last.get("state") == state, last.get("state"))
        found, want = leaves(last.get("config", {})), run.leaves()
        wrong = {key: (found.get(key), want.get(key)) for key in found.keys() | want.keys() if found.get(key) != want.get(key)}
        report.check("configuration", not wrong, wrong)
        summary = {name: points[-1][1] for name, points in run.points.items()}
        got = {name: number(value) for name, value in last.get("summary", {}).items() if name in summary}
        report.check("summary", all(name in got and same(got[name], value) for name, value in summary.items()), got)
        code, out, err = command(BIN / "wandb", "sync", "--dry-run", *folders, **more)
        said = out + err
        report.check("sync would take every folder", code == 0 and all(folder.name in said for folder in folders), said[-400:])


READERS = [python_csv, event_accumulator, tensorboard_server, mlflow_store, wandb_leet]


def main():
    arguments = [word for word in sys.argv[1:] if word != "--strict"]
    if len(arguments) != 1:
        sys.exit(__doc__)
    run, bad = Run(pathlib.Path(arguments[0])), False
    for reader in READERS:
        report = Report(reader.__name__)
        try:
            reader(run, report)
        except Absent as reason:
            report.absent = str(reason)
            print(f"READER ABSENT: {report.reader}: {reason}. Nothing was compared.", file=sys.stderr)
            bad |= "--strict" in sys.argv
        except Exception as error:
            report.failed.append(f"{type(error).__name__}: {error}"[:600])
        print(json.dumps(vars(report)), flush=True)
        bad |= bool(report.failed)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
