// The trace that all clients of this test export, by the OpenTelemetry Java
// SDK: Same SERVICE over gRPC or HTTP, as the second argument says.
import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.util.concurrent.TimeUnit;

public class Same {
  public static void main(String[] args) {
    SpanExporter exporter = args[1].equals("grpc")
        ? OtlpGrpcSpanExporter.builder().setEndpoint(System.getenv("OTLP_GRPC_URL")).setCompression("gzip").build()
        : OtlpHttpSpanExporter.builder().setEndpoint(System.getenv("OTLP_HTTP_URL") + "/v1/traces").setCompression("gzip").build();
    SdkTracerProvider provider = SdkTracerProvider.builder()
        .setResource(Resource.create(Attributes.of(AttributeKey.stringKey("service.name"), args[0])))
        .addSpanProcessor(BatchSpanProcessor.builder(exporter).build())
        .build();
    Tracer tracer = provider.get("same", "1");
    Span root = tracer.spanBuilder("GET /things").setSpanKind(SpanKind.SERVER)
        .setAttribute("http.route", "/things").setAttribute("size", 200).setAttribute("cached", true).setAttribute("ratio", 0.5)
        .startSpan();
    root.addEvent("cache miss", Attributes.of(AttributeKey.stringKey("key"), "k", AttributeKey.booleanKey("cold"), true));
    Span child = tracer.spanBuilder("SELECT things").setSpanKind(SpanKind.CLIENT).setParent(Context.root().with(root))
        .setAttribute("db.system", "postgresql").startSpan();
    child.setStatus(StatusCode.ERROR, "no such thing");
    child.end();
    root.end();
    if (!provider.shutdown().join(30, TimeUnit.SECONDS).isSuccess()) System.exit(1);
  }
}
