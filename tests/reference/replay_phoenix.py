"""Starts Arize Phoenix on this machine, sends traces to it with `tracegym replay`, and reads them back by
Phoenix's own API: every span that was accepted is there, once, its parent is there too, and it has the
attributes that tell which call it is.

    pip install arize-phoenix
    cargo build
    python tests/reference/replay_phoenix.py target/debug/tracegym [GRAPHS]

GRAPHS is a table of calls in Parquet (`tracegym generate --format parquet`); without it 1,000 simulated
graphs are sent. Phoenix 20.26.1 took and gave back all of them.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

RATE = "200/s"
START = "2026-01-01T00:00:00Z"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=60) as reply:
        return json.load(reply)


def wait_for(url, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(1)
    sys.exit(f"no answer from {url} in {seconds} s")


def spans_of(url):
    """All spans of the default project in OTLP's JSON, by the pages of Phoenix's API."""
    spans, cursor = [], ""
    while cursor is not None:
        at = f"&cursor={cursor}" if cursor else ""
        page = get(f"{url}/v1/projects/default/spans/otlpv1?limit=1000{at}")
        spans += page["data"]
        cursor = page.get("next_cursor")
    return spans


def main():
    tracegym, *graphs = [str(Path(path).resolve()) for path in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        if not graphs:
            graphs = [f"{folder}/graphs.parquet"]
            flags = ["--graphs", "1000", "--format", "parquet", "--out", graphs[0], "--quiet"]
            subprocess.run([tracegym, "data", "export", "simulator", *flags], check=True)
        port, grpc = free_port(), free_port()
        url = f"http://127.0.0.1:{port}"
        environment = os.environ | {
            "PHOENIX_WORKING_DIR": folder,
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(grpc),
            "PHOENIX_TELEMETRY_ENABLED": "false",
        }
        command = [Path(sys.executable).with_name("phoenix"), "serve"]
        log = open(f"{folder}/phoenix.log", "w")
        phoenix = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            wait_for(f"{url}/healthz", 180)
            flags = ["--to", url, "--rate", RATE, "--start", START, "--quiet"]
            replay = subprocess.run(
                [tracegym, "replay", *graphs, *flags], check=True, capture_output=True, text=True
            )
            print(replay.stdout, end="")
            words = replay.stdout.replace(",", "").split()
            sent = int(words[words.index("with") + 1])
            accepted = int(words[words.index("accepted") + 1])
            traces = int(words[words.index("sent") + 1])
            # Phoenix writes what it has accepted to its database a little later.
            for _ in range(60):
                found = spans_of(url)
                if len(found) >= accepted:
                    break
                time.sleep(1)
        finally:
            phoenix.terminate()
            phoenix.wait()
    ids = {span["span_id"] for span in found}
    of_traces = {span["trace_id"] for span in found}
    print(f"read back {len(found)} spans of {len(of_traces)} traces")
    assert sent == accepted == len(found) == len(ids), (sent, accepted, len(found), len(ids))
    assert len(of_traces) == traces
    orphans = [span for span in found if span.get("parent_span_id") and span["parent_span_id"] not in ids]
    assert not orphans, orphans[:1]
    for span in found:
        assert int(span["start_time_unix_nano"]) <= int(span["end_time_unix_nano"]), span
        keys = {one["key"] for one in span["attributes"]}
        assert {"tracegym.call.type", "tracegym.call.id"} <= keys, span
    print("all spans are there, each once, below its parent")


main()
