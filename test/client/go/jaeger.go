package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"os"
	"time"

	model "github.com/jaegertracing/jaeger-idl/model/v1"
	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// postSpans sends the trace as Jaeger's own collector API knows it, with the client that is generated from Jaeger's definitions.
func postSpans(service string) error {
	connection, err := grpc.NewClient(net.JoinHostPort("127.0.0.1", os.Getenv("JAEGER_GRPC_PORT")), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	var random [32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	number := func(i int) uint64 { return binary.BigEndian.Uint64(random[8*i:]) }
	traceID := model.NewTraceID(number(0), number(1))
	process := &model.Process{ServiceName: service}
	now := time.Now()
	spans := []*model.Span{
		{TraceID: traceID, SpanID: model.SpanID(number(2)), OperationName: "GET /things", StartTime: now, Duration: time.Millisecond, Process: process,
			Tags: []model.KeyValue{model.String("span.kind", "server"), model.String("http.route", "/things"), model.Int64("size", 200), model.Bool("cached", true), model.Float64("ratio", 0.5)},
			Logs: []model.Log{{Timestamp: now, Fields: []model.KeyValue{model.String("event", "cache miss"), model.String("key", "k"), model.Bool("cold", true)}}}},
		{TraceID: traceID, SpanID: model.SpanID(number(3)), OperationName: "SELECT things", StartTime: now, Duration: time.Microsecond, Process: process,
			References: []model.SpanRef{model.NewChildOfRef(traceID, model.SpanID(number(2)))},
			Tags:       []model.KeyValue{model.String("span.kind", "client"), model.String("db.system", "postgresql"), model.Bool("error", true), model.String("otel.status_description", "no such thing")}},
	}
	_, err = api_v2.NewCollectorServiceClient(connection).PostSpans(context.Background(), &api_v2.PostSpansRequest{Batch: model.Batch{Spans: spans, Process: process}})
	return err
}
