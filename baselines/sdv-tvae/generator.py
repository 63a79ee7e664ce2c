"""The TVAE of SDV's package `ctgan`, as a generator of calls for TraceGym.

TVAE models rows of a table that are independent of one another. Each call is such a row: service,
source, destination, type, start and response time. An answer is as many rows of the requested service
as calls were asked for; they are calls, and hardly ever a call graph, which is the point of comparing.
"""

import importlib.metadata
import json
import os
import pathlib
import random
import sys

# Before PyTorch is loaded: sums in one order, whatever the machine's load.
os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy
import pandas
import torch
from ctgan import TVAE

DISCRETE = ["service", "source", "destination", "type"]
MODEL = "tvae.pt"
FALLBACK_EDGES = 10  # where a request leaves num_edges open


def seed_all(seed):
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def fit(message):
    settings = message["settings"]
    seed_all(message["seed"])
    calls = pandas.read_parquet(message["parquet"])
    table = calls[DISCRETE + ["start"]].copy()
    table["response_time"] = calls["finish"].astype("int64") - calls["start"].astype("int64")
    for column in ["start", "response_time"]:
        table[column] = table[column].astype("float64")
    model = TVAE(epochs=settings["epochs"], enable_gpu=False)
    model.fit(table, DISCRETE)
    model.save(str(pathlib.Path(message["model"]) / MODEL))
    parameters = sum(p.numel() for p in model.decoder.parameters())
    notes = {"epochs": str(settings["epochs"]), "rows": str(len(table))}
    return {"parameters": parameters, "notes": notes}


def load(message):
    """Draws the pool, service by service: no request changes what another one gets."""
    seed_all(0)
    model = TVAE.load(str(pathlib.Path(message["model"]) / MODEL))
    rows = model.sample(message["settings"]["pool"])
    pool = {}
    for row in rows.itertuples(index=False):
        pool.setdefault(row.service, []).append(row)
    return pool, list(rows.itertuples(index=False))


def answer(model, request):
    pool, everything = model
    draw = random.Random(request["seed"])
    rows = pool.get(request["service"]) or everything
    count = FALLBACK_EDGES if request["num_edges"] is None else request["num_edges"]
    calls = []
    for number in range(count):
        row = draw.choice(rows)
        start = max(0, round(row.start))
        calls.append(
            {
                "edge_id": "0" if number == 0 else f"0.{number}",
                "source": row.source,
                "destination": row.destination,
                "type": row.type,
                "start": start,
                "finish": start + max(0, round(row.response_time)),
            }
        )
    return calls


def send(reply):
    sys.__stdout__.write(json.dumps(reply) + "\n")
    sys.__stdout__.flush()


def main():
    # Libraries may print; standard output belongs to the harness.
    sys.stdout = sys.stderr
    model = None
    for line in sys.stdin:
        ((kind, message),) = json.loads(line).items()
        if kind == "describe":
            packages = ["ctgan", "rdt", "torch", "numpy", "pandas"]
            version = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
            send({"describe": {"protocol": 1, "name": "ctgan TVAE", "version": version}})
        elif kind == "fit":
            send({"fit": fit(message)})
        elif kind == "load":
            model = load(message)
            send({"load": {}})
        elif kind == "generate":
            for request in message["requests"]:
                send({"graph": {"index": request["index"], "calls": answer(model, request)}})
        else:
            send({"error": {"message": f"unknown request {kind}"}})


if __name__ == "__main__":
    main()
