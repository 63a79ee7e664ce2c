"""A generator of call graphs that speaks with TraceGym: one JSON object per line, in and out.

It counts which calls a microservice makes, by service and depth, and draws from what it has seen.
Replace `fit`, `load` and `answer` with your own; the rest can stay. Standard output belongs to the
harness: print to standard error instead.
"""

import json
import pathlib
import platform
import random
import sys

NAME = "call-lists"
VERSION = "1"


def fit(message):
    """Learns from the training graphs and writes a model. Returns what tables say of it."""
    lists = {}  # for each context: the lists of calls that were made in it
    roots = {}
    with open(message["jsonl"], encoding="utf-8") as lines:
        graphs = [json.loads(line) for line in lines]
    for done, graph in enumerate(graphs):
        service, calls = graph["service"], graph["calls"]
        by_id = {call["edge_id"]: call for call in calls}
        children = {call["edge_id"]: [] for call in calls}
        for call in calls:
            parent = call["edge_id"].rpartition(".")[0]
            if parent:
                children[parent].append(call)
        root = by_id["0"]
        roots.setdefault(service, []).append([root["destination"], root["type"], root["finish"]])
        for call in calls:
            start, length = call["start"], max(call["finish"] - call["start"], 1)
            # Times as shares of the parent's, so that they fit into any parent.
            made = [
                [
                    child["destination"],
                    child["type"],
                    (child["start"] - start) / length,
                    (child["finish"] - start) / length,
                ]
                for child in children[call["edge_id"]]
            ]
            depth = call["edge_id"].count(".")
            for context in contexts(service, call["destination"], depth):
                lists.setdefault(context, []).append(made)
        if done % 1000 == 0:
            send({"progress": {"done": done, "total": len(graphs)}})
    model = {"roots": roots, "lists": lists}
    path = pathlib.Path(message["model"]) / "model.json"
    path.write_text(json.dumps(model), encoding="utf-8")
    return {"parameters": sum(map(len, lists.values())), "notes": {"contexts": str(len(lists))}}


def load(message):
    """Reads the model back."""
    path = pathlib.Path(message["model"]) / "model.json"
    model = json.loads(path.read_text(encoding="utf-8"))
    model["any_root"] = [root for service in sorted(model["roots"]) for root in model["roots"][service]]
    model["max_calls"] = message["settings"].get("max_calls", 500)
    return model


def answer(model, request):
    """The calls of one graph. All randomness comes from the request's seed, so that the answer does
    not depend on what was asked before."""
    draw = random.Random(request["seed"])
    service = request["service"]
    destination, kind, usual = draw.choice(model["roots"].get(service) or model["any_root"])
    latency = usual if request["latency"] is None else request["latency"]
    calls = [call("0", "USER", destination, kind, 0, latency)]
    for parent in calls:  # grows while it is walked through
        depth = parent["edge_id"].count(".")
        seen = (model["lists"].get(c) for c in contexts(service, parent["destination"], depth))
        lists = next((found for found in seen if found), [[]])
        length = parent["finish"] - parent["start"]
        for number, (destination, kind, start, finish) in enumerate(draw.choice(lists), 1):
            if len(calls) >= model["max_calls"]:
                break
            start = parent["start"] + int(start * length)
            finish = max(start, parent["start"] + int(finish * length))
            edge_id = f"{parent['edge_id']}.{number}"
            calls.append(call(edge_id, parent["destination"], destination, kind, start, finish))
    return calls


def contexts(service, microservice, depth):
    """From the most to the least precise; keys of JSON objects are text."""
    return [f"{service}\t{microservice}\t{depth}", f"{service}\t{microservice}", microservice]


def call(edge_id, source, destination, kind, start, finish):
    return {
        "edge_id": edge_id,
        "source": source,
        "destination": destination,
        "type": kind,
        "start": start,
        "finish": finish,
    }


def send(reply):
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def main():
    model = None
    for line in sys.stdin:
        ((kind, message),) = json.loads(line).items()
        if kind == "describe":
            version = f"{VERSION}, Python {platform.python_version()}"
            send({"describe": {"protocol": 1, "name": NAME, "version": version}})
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
