/*-------------------------------------------------------------------------
 *
 * ingest_metrics.c
 *	  The counters of the receivers as Prometheus text.
 *
 * Those that Tempo has too bear its names, so that its dashboards and alerts
 * find them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ingest/limits.h"
#include "ingest/statistics.h"
#include "worker/ingest_metrics.h"

typedef struct Counter
{
	const char *name;
	const char *help;
	Size        offset; /* in TenantStatistics or TransportStatistics */
} Counter;

static const Counter tenant_counters[] = {
	{"tempo_distributor_ingress_bytes_total", "Bytes received, as sent.", offsetof(TenantStatistics, ingress_bytes)},
	{"tempo_distributor_bytes_received_total", "Bytes received, decompressed.", offsetof(TenantStatistics, bytes_received)},
	{"tempo_distributor_spans_received_total", "Spans received.", offsetof(TenantStatistics, spans_received)},
	{"tempo_distributor_attributes_truncated_total", "Attribute keys and values cut to tempo_pg.max_attribute_bytes.", offsetof(TenantStatistics, truncated)},
	{"tempo_pg_sanitized_strings_total", "Strings that were no UTF-8 or had a NUL.", offsetof(TenantStatistics, sanitized)},
	{"tempo_pg_requests_total", "Requests received.", offsetof(TenantStatistics, requests)},
	{"tempo_pg_refused_requests_total", "Requests refused: malformed, or beyond a limit.", offsetof(TenantStatistics, refused)},
	{"tempo_pg_repeated_requests_total", "Requests received again and not stored twice.", offsetof(TenantStatistics, repeated)}};

static const Counter transport_counters[] = {
	{"tempo_receiver_accepted_spans", "Spans accepted.",
     offsetof(TransportStatistics, accepted_spans)},
	{"tempo_receiver_refused_spans", "Spans refused.",
     offsetof(TransportStatistics, refused_spans)},
	{"tempo_pg_receiver_requests_total", "Requests received.",
     offsetof(TransportStatistics, requests)},
	{"tempo_pg_receiver_failed_requests_total", "Requests answered with an error.",
     offsetof(TransportStatistics, failed_requests)},
	{"tempo_pg_receiver_dropped_datagrams_total",
     "Datagrams that were malformed or more than could be taken.",
     offsetof(TransportStatistics, dropped)}};

/* What a callback prints of each tenant. */
typedef struct TenantLine
{
	ApiBody       *body;
	const Counter *counter; /* NULL = the discarded spans */
} TenantLine;

static void
write_head(ApiBody *body, const char *name, const char *help)
{
	body_printf(body, "# HELP %s %s\n# TYPE %s counter\n", name, help, name);
}

static uint64
read_counter(void *statistics, Size offset)
{
	return pg_atomic_read_u64((pg_atomic_uint64 *) ((char *) statistics + offset));
}

/* Names of tenants have neither quotes nor backslashes: see check_tenant(). */
static void
write_tenant(TenantStatistics *tenant, void *arg)
{
	const TenantLine *line = arg;

	if (line->counter)
	{
		body_printf(line->body, "%s{tenant=\"%s\"} " UINT64_FORMAT "\n", line->counter->name, tenant->tenant,
		            read_counter(tenant, line->counter->offset));
		return;
	}
	for (int i = 0; i < N_DISCARD_REASONS; i++)
	{
		uint64 n = pg_atomic_read_u64(&tenant->discarded[i]);

		if (n > 0)
			body_printf(line->body, "tempo_discarded_spans_total{tenant=\"%s\",reason=\"%s\"} " UINT64_FORMAT "\n",
			            tenant->tenant, discard_reason_names[i], n);
	}
}

static void
write_histogram(ApiBody *body, HistogramKind kind)
{
	const HistogramInfo *info = &histogram_infos[kind];
	Histogram           *histogram = statistics_histogram(kind);
	uint64               count = 0;

	if (histogram == NULL)
		return;
	body_printf(body, "# HELP %s %s\n# TYPE %s histogram\n", info->name, info->help, info->name);
	for (int i = 0; i <= info->n_bounds; i++)
	{
		count += pg_atomic_read_u64(&histogram->counts[i]);
		if (i < info->n_bounds)
			body_printf(body, "%s_bucket{le=\"%g\"} " UINT64_FORMAT "\n", info->name, (double) info->bounds[i] / info->scale, count);
		else
			body_printf(body, "%s_bucket{le=\"+Inf\"} " UINT64_FORMAT "\n", info->name, count);
	}
	body_printf(body, "%s_sum %.17g\n%s_count " UINT64_FORMAT "\n", info->name,
	            (double) pg_atomic_read_u64(&histogram->sum) / info->scale, info->name, count);
}

/* The limits of tenants without settings of their own. */
static void
write_limits(ApiBody *body)
{
	TenantLimits limits = limits_default();

	body_printf(body, "# HELP tempo_limits_defaults Limits of tenants without overrides; 0 means none.\n"
	                  "# TYPE tempo_limits_defaults gauge\n"
	                  "tempo_limits_defaults{limit_name=\"ingestion_rate_limit_bytes\"} " INT64_FORMAT "\n"
	                  "tempo_limits_defaults{limit_name=\"ingestion_burst_size_bytes\"} " INT64_FORMAT "\n"
	                  "tempo_limits_defaults{limit_name=\"max_global_traces_per_user\"} 0\n"
	                  "tempo_limits_defaults{limit_name=\"max_local_traces_per_user\"} " INT64_FORMAT "\n"
	                  "tempo_limits_defaults{limit_name=\"max_bytes_per_trace\"} " INT64_FORMAT "\n",
	            limits.rate, limits.burst, limits.max_live_traces, limits.max_bytes_per_trace);
}

void
write_ingest_metrics(ApiBody *body)
{
	TenantLine line = {body, NULL};

	write_limits(body);

	for (int i = 0; i < lengthof(tenant_counters); i++)
	{
		line.counter = &tenant_counters[i];
		write_head(body, line.counter->name, line.counter->help);
		statistics_each_tenant(write_tenant, &line);
	}
	line.counter = NULL;
	write_head(body, "tempo_discarded_spans_total", "Spans refused, by reason.");
	statistics_each_tenant(write_tenant, &line);

	for (int i = 0; i < N_HISTOGRAMS; i++)
		write_histogram(body, (HistogramKind) i);

	for (int i = 0; i < lengthof(transport_counters); i++)
	{
		const Counter *counter = &transport_counters[i];

		write_head(body, counter->name, counter->help);
		for (int transport = 0; transport < N_TRANSPORTS; transport++)
		{
			TransportStatistics *statistics = statistics_transport((ReceiverTransport) transport);

			if (statistics)
				body_printf(body, "%s{receiver=\"%s\",transport=\"%s\"} " UINT64_FORMAT "\n",
				            counter->name, transport_names[transport].receiver,
				            transport_names[transport].transport,
				            read_counter(statistics, counter->offset));
		}
	}
}
