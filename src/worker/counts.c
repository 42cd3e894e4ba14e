/*-------------------------------------------------------------------------
 *
 * counts.c
 *	  What the gateway has done since it was started.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"
#include "worker/counts.h"

GatewayCounts gateway_counts;

typedef struct EndpointCount
{
	char   endpoint[16];
	int    status;
	uint64 requests;
	double seconds;
} EndpointCount;

static EndpointCount counts[128];
static int           n_counts;

void
count_request(const char *endpoint, int status, TimestampTz arrived)
{
	EndpointCount *count = NULL;

	for (int i = 0; i < n_counts && count == NULL; i++)
	{
		if (counts[i].status == status && strcmp(counts[i].endpoint, endpoint) == 0)
			count = &counts[i];
	}
	if (count == NULL)
	{
		if (n_counts == lengthof(counts))
			return;
		count = &counts[n_counts++];
		strlcpy(count->endpoint, endpoint, sizeof(count->endpoint));
		count->status = status;
	}
	count->requests++;
	count->seconds += (GetCurrentTimestamp() - arrived) / 1e6;
}

void
counts_write_requests(ApiBody *body)
{
	body_text(body, "# HELP tempo_pg_requests_total Requests to the Tempo API by endpoint and status.\n"
	                "# TYPE tempo_pg_requests_total counter\n");
	for (int i = 0; i < n_counts; i++)
		body_printf(body, "tempo_pg_requests_total{endpoint=\"%s\",status=\"%d\"} " UINT64_FORMAT "\n",
		            counts[i].endpoint, counts[i].status, counts[i].requests);
	body_text(body, "# HELP tempo_pg_request_seconds_total Time from the arrival of a request to its answer.\n"
	                "# TYPE tempo_pg_request_seconds_total counter\n");
	for (int i = 0; i < n_counts; i++)
		body_printf(body, "tempo_pg_request_seconds_total{endpoint=\"%s\",status=\"%d\"} %.6f\n",
		            counts[i].endpoint, counts[i].status, counts[i].seconds);
}

void
counts_write(ApiBody *body, const char *name, const char *type, const char *help, double value)
{
	body_printf(body, "# HELP tempo_pg_%s %s\n# TYPE tempo_pg_%s %s\ntempo_pg_%s %.17g\n",
	            name, help, name, type, name, value);
}
