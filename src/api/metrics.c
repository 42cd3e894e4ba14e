/*-------------------------------------------------------------------------
 *
 * metrics.c
 *	  /api/metrics/query_range and /api/metrics/query.
 *
 * Parameters are read here; tempo.query_metrics() evaluates the query.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "api/internal.h"
#include "api/json.h"
#include "api/read.h"
#include "api/stream.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "executor/spi.h"
#include "tempo_api.pb-c.h"
#include "traceql/metrics.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#define NANOS INT64CONST(1000000000)

/* A stream of fewer samples, or an instant query of a shorter range, is not divided. */
#define MIN_DIVIDED_STEPS 16
#define MIN_DIVIDED_RANGE (64 * NANOS)

/* What a stream tells first is of this part of the range, the newest */
#define NEWEST_PART 8

/* Windows of time in which exemplars are looked for, and how many in each: it costs some milliseconds */
#define EXEMPLAR_WINDOWS 5
#define EXEMPLARS_PER_WINDOW 10

/* Range and step of a query in nanoseconds; step 0 = given as 0 */
typedef struct MetricsRange
{
	int64 start;
	int64 end;
	int64 step;
} MetricsRange;

/* ------------------------------------------------------------ parameters */

static int64
now_nanos(void)
{
	return (GetCurrentTimestamp() + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) * 1000;
}

/* "2026-08-01T12:00:00.5Z", "2026-08-01T14:00:00+02:00" */
bool
parse_rfc3339(const char *text, int64 *nanos)
{
	int   year;
	int   month;
	int   day;
	int   hour;
	int   minute;
	int   second;
	int   zone_hour = 0;
	int   zone_minute = 0;
	int   n = 0;
	int64 fraction = 0;
	int64 unit = NANOS;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &year, &month, &day, &hour, &minute, &second, &n) != 6 ||
	    n != 19 || year < 1970 || year > 2261 || month < 1 || month > 12 || day < 1 ||
	    day > day_tab[isleap(year)][month - 1] ||
	    hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59)
		return false;
	text += n;
	if (*text == '.')
	{
		for (text++; isdigit((unsigned char) *text); text++)
			fraction += (*text - '0') * (unit /= 10);
	}
	if (strcmp(text, "Z") != 0)
	{
		n = 0;
		if ((*text != '+' && *text != '-') ||
		    sscanf(text + 1, "%2d:%2d%n", &zone_hour, &zone_minute, &n) != 2 || n != 5 || text[6] != '\0')
			return false;
		if (*text == '-')
		{
			zone_hour = -zone_hour;
			zone_minute = -zone_minute;
		}
	}
	*nanos = ((int64) (date2j(year, month, day) - UNIX_EPOCH_JDATE) * SECS_PER_DAY +
	          (hour - zone_hour) * 3600 + (minute - zone_minute) * 60 + second) *
	             NANOS +
	         fraction;
	return true;
}

/*
 * A fraction of seconds, whole seconds (up to ten characters), nanoseconds
 * (more), or RFC 3339.
 */
static bool
parse_time(const char *text, int64 *nanos)
{
	char  *end;
	int64  n;
	double d;

	if (strchr(text, '.'))
	{
		d = strtod(text, &end);
		if (*end == '\0' && end != text && isfinite(d) && fabs(d) < 9e9)
		{
			*nanos = (int64) rint(d * 1000) * 1000000;
			return true;
		}
	}
	errno = 0;
	n = strtoll(text, &end, 10);
	if (*end == '\0' && end != text && errno == 0)
	{
		if (strlen(text) > 10)
			*nanos = n;
		else
			*nanos = n * NANOS;
		return true;
	}
	return parse_rfc3339(text, nanos);
}

/* Seconds, or a Go duration. */
static bool
parse_step(const char *text, int64 *nanos)
{
	char  *end;
	double d = strtod(text, &end);

	if (*end == '\0' && end != text && isfinite(d))
	{
		if (fabs(d) > 9e9)
			return false;
		*nanos = (int64) rint(d * NANOS);
		return true;
	}
	return parse_go_duration(text, nanos);
}

static bool
bad_parameter(ApiCall *call, const char *text)
{
	return api_fail(call, 400, "rpc error: code = Code(400) desc = %s", text);
}

static bool
read_time(ApiCall *call, const char *name, int64 *nanos)
{
	const char *text = parameter(call, name);

	if (text && !parse_time(text, nanos))
		return bad_parameter(call, psprintf("could not parse '%s' parameter: cannot parse \"%s\" to a valid timestamp",
		                                    name, text));
	return true;
}

static bool
read_range(ApiCall *call, MetricsRange *range)
{
	const char *since = parameter(call, "since");
	const char *step = parameter(call, "step");
	int64       now = now_nanos();
	int64       back = 3600000;

	if (since && !parse_prometheus_duration(since, &back))
		return bad_parameter(call, psprintf("could not parse 'since' parameter: not a valid duration string: \"%s\"", since));
	range->end = now;
	if (!read_time(call, "end", &range->end))
		return false;
	if (pg_mul_s64_overflow(back, 1000000, &back) ||
	    pg_sub_s64_overflow(Min(range->end, now), back, &range->start))
		range->start = 0;
	if (!read_time(call, "start", &range->start))
		return false;
	if (pg_sub_s64_overflow(range->end, range->start, &range->step))
		return bad_parameter(call, "could not parse 'start' parameter: out of range");
	range->step = tql_automatic_step(range->step);
	if (step && !parse_step(step, &range->step))
		return bad_parameter(call, psprintf("cannot parse \"%s\" to a valid duration", step));
	if (range->step < 0)
		return bad_parameter(call, psprintf("cannot parse \"%s\": step must be positive", step));
	return true;
}

/* ----------------------------------------------------------------- query */

static const char *
query_text(const ApiCall *call)
{
	const char *text = parameter(call, "q");

	if (text == NULL)
		text = parameter(call, "query");
	return text ? text : "";
}

/*
 * The query, or NULL when it was answered that it is none.  What does not
 * parse is told as it is for a range and as "compiling query" for an instant;
 * what parses but has no meaning is "compiling query" for both.
 */
static TqlQuery *
read_query(ApiCall *call, bool instant)
{
	const char *text = query_text(call);
	TqlQuery   *query;
	char       *message;
	int         code;

	if (strlen(text) > (Size) tempo_max_query_bytes)
	{
		(void) api_fail(call, 400, "TraceQL expression exceeds the configured maximum size of %d bytes, "
		                           "reduce the query expression size or contact your system administrator",
		                tempo_max_query_bytes);
		return NULL;
	}

	query = parse_query(text, &message, &code);
	if (query == NULL)
		(void) api_fail(call, 400, "%s%s",
		                instant || code == ERRCODE_INVALID_PARAMETER_VALUE ? "compiling query: " : "", message);
	if (query && query->metrics == NULL)
	{
		(void) api_fail(call, 400, "not a metrics query");
		return NULL;
	}
	return query;
}

static bool
check_range(ApiCall *call, const MetricsRange *range, bool instant)
{
	int64 length = range->end - range->start;
	int64 smallest;

	if (length <= 0)
		return api_fail(call, 400, "end must be greater than start");
	if (tempo_metrics_max_range > 0 && length > tempo_metrics_max_range * NANOS)
		return api_fail(call, 400, "metrics query time range exceeds the maximum allowed duration of %s",
		                format_go_duration(tempo_metrics_max_range * NANOS));
	if (!instant && (range->step == 0 || length / range->step > tempo_metrics_max_intervals))
	{
		smallest = (length / tempo_metrics_max_intervals + 999999) / 1000000 * 1000000;
		return api_fail(call, 400, "step of %s is too small, minimum step for given range is %s",
		                format_go_duration(range->step), format_go_duration(smallest));
	}
	return true;
}

/* ---------------------------------------------------------------- answers */

/* Runs the query over the steps of the range; the caller is connected. */
static void
run_metrics(ApiCall *call, const TqlRange *range)
{
	Oid   types[6] = {TEXTOID, INT8OID, INT8OID, INT8OID, TEXTARRAYOID, INT8OID};
	Datum values[6];

	values[0] = CStringGetTextDatum(query_text(call));
	values[1] = Int64GetDatum(range->start);
	values[2] = Int64GetDatum(range->stop);
	values[3] = Int64GetDatum(range->step);
	values[4] = tenants_array(call);
	values[5] = Int64GetDatum(range->after);
	run_query("SELECT s.label_list, s.times, s.values FROM tempo.query_metrics($1, $2, $3, $4, $5, $6) AS s",
	          6, types, values, NULL);
}

static Jsonb *
jsonb_of(uint64 row, int column)
{
	bool  isnull;
	Datum datum = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? NULL : DatumGetJsonbPCopy(datum);
}

/* Labels, from the form of JSON that the API prints */
static Tempo__Otlp__KeyValue **
labels_of(const Jsonb *list, size_t *n)
{
	JsonbParseState        *state = NULL;
	JsonbValue              key = {.type = jbvString, .val.string = {.val = "labels", .len = 6}};
	JsonbValue              value;
	Tempo__Api__TimeSeries *series;
	Jsonb                  *whole;

	value.type = jbvBinary;
	value.val.binary.data = unconstify(JsonbContainer *, &list->root);
	value.val.binary.len = VARSIZE_ANY_EXHDR(list);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	pushJsonbValue(&state, WJB_KEY, &key);
	pushJsonbValue(&state, WJB_VALUE, &value);
	whole = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
	series = (Tempo__Api__TimeSeries *) message_from_jsonb(&tempo__api__time_series__descriptor, &whole->root);
	*n = series->n_labels;
	return series->labels;
}

/* Columns 2 and 3 of a row: times and values */
static int
samples_of(uint64 row, Datum **times, Datum **values)
{
	int  n = 0;
	bool isnull;

	deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 2, &isnull)),
	                  TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, times, NULL, &n);
	deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 3, &isnull)),
	                  FLOAT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, values, NULL, &n);
	return n;
}

static Tempo__Api__TimeSeries *
range_series(uint64 row, const Jsonb *labels)
{
	Tempo__Api__TimeSeries *series = palloc(sizeof(*series));
	Tempo__Api__Sample     *samples;
	Datum                  *times;
	Datum                  *values;

	tempo__api__time_series__init(series);
	series->labels = labels_of(labels, &series->n_labels);
	series->n_samples = samples_of(row, &times, &values);
	series->samples = palloc(Max(series->n_samples, 1) * sizeof(void *));
	samples = palloc(Max(series->n_samples, 1) * sizeof(*samples));
	for (Size i = 0; i < series->n_samples; i++)
	{
		series->samples[i] = &samples[i];
		tempo__api__sample__init(&samples[i]);
		samples[i].timestamp_ms = (DatumGetTimestampTz(times[i]) +
		                           (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) /
		                          1000;
		samples[i].value = DatumGetFloat8(values[i]);
	}
	return series;
}

static Tempo__Api__InstantSeries *
instant_series(uint64 row)
{
	Tempo__Api__InstantSeries *series = palloc(sizeof(*series));
	Datum                     *times;
	Datum                     *values;

	tempo__api__instant_series__init(series);
	series->labels = labels_of(jsonb_of(row, 1), &series->n_labels);
	if (samples_of(row, &times, &values) > 0)
		series->value = DatumGetFloat8(values[0]);
	return series;
}

/* Of a whole answer, or of one that goes on. */
static Tempo__Api__SearchMetrics *
metrics_message(bool complete)
{
	Tempo__Api__SearchMetrics *metrics = palloc(sizeof(*metrics));

	tempo__api__search_metrics__init(metrics);
	metrics->completed_jobs = complete ? 1 : 0;
	metrics->total_jobs = 1;
	return metrics;
}

/* A parameter that is a number; 0 for what is none */
static int64
number_of(const ApiCall *call, const char *name)
{
	const char   *text = parameter(call, name);
	char         *end;
	unsigned long n;

	if (text == NULL || !isdigit((unsigned char) *text))
		return 0;
	errno = 0;
	n = strtoul(text, &end, 10);
	return *end == '\0' && errno == 0 && n <= PG_UINT32_MAX ? (int64) n : 0;
}

/* How many of these series to answer with; if not all, "message" says so. */
static uint64
limit_series(const ApiCall *call, uint64 n, ProtobufCBinaryData *message, Tempo__Api__PartialStatus *status)
{
	int64 limit = number_of(call, "maxSeries");

	if (tempo_metrics_max_series > 0 && (limit == 0 || limit > tempo_metrics_max_series))
		limit = tempo_metrics_max_series;
	if (limit == 0 || n <= (uint64) limit)
		return n;
	*status = TEMPO__API__PARTIAL_STATUS__PARTIAL;
	message->data = (uint8 *) psprintf("Response exceeds maximum series limit of " INT64_FORMAT ", a partial response is returned. "
	                                   "Warning: the accuracy of each individual value is not guaranteed.",
	                                   limit);
	message->len = strlen((char *) message->data);
	return (uint64) limit;
}

/* -------------------------------------------------------------- exemplars */

/*
 * Divides the range into up to "most" windows and makes each as narrow as the
 * steps in which some series has a value
 */
static int
choose_windows(const TqlRange *range, Tempo__Api__TimeSeries **series, size_t n_series, int most,
               Datum *first, Datum *last)
{
	int   n_steps = tql_count_steps(range->start, range->stop, range->step);
	int   windows = Min(most, n_steps);
	bool *found = palloc0(n_steps);
	int   n = 0;

	for (size_t i = 0; i < n_series; i++)
	{
		for (size_t j = 0; j < series[i]->n_samples; j++)
		{
			const Tempo__Api__Sample *sample = series[i]->samples[j];
			int64                     step = (sample->timestamp_ms * 1000000 - range->start + range->step / 2) / range->step - 1;

			if (sample->value != 0 && step >= 0 && step < n_steps)
				found[step] = true;
		}
	}
	for (int i = 0; i < windows; i++)
	{
		int from = (int) ((int64) n_steps * i / windows);
		int to = (int) ((int64) n_steps * (i + 1) / windows) - 1;

		while (from <= to && !found[from])
			from++;
		while (to > from && !found[to])
			to--;
		if (from > to)
			continue;
		first[n] = Int32GetDatum(from);
		last[n++] = Int32GetDatum(to);
	}
	return n;
}

/* The series that counted an exemplar of these labels; NULL are those of a series without any */
static Tempo__Api__TimeSeries *
find_series(Tempo__Api__TimeSeries **series, const Jsonb **labels, size_t n, const Jsonb *wanted)
{
	for (size_t i = 0; i < n; i++)
	{
		if (wanted == NULL ? series[i]->n_labels == 1 && series[i]->labels[0]->key.len == 8 &&
		                         memcmp(series[i]->labels[0]->key.data, "__name__", 8) == 0 :
		                     compareJsonbContainers(unconstify(JsonbContainer *, &labels[i]->root), unconstify(JsonbContainer *, &wanted->root)) == 0)
			return series[i];
	}
	return NULL;
}

/* The sample whose step a time is in */
static const Tempo__Api__Sample *
sample_at(const TqlRange *range, const Tempo__Api__TimeSeries *series, int64 time)
{
	int64 end = range->start + ((time - range->start - 1) / range->step + 1) * range->step;

	for (size_t i = 0; i < series->n_samples; i++)
	{
		if (series->samples[i]->timestamp_ms == end / 1000000)
			return series->samples[i];
	}
	return NULL;
}

/* Adds what the current result has to the series. */
static void
read_exemplars(const TqlRange *range, Tempo__Api__TimeSeries **series, const Jsonb **labels, size_t n)
{
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		Tempo__Api__TimeSeries   *of = find_series(series, labels, n, jsonb_of(row, 3));
		Tempo__Api__Exemplar     *exemplar;
		const Tempo__Api__Sample *sample;
		bool                      isnull;
		int64                     time = result_int64(row, 1, &isnull);
		Datum                     value;

		/* what topk and thresholds took away has none */
		if (of == NULL || (sample = sample_at(range, of, time)) == NULL)
			continue;
		exemplar = palloc(sizeof(*exemplar));
		tempo__api__exemplar__init(exemplar);
		exemplar->labels = labels_of(jsonb_of(row, 4), &exemplar->n_labels);
		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 2, &isnull);
		exemplar->value = isnull ? sample->value : DatumGetFloat8(value);
		exemplar->timestamp_ms = time / 1000000;
		if (of->exemplars == NULL)
			of->exemplars = palloc(SPI_processed * sizeof(void *));
		of->exemplars[of->n_exemplars++] = exemplar;
	}
}

/* Exemplars as the request and the query want them; the caller is connected. */
static void
add_exemplars(ApiCall *call, const TqlQuery *query, const TqlRange *range,
              Tempo__Api__TimeSeries **series, const Jsonb **labels, size_t n)
{
	Oid   types[8] = {TEXTOID, INT8OID, INT8OID, INT8OID, INT4ARRAYOID, INT4ARRAYOID, INT4OID, TEXTARRAYOID};
	int64 limit = number_of(call, "exemplars");
	Datum first[EXEMPLAR_WINDOWS];
	Datum last[EXEMPLAR_WINDOWS];
	Datum values[8];
	int   windows;

	if (limit == 0 || limit > tempo_metrics_max_exemplars)
		limit = tempo_metrics_max_exemplars;
	limit = tql_hint_exemplars(query, (int) limit);
	if (limit == 0)
		return;
	windows = choose_windows(range, series, n, (int) Min(limit, EXEMPLAR_WINDOWS), first, last);
	if (windows == 0)
		return;
	values[0] = CStringGetTextDatum(query_text(call));
	values[1] = Int64GetDatum(range->start);
	values[2] = Int64GetDatum(range->stop);
	values[3] = Int64GetDatum(range->step);
	values[4] = PointerGetDatum(construct_array(first, windows, INT4OID, 4, true, TYPALIGN_INT));
	values[5] = PointerGetDatum(construct_array(last, windows, INT4OID, 4, true, TYPALIGN_INT));
	values[6] = Int32GetDatum((int32) Min(limit, EXEMPLAR_WINDOWS * EXEMPLARS_PER_WINDOW));
	values[7] = tenants_array(call);
	run_query("SELECT e.start_time_unix_nano, e.value, e.series, e.labels FROM tempo.query_exemplars($1, $2, $3, $4, $5, $6, $7, $8) AS e",
	          8, types, values, NULL);
	read_exemplars(range, series, labels, n);
}

/* The series over the steps of a range; "query" NULL = without exemplars. */
static Tempo__Api__QueryRangeResponse *
range_response(ApiCall *call, const TqlRange *range, const TqlQuery *query)
{
	Tempo__Api__QueryRangeResponse *response = palloc(sizeof(*response));
	MemoryContext                   context = CurrentMemoryContext;
	const Jsonb                   **labels;

	tempo__api__query_range_response__init(response);
	SPI_connect();
	/* the answer outlives the query */
	MemoryContextSwitchTo(context);
	run_metrics(call, range);
	response->n_series = limit_series(call, SPI_processed, &response->message, &response->status);
	response->series = palloc(Max(response->n_series, 1) * sizeof(void *));
	labels = palloc(Max(response->n_series, 1) * sizeof(void *));
	for (uint64 row = 0; row < response->n_series; row++)
	{
		labels[row] = jsonb_of(row, 1);
		response->series[row] = range_series(row, labels[row]);
	}
	if (query)
		add_exemplars(call, query, range, response->series, labels, response->n_series);
	SPI_finish();
	MemoryContextSwitchTo(context);
	return response;
}

/*
 * The newest steps first, if the query is such that what they have does not
 * depend on others: compare() and limits of series choose from the whole range,
 * and clients, which add series of a stream by their labels, would keep those
 * that were not chosen in the end.
 */
static void
send_newest(ApiCall *call, const TqlQuery *query, const TqlRange *range)
{
	Tempo__Api__QueryRangeResponse *response;
	TqlRange                        newest = *range;
	int64                           steps = (range->stop - range->start) / range->step;

	if (!call->request->stream || call->request->partial == NULL || steps < MIN_DIVIDED_STEPS ||
	    number_of(call, "maxSeries") > 0 || tempo_metrics_max_series > 0 ||
	    query->metrics->kind != TQL_ME_QUERY || query->metrics->metrics->function == TQL_M_COMPARE)
		return;
	newest.start = newest.after = range->stop - steps / NEWEST_PART * range->step;
	response = range_response(call, &newest, NULL);
	response->metrics = metrics_message(false);
	stream_send(call, &response->base);
}

void
serve_query_range(ApiCall *call)
{
	Tempo__Api__QueryRangeResponse *response;
	MetricsRange                    range;
	TqlRange                        aligned;
	const TqlQuery                 *query;

	call->format = FORMAT_JSON;
	if (!read_range(call, &range) || (query = read_query(call, false)) == NULL || !check_range(call, &range, false))
		return;
	if (!tql_align_range(range.start, range.end, range.step, &aligned))
	{
		(void) bad_parameter(call, "could not parse 'start' parameter: out of range");
		return;
	}
	send_newest(call, query, &aligned);
	response = range_response(call, &aligned, query);
	response->metrics = metrics_message(true);
	api_answer(call, &response->base);
}

/* The value of each series over a range */
static Tempo__Api__QueryInstantResponse *
instant_response(ApiCall *call, const TqlRange *range)
{
	Tempo__Api__QueryInstantResponse *response = palloc(sizeof(*response));
	MemoryContext                     context = CurrentMemoryContext;

	tempo__api__query_instant_response__init(response);
	SPI_connect();
	/* the answer outlives the query */
	MemoryContextSwitchTo(context);
	run_metrics(call, range);
	response->n_series = limit_series(call, SPI_processed, &response->message, &response->status);
	response->series = palloc(Max(response->n_series, 1) * sizeof(void *));
	for (uint64 row = 0; row < response->n_series; row++)
		response->series[row] = instant_series(row);
	SPI_finish();
	MemoryContextSwitchTo(context);
	return response;
}

/*
 * What the newest spans alone make the answer: counts and sums so far, rates
 * over the whole range already.  Any query has that, since clients put each
 * message of this stream in the place of the one before.
 */
static void
send_newest_instant(ApiCall *call, const TqlRange *range)
{
	Tempo__Api__QueryInstantResponse *response;
	TqlRange                          newest = *range;

	if (!call->request->stream || call->request->partial == NULL || range->step < MIN_DIVIDED_RANGE)
		return;
	newest.after = range->stop - range->step / NEWEST_PART;
	response = instant_response(call, &newest);
	response->metrics = metrics_message(false);
	stream_send(call, &response->base);
}

void
serve_query_instant(ApiCall *call)
{
	Tempo__Api__QueryInstantResponse *response;
	MetricsRange                      range;
	TqlRange                          whole;

	call->format = FORMAT_JSON;
	if (!read_range(call, &range) || read_query(call, true) == NULL || !check_range(call, &range, true))
		return;
	whole.start = whole.after = range.start;
	whole.stop = range.end;
	whole.step = range.end - range.start;

	send_newest_instant(call, &whole);
	response = instant_response(call, &whole);
	response->metrics = metrics_message(true);
	if (call->request->stream)
		api_answer(call, &response->base);
	/* without series the key is left out */
	else
		message_to_json(api_ok(call, "application/json"), &response->base, JSON_TEMPO, false);
}
