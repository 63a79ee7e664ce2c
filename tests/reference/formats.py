"""Reads what `tracegym data export` writes with software that is not TraceGym's, and compares it with the
table of calls in CSV.

    pip install opentelemetry-proto pydot pyarrow jaeger-stats
    cargo build
    python tests/reference/formats.py target/debug/tracegym

- OTLP: the official protobuf definitions (`opentelemetry-proto`), from the binary form and from JSON;
- Parquet: Apache Arrow; DOT: pydot; CSV and JSON lines: Python's own; HTML: Python's parser;
- Jaeger: `trace_analysis` of jaeger-stats, and the structure that Jaeger's page reads (references to parents,
  processes by key, microseconds, ids in hexadecimal digits);
- Zipkin: the rules of its API's description (zipkin2-api.yaml), as no reader of it is in Python's registry.

Run with opentelemetry-proto 1.45.2, pydot 4.0.1, pyarrow 26.0.1 and jaeger-stats 0.2.1.
"""

import base64
import csv
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pydot
import pyarrow.parquet
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

GRAPHS = 100
KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}


def export(tracegym, folder, form):
    path = Path(folder) / form
    flags = ["--graphs", str(GRAPHS), "--format", form, "--out", str(path), "--quiet"]
    subprocess.run([tracegym, "data", "export", "simulator", *flags], check=True)
    return path


def calls_of(spans):
    """Trace by trace, the calls that spans tell: (id, destination, type, milliseconds from, to)."""
    begin = {}
    for span in spans:
        begin[span["trace"]] = min(begin.get(span["trace"], span["start"]), span["start"])
    calls = Counter()
    for span in spans:
        at = [(span[key] - begin[span["trace"]]) // 1_000_000 for key in ("start", "end")]
        call = (span["id"], span["to"], span["type"], *at)
        # Both sides of a call tell the same.
        calls[span["trace"], call] = 1
    traces = {}
    for trace, call in calls:
        traces.setdefault(trace, set()).add(call)
    return Counter(frozenset(calls) for calls in traces.values())


def destination(kind, service, attributes):
    outgoing = kind in ("CLIENT", "PRODUCER")
    return attributes["peer.service"] if outgoing else service


def otlp(request):
    spans = []
    for of in request.resource_spans:
        resource = {one.key: one.value.string_value for one in of.resource.attributes}
        for scope in of.scope_spans:
            for span in scope.spans:
                attributes = {one.key: one.value.string_value for one in span.attributes}
                assert len(span.trace_id) == 16 and len(span.span_id) == 8
                assert len(span.parent_span_id) in (0, 8)
                spans.append(
                    {
                        "trace": span.trace_id,
                        "start": span.start_time_unix_nano,
                        "end": span.end_time_unix_nano,
                        "id": attributes["tracegym.call.id"],
                        "type": attributes["tracegym.call.type"],
                        "to": destination(KINDS[span.kind], resource["service.name"], attributes),
                    }
                )
    return spans


def otlp_json(path):
    request = ExportTraceServiceRequest()
    for line in path.read_text().splitlines():
        value = json.loads(line)
        # OTLP writes ids in hexadecimal digits, where protobuf's JSON has base64.
        for resource in value["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in span:
                            raw = bytes.fromhex(span[key])
                            span[key] = base64.b64encode(raw).decode()
        # An unknown field is an error.
        one = json_format.ParseDict(value, ExportTraceServiceRequest())
        request.resource_spans.extend(one.resource_spans)
    return otlp(request)


def jaeger(path):
    spans = []
    for trace in json.loads(path.read_text())["data"]:
        known = {span["spanID"] for span in trace["spans"]}
        assert len(known) == len(trace["spans"])
        for span in trace["spans"]:
            assert span["traceID"] == trace["traceID"]
            assert re.fullmatch("[0-9a-f]{32}", span["traceID"]), span
            assert re.fullmatch("[0-9a-f]{16}", span["spanID"]), span
            for reference in span["references"]:
                assert reference["refType"] == "CHILD_OF" and reference["spanID"] in known
                assert reference["traceID"] == span["traceID"]
            tags = {tag["key"]: tag["value"] for tag in span["tags"]}
            assert all(tag["type"] in ("string", "bool", "int64", "float64") for tag in span["tags"])
            service = trace["processes"][span["processID"]]["serviceName"]
            start = span["startTime"]
            assert isinstance(start, int) and isinstance(span["duration"], int)
            spans.append(
                {
                    "trace": span["traceID"],
                    "start": 1_000 * start,
                    "end": 1_000 * (start + span["duration"]),
                    "id": tags["tracegym.call.id"],
                    "type": tags["tracegym.call.type"],
                    "to": destination(tags["span.kind"].upper(), service, tags),
                }
            )
    return spans


def jaeger_stats(path, traces):
    """Lets another program find the traces, none of them incomplete."""
    analysis = Path(sys.executable).with_name("trace_analysis")
    file = path.rename(path.with_suffix(".json"))
    run = subprocess.run([analysis, file], cwd=path.parent, capture_output=True, text=True)
    assert f"Read {traces} traces in total" in run.stdout, run.stderr
    assert "Observed 0 incomplete traces" in run.stdout, run.stdout
    print(f"jaeger: jaeger-stats reads {traces} whole traces")


def zipkin(path):
    spans, ids = [], set()
    for span in json.loads(path.read_text()):
        assert re.fullmatch("[0-9a-f]{16,32}", span["traceId"]), span
        assert re.fullmatch("[0-9a-f]{16}", span["id"]), span
        assert span.get("kind") in (None, "CLIENT", "SERVER", "PRODUCER", "CONSUMER"), span
        assert (span["traceId"], span["id"]) not in ids
        ids.add((span["traceId"], span["id"]))
        assert all(isinstance(value, str) for value in span["tags"].values())
        start = span["timestamp"]
        # The API knows no duration of 0: it is left out.
        duration = span.get("duration", 0)
        assert "duration" not in span or duration >= 1
        service = span["localEndpoint"]["serviceName"]
        outgoing = span["kind"] in ("CLIENT", "PRODUCER")
        spans.append(
            {
                "trace": span["traceId"],
                "start": 1_000 * start,
                "end": 1_000 * (start + duration),
                "id": span["tags"]["tracegym.call.id"],
                "type": span["tags"]["tracegym.call.type"],
                "to": span["remoteEndpoint"]["serviceName"] if outgoing else service,
            }
        )
    return spans


class Page(HTMLParser):
    """Counts rows, and what would need a network or run a program."""

    def __init__(self):
        super().__init__()
        self.bars, self.open, self.foreign = 0, [], []

    def handle_starttag(self, tag, attributes):
        if tag == "b":
            self.bars += 1
        if tag in ("script", "link", "img", "iframe", "object", "form"):
            self.foreign.append(tag)
        self.foreign += [name for name, _ in attributes if name in ("src", "href") or name[:2] == "on"]
        if tag not in ("meta", "i"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "i":
            assert self.open.pop() == tag, tag


def main():
    tracegym = str(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        files = {
            form: export(tracegym, folder, form)
            for form in (
                "call-table alibaba-v2022 parquet otlp-json otlp-proto jaeger zipkin "
                "recursive-texts tabular-texts dot html"
            ).split()
        }
        rows = list(csv.DictReader(files["call-table"].open()))
        traces = {}
        for row in rows:
            call = (
                row["edge_id"],
                row["destination"],
                row["type"],
                int(row["start_ms"]),
                int(row["finish_ms"]),
            )
            traces.setdefault(row["graph_index"], set()).add(call)
        expected = Counter(frozenset(calls) for calls in traces.values())
        print(f"call-table: {len(traces)} graphs, {len(rows)} calls")

        request = ExportTraceServiceRequest.FromString(files["otlp-proto"].read_bytes())
        for form, spans in (
            ("otlp-proto", otlp(request)),
            ("otlp-json", otlp_json(files["otlp-json"])),
            ("jaeger", jaeger(files["jaeger"])),
            ("zipkin", zipkin(files["zipkin"])),
        ):
            assert calls_of(spans) == expected, form
            print(f"{form}: {len(spans)} spans tell the same calls")
        jaeger_stats(files["jaeger"], len(traces))

        table = pyarrow.parquet.read_table(files["parquet"]).to_pylist()
        same = ("edge_id", "source", "destination", "type")
        for row, found in zip(rows, table, strict=True):
            assert all(row[key] == found[key] for key in same)
            assert (int(row["start_ms"]), int(row["finish_ms"])) == (found["start"], found["finish"])
        print(f"parquet: {len(table)} rows")

        raw = list(csv.DictReader(files["alibaba-v2022"].open()))
        for row, found in zip(rows, raw, strict=True):
            assert (row["edge_id"], row["type"]) == (found["rpc_id"], found["rpctype"])
            assert int(row["finish_ms"]) - int(row["start_ms"]) == float(found["rt"])
            assert int(found["dm"][3:]) == int(row["destination"][3:])
        print(f"alibaba-v2022: {len(raw)} rows")

        for form in ("recursive-texts", "tabular-texts"):
            lines = [json.loads(line) for line in files[form].read_text().splitlines()]
            assert {line["graph"] for line in lines} == set(range(GRAPHS))
            assert all(line["prompt"] and line["completion"] for line in lines)
            edges = sum(line["completion"].count("communication starts at") for line in lines)
            assert edges == len(rows), (form, edges)
            print(f"{form}: {len(lines)} lines")

        digraphs = pydot.graph_from_dot_data(files["dot"].read_text())
        assert len(digraphs) == len(traces)
        assert sum(len(one.get_edges()) for one in digraphs) == len(rows)
        print(f"dot: {len(digraphs)} digraphs, {len(rows)} edges")

        page = Page()
        page.feed(files["html"].read_text())
        assert (page.bars, page.open, page.foreign) == (len(rows), [], []), page.foreign
        print(f"html: {page.bars} bars, nothing from elsewhere")


main()
