// The trace that all clients of this test export, by the OpenTelemetry Go SDK:
// main SERVICE over gRPC or HTTP, as the second argument says, or over UDP to
// Jaeger's compact port; jaeger-grpc is Jaeger's own client.
package main

import (
	"context"
	"log"
	"os"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/jaeger"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func main() {
	ctx := context.Background()
	var exporter sdktrace.SpanExporter
	var err error
	switch os.Args[2] {
	case "jaeger-grpc":
		if err := postSpans(os.Args[1]); err != nil {
			log.Fatal(err)
		}
		return
	case "jaeger-compact":
		exporter, err = jaeger.New(jaeger.WithAgentEndpoint(jaeger.WithAgentHost("127.0.0.1"), jaeger.WithAgentPort(os.Getenv("JAEGER_COMPACT_PORT"))))
	case "grpc":
		exporter, err = otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(os.Getenv("OTLP_GRPC_URL")), otlptracegrpc.WithCompressor("gzip"))
	default:
		exporter, err = otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(os.Getenv("OTLP_HTTP_URL")+"/v1/traces"), otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	}
	if err != nil {
		log.Fatal(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", os.Args[1]))))
	tracer := provider.Tracer("same", trace.WithInstrumentationVersion("1"))
	ctx, root := tracer.Start(ctx, "GET /things", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.route", "/things"), attribute.Int("size", 200), attribute.Bool("cached", true), attribute.Float64("ratio", 0.5)))
	root.AddEvent("cache miss", trace.WithAttributes(attribute.String("key", "k"), attribute.Bool("cold", true)))
	_, child := tracer.Start(ctx, "SELECT things", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("db.system", "postgresql")))
	child.SetStatus(codes.Error, "no such thing")
	child.End()
	root.End()
	if err := provider.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
}
