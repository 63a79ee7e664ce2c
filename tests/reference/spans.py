"""Formats of spans by software that is not of this project: opentelemetry-sdk, opentelemetry-proto and
opentelemetry-exporter-zipkin-json of PyPI.

    pip install opentelemetry-sdk opentelemetry-proto opentelemetry-exporter-otlp-proto-common \
        opentelemetry-exporter-zipkin-json
    python tests/reference/spans.py

(opentelemetry-sdk 1.45.2, opentelemetry-exporter-zipkin-json 1.45.1) writes `tests/data/spans/sdk.*`, a trace as the SDK records and exports it, which `tests/data/spans.rs` reads;
and checks `tests/data/spans/written.*`, which the project's writers wrote, with the official definitions of
OTLP.
"""

import base64
import json
from pathlib import Path

from google.protobuf import json_format
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.zipkin.json.v2 import JsonV2Encoder
from opentelemetry.exporter.zipkin.node_endpoint import NodeEndpoint
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode

HERE = Path(__file__).parent.parent / "data" / "spans"
START = 1_700_000_000_000_000_000


class Ids(IdGenerator):
    """1, 2, 3 … for all services."""

    last = 0

    def generate_span_id(self):
        Ids.last += 1
        return Ids.last

    def generate_trace_id(self):
        return 0x0AF7651916CD43DD8448EB211C80319C


def record():
    """frontend -> cart -> redis, and a message to mail: recorded by the SDK, spans by service."""
    exporters = {}

    def tracer(service):
        provider = TracerProvider(
            id_generator=Ids(), resource=Resource.create({"service.name": service, "host.name": f"{service}-1"})
        )
        exporters[service] = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(exporters[service]))
        return provider.get_tracer("reference")

    frontend, cart, mail = tracer("frontend"), tracer("cart"), tracer("mail")
    at = lambda milliseconds: START + milliseconds * 1_000_000
    inside = lambda span: trace.set_span_in_context(span)
    root = frontend.start_span("GET /cart", kind=SpanKind.SERVER, start_time=at(0),
                               attributes={"http.request.method": "GET", "url.path": "/cart", "sizes": [1, 2]})
    load = frontend.start_span("load", inside(root), start_time=at(1))
    call = frontend.start_span("Cart/Get", inside(load), kind=SpanKind.CLIENT, start_time=at(2),
                               attributes={"rpc.system": "grpc", "rpc.method": "Get"})
    get = cart.start_span("Cart/Get", inside(call), kind=SpanKind.SERVER, start_time=at(3),
                          attributes={"rpc.system": "grpc"})
    redis = cart.start_span("HGET", inside(get), kind=SpanKind.CLIENT, start_time=at(4),
                            attributes={"db.system.name": "redis", "server.address": "redis", "ratio": 0.5})
    redis.add_event("cache miss", {"key": "k"})
    redis.set_status(Status(StatusCode.ERROR, "timeout"))
    redis.end(at(6))
    get.end(at(7))
    call.end(at(8))
    load.end(at(9))
    send = frontend.start_span("send", inside(root), kind=SpanKind.PRODUCER, start_time=at(10),
                               attributes={"messaging.system": "kafka", "messaging.destination.name": "mails"})
    receive = mail.start_span("receive", inside(send), kind=SpanKind.CONSUMER, start_time=at(30),
                              attributes={"messaging.system": "kafka"})
    send.end(at(11))
    root.end(at(12))
    receive.end(at(40))
    return {service: exporter.get_finished_spans() for service, exporter in exporters.items()}


def write(recorded):
    HERE.mkdir(exist_ok=True)
    request = encode_spans([span for spans in recorded.values() for span in spans])
    (HERE / "sdk.pb").write_bytes(request.SerializeToString())
    # Protobuf's own JSON form, with ids in base64 and kinds by name.
    (HERE / "sdk.json").write_text(json_format.MessageToJson(request) + "\n")
    (HERE / "sdk-snake.json").write_text(
        json_format.MessageToJson(request, preserving_proto_field_name=True, use_integers_for_enums=True) + "\n"
    )
    spans = []
    for service, recorded_spans in recorded.items():
        encoder = JsonV2Encoder()
        # As the exporter does.
        endpoint = NodeEndpoint()
        endpoint.service_name = service
        spans += json.loads(encoder.serialize(recorded_spans, endpoint))
    (HERE / "sdk-zipkin.json").write_text(json.dumps(spans, indent=1) + "\n")


def base64_ids(value):
    """OTLP/JSON has ids in hexadecimal digits, protobuf's JSON form in base64."""
    if isinstance(value, list):
        return [base64_ids(element) for element in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId")
    return {
        key: base64.b64encode(bytes.fromhex(element)).decode() if key in ids else base64_ids(element)
        for key, element in value.items()
    }


def requests():
    """All requests that the project wrote."""
    binary = ExportTraceServiceRequest.FromString((HERE / "written.pb").read_bytes())
    text = ExportTraceServiceRequest()
    for line in (HERE / "written.jsonl").read_text().splitlines():
        # A field that the definitions do not have is an error.
        text.MergeFrom(json_format.ParseDict(base64_ids(json.loads(line)), ExportTraceServiceRequest()))
    return binary, text


def check():
    binary, text = requests()
    assert binary == text, "both encodings say the same"
    seen = {}
    for resource_spans in binary.resource_spans:
        attributes = {pair.key: pair.value for pair in resource_spans.resource.attributes}
        assert attributes["service.name"].string_value.startswith("MS_")
        for span in (span for scope in resource_spans.scope_spans for span in scope.spans):
            assert len(span.trace_id) == 16 and len(span.span_id) == 8, "ids have their lengths"
            assert any(span.trace_id) and any(span.span_id) and span.span_id not in seen
            assert START <= span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.kind in (2, 3), "all are a callee's or a caller's side"
            keys = {pair.key for pair in span.attributes}
            assert {"tracegym.call.type", "tracegym.call.id"} <= keys
            seen[span.span_id] = span
    roots = [span for span in seen.values() if not span.parent_span_id]
    assert len(roots) == 2 and all(not span.parent_span_id or span.parent_span_id in seen for span in seen.values())
    print(f"{len(seen)} spans of {len(roots)} traces are as OTLP's definitions want them")


write(record())
if (HERE / "written.jsonl").exists():
    check()
