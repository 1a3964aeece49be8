#!/usr/bin/env python3
"""A run pushed to a real MLflow server and read back over its REST API: `mlflow_server.py CODEX_CLI RUN_FOLDER [--strict]`.

Starts `mlflow server` on a free port of this machine, pushes the run twice with `codex-cli runs push` (a build with `--features mlflow-rest`), and compares
every value, the parameters, the status and the files. Prints one JSON line. Needs `pip install mlflow`.
"""
import json
import math
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


def number(value):
    return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value, value)


def values_of(run):
    found = {}
    for path in sorted(run.glob("metrics-*.ndjson")) + [run / "metrics.ndjson"]:
        for line in path.read_text().splitlines():
            line = json.loads(line)
            found.setdefault(f"{line['split']}/{line['metric']}", []).append((line["step"], number(line["value"])))
    return found


def serve(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = f"sqlite:///{folder}/mlflow.db"
    program = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", store]
    program += ["--artifacts-destination", f"{folder}/artifacts", "--workers", "1"]
    server = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, start_new_session=True)
    for _ in range(600):
        try:
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200:
                return server, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.2)
    server.kill()
    raise SystemExit("the server did not start")


def main():
    codex, run = sys.argv[1], pathlib.Path(sys.argv[2])
    line = {"reader": "mlflow server", "version": None, "passed": 0, "failed": [], "absent": None}

    def check(what, holds, found=""):
        if holds:
            line["passed"] += 1
        else:
            line["failed"].append(f"{what}: {str(found)[:300]}")

    try:
        import mlflow
    except ImportError:
        line["absent"] = f"no mlflow in `{sys.executable}`: run `{sys.executable} -m pip install mlflow`"
        print(json.dumps(line))
        return 1 if "--strict" in sys.argv else 0
    line["version"] = mlflow.__version__
    with tempfile.TemporaryDirectory() as folder:
        server, address = serve(folder)
        try:
            push = [codex, "runs", "push", str(run), "--to", address, "--experiment", "pushed here", "--json"]
            first = subprocess.run(push, capture_output=True, text=True)
            if "opens no connections" in first.stderr:
                line["absent"] = "this codex-cli has no `runs push`: build it with `--features mlflow-rest`"
                print(json.dumps(line))
                return 1 if "--strict" in sys.argv else 0
            check("it is pushed", first.returncode == 0, first.stderr)
            first = json.loads(first.stdout)
            again = json.loads(subprocess.run(push, capture_output=True, text=True).stdout)
            want = values_of(run)
            n = sum(len(points) for points in want.values())
            check("all values are sent once", (first["values"], again["values"], again["values_before"]) == (n, 0, n), (first, again, n))
            client = mlflow.tracking.MlflowClient(address)
            one = client.get_run(first["run_id"])
            check("it is in the experiment", client.get_experiment(one.info.experiment_id).name == "pushed here")
            for name, points in want.items():
                got = sorted((m.step, m.value) for m in client.get_metric_history(first["run_id"], name))
                # SQLite holds infinity as the greatest number.
                same = len(got) == len(points) and all(a[0] == b[0] and (a[1] == b[1] or not math.isfinite(b[1])) for a, b in zip(got, sorted(points)))
                check(f"{name}: {len(points)} values", same, got[:3])
            record = json.loads((run / "run.json").read_text())
            check("its status", one.info.status == {"finished": "FINISHED", "failed": "FAILED"}.get(record["status"], "KILLED"), one.info.status)
            check("its name", one.info.run_name == record["name"], one.info.run_name)
            check("its parameters", one.data.params.get("run.seed") == str(record["seed"]) and len(one.data.params) > 100, len(one.data.params))
            names = [artifact.path for artifact in client.list_artifacts(first["run_id"])]
            check("its files", "report.html" in names and "config.resolved.toml" in names and first["files"] == len(names), names)
            wrong = subprocess.run([codex, "runs", "push", str(run), "--to", "http://127.0.0.1:9"], capture_output=True, text=True)
            check("a server that is not there is told", wrong.returncode == 5 and "127.0.0.1:9" in wrong.stderr, wrong.stderr)
        finally:
            import os
            import signal
            os.killpg(server.pid, signal.SIGTERM)
    print(json.dumps(line))
    return 1 if line["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
