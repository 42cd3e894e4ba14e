"""The trace that all clients of this test export, by the OpenTelemetry Python SDK: same.py SERVICE grpc|http"""
import os, sys
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

service, protocol = sys.argv[1:]
if protocol == "grpc":
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    exporter = OTLPSpanExporter(endpoint=os.environ["OTLP_GRPC_URL"], insecure=True, compression=Compression.Gzip, timeout=120)
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    exporter = OTLPSpanExporter(endpoint=os.environ["OTLP_HTTP_URL"] + "/v1/traces", compression=Compression.Gzip, timeout=120)
provider = TracerProvider(resource=Resource({"service.name": service}))
provider.add_span_processor(BatchSpanProcessor(exporter, export_timeout_millis=120000))
tracer = provider.get_tracer("same", "1")
root = tracer.start_span("GET /things", kind=SpanKind.SERVER, attributes={"http.route": "/things", "size": 200, "cached": True, "ratio": 0.5})
root.add_event("cache miss", {"key": "k", "cold": True})
child = tracer.start_span("SELECT things", context=set_span_in_context(root), kind=SpanKind.CLIENT, attributes={"db.system": "postgresql"})
child.set_status(Status(StatusCode.ERROR, "no such thing"))
child.end()
root.end()
provider.shutdown()
