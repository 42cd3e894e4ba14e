/*-------------------------------------------------------------------------
 *
 * statistics_sql.c
 *	  What was received, as rows: tempo.stat_ingest and tempo.stat_receivers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "ingest/statistics.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(tempo_stat_get_ingest);
PG_FUNCTION_INFO_V1(tempo_stat_get_receivers);

static Datum
counter(pg_atomic_uint64 *value)
{
	return Int64GetDatum((int64) pg_atomic_read_u64(value));
}

static void
add_tenant_row(TenantStatistics *tenant, void *arg)
{
	ReturnSetInfo *rsinfo = arg;
	Datum          values[10 + N_DISCARD_REASONS];
	bool           nulls[10 + N_DISCARD_REASONS] = {false};
	uint64         discarded = 0;
	int            n = 0;

	values[n++] = CStringGetTextDatum(tenant->tenant);
	values[n++] = counter(&tenant->requests);
	values[n++] = counter(&tenant->refused);
	values[n++] = counter(&tenant->repeated);
	values[n++] = counter(&tenant->ingress_bytes);
	values[n++] = counter(&tenant->bytes_received);
	values[n++] = counter(&tenant->spans_received);
	for (int i = 0; i < N_DISCARD_REASONS; i++)
		discarded += pg_atomic_read_u64(&tenant->discarded[i]);
	values[n++] = Int64GetDatum((int64) discarded);
	for (int i = 0; i < DISCARD_UNKNOWN_ERROR; i++)
		values[n++] = counter(&tenant->discarded[i]);
	values[n++] = counter(&tenant->truncated);
	values[n++] = counter(&tenant->sanitized);
	values[n++] = Int64GetDatum((int64) pg_atomic_read_u32(&tenant->live_traces));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* tempo.stat_get_ingest() */
Datum
tempo_stat_get_ingest(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	statistics_each_tenant(add_tenant_row, fcinfo->resultinfo);
	return (Datum) 0;
}

/* tempo.stat_get_receivers() */
Datum
tempo_stat_get_receivers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < N_TRANSPORTS; i++)
	{
		TransportStatistics *statistics = statistics_transport((ReceiverTransport) i);
		Datum                values[7];
		bool                 nulls[7] = {false};

		if (statistics == NULL)
			continue;
		values[0] = CStringGetTextDatum(transport_names[i].receiver);
		values[1] = CStringGetTextDatum(transport_names[i].transport);
		values[2] = counter(&statistics->requests);
		values[3] = counter(&statistics->failed_requests);
		values[4] = counter(&statistics->accepted_spans);
		values[5] = counter(&statistics->refused_spans);
		values[6] = counter(&statistics->dropped);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
