/*-------------------------------------------------------------------------
 *
 * statistics.h
 *	  What was received, by tenant and by transport, since the server started.
 *
 * The counters are in shared memory, so any process can add and read them;
 * without preloading there are none and adding does nothing.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_STATISTICS_H
#define TEMPO_INGEST_STATISTICS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "span/value.h"
#include "storage/spin.h"

/* Why spans were discarded: label "reason" of tempo_discarded_spans_total. */
typedef enum DiscardReason
{
	DISCARD_INVALID_TRACE_ID,
	DISCARD_INVALID_SPAN_ID,
	DISCARD_INVALID_TIME,
	DISCARD_RATE_LIMITED,
	DISCARD_TRACE_TOO_LARGE,
	DISCARD_LIVE_TRACES_EXCEEDED,
	DISCARD_UNKNOWN_ERROR,
	N_DISCARD_REASONS
} DiscardReason;

extern const char *const discard_reason_names[N_DISCARD_REASONS];

typedef enum ReceiverTransport
{
	TRANSPORT_GRPC,
	TRANSPORT_HTTP,
	TRANSPORT_ZIPKIN_JSON,
	TRANSPORT_ZIPKIN_PROTO,
	TRANSPORT_ZIPKIN_V1_JSON,
	TRANSPORT_ZIPKIN_THRIFT,
	TRANSPORT_JAEGER_GRPC,
	TRANSPORT_JAEGER_HTTP,
	TRANSPORT_JAEGER_COMPACT,
	TRANSPORT_JAEGER_BINARY,
	N_TRANSPORTS
} ReceiverTransport;

/* Labels of the counters by transport, with the words that Tempo has. */
typedef struct TransportName
{
	const char *receiver;
	const char *transport;
} TransportName;

extern const TransportName transport_names[N_TRANSPORTS];

typedef struct TenantStatistics
{
	char             tenant[160];                  /* "" = none */
	pg_atomic_uint64 requests;                     /* tempo_pg_requests_total, repeated and refused ones too */
	pg_atomic_uint64 refused;                      /* tempo_pg_refused_requests_total */
	pg_atomic_uint64 repeated;                     /* tempo_pg_repeated_requests_total */
	pg_atomic_uint64 ingress_bytes;                /* tempo_distributor_ingress_bytes_total */
	pg_atomic_uint64 bytes_received;               /* tempo_distributor_bytes_received_total */
	pg_atomic_uint64 spans_received;               /* tempo_distributor_spans_received_total */
	pg_atomic_uint64 discarded[N_DISCARD_REASONS]; /* tempo_discarded_spans_total */
	pg_atomic_uint64 truncated;                    /* tempo_distributor_attributes_truncated_total */
	pg_atomic_uint64 sanitized;                    /* tempo_pg_sanitized_strings_total */

	/* What limits.c and live_traces.c keep of the tenant. */
	slock_t          mutex;
	double           tokens;   /* bytes that it may send now; may be negative */
	TimestampTz      refilled; /* 0 = never */
	pg_atomic_uint32 live_traces;
} TenantStatistics;

typedef struct TransportStatistics
{
	pg_atomic_uint64 accepted_spans;  /* tempo_receiver_accepted_spans */
	pg_atomic_uint64 refused_spans;   /* tempo_receiver_refused_spans */
	pg_atomic_uint64 requests;        /* tempo_pg_receiver_requests_total */
	pg_atomic_uint64 failed_requests; /* tempo_pg_receiver_failed_requests_total */
	pg_atomic_uint64 dropped;         /* tempo_pg_receiver_dropped_datagrams_total */
} TransportStatistics;

/*
 * A distribution over all receivers.  Values are whole numbers of a unit;
 * bounds and sum are shown divided by "scale".
 */
#define HISTOGRAM_BUCKETS 11

typedef struct Histogram
{
	pg_atomic_uint64 counts[HISTOGRAM_BUCKETS + 1]; /* not cumulative; the last one: above all bounds */
	pg_atomic_uint64 sum;
} Histogram;

typedef enum HistogramKind
{
	HISTOGRAM_TRACES_PER_BATCH,
	HISTOGRAM_PUSH_DURATION, /* microseconds */
	N_HISTOGRAMS
} HistogramKind;

typedef struct HistogramInfo
{
	const char *name;
	const char *help;
	int         n_bounds;
	uint64      bounds[HISTOGRAM_BUCKETS];
	double      scale;
} HistogramInfo;

extern const HistogramInfo histogram_infos[N_HISTOGRAMS];

extern void statistics_init(void);

/* statistics_observe: adds a value to a distribution */
extern void statistics_observe(HistogramKind kind, uint64 value);

/* statistics_histogram: NULL without preloading */
extern Histogram *statistics_histogram(HistogramKind kind);

/*
 * statistics_tenant: the counters of a tenant, which stay where they are;
 * NULL without preloading.  When there are more than tempo_pg.max_tenants, the
 * others have counters that are called "__overflow__", one for some of them.
 */
extern TenantStatistics    *statistics_tenant(SpanText tenant);
extern TransportStatistics *statistics_transport(ReceiverTransport transport);

/* statistics_number: the number of a tenant's counters, and back */
extern uint32            statistics_number(const TenantStatistics *tenant);
extern TenantStatistics *statistics_by_number(uint32 number);

/* statistics_each_tenant: for /metrics */
extern void statistics_each_tenant(void (*callback)(TenantStatistics *tenant, void *arg), void *arg);

#endif /* TEMPO_INGEST_STATISTICS_H */
