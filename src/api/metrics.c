/*-------------------------------------------------------------------------
 *
 * metrics.c
 *	  /api/metrics/query_range and /api/metrics/query.
 *
 * Metrics queries are read and checked here, but not evaluated yet; where
 * there are no spans the answer is known without.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "api/internal.h"
#include "api/json.h"
#include "api/read.h"
#include "common/int.h"
#include "tempo_api.pb-c.h"
#include "traceql/ast.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#define NANOS INT64CONST(1000000000)

/* Range and step of a query in nanoseconds; step 0 = given as 0 */
typedef struct MetricsRange
{
	int64		start;
	int64		end;
	int64		step;
} MetricsRange;

/* ------------------------------------------------------------ parameters */

static int64
now_nanos(void)
{
	return (GetCurrentTimestamp() + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) * 1000;
}

/* "2026-08-01T12:00:00.5Z", "2026-08-01T14:00:00+02:00" */
static bool
parse_rfc3339(const char *text, int64 *nanos)
{
	int			year;
	int			month;
	int			day;
	int			hour;
	int			minute;
	int			second;
	int			zone_hour = 0;
	int			zone_minute = 0;
	int			n = 0;
	int64		fraction = 0;
	int64		unit = NANOS;

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
			  (hour - zone_hour) * 3600 + (minute - zone_minute) * 60 + second) * NANOS + fraction;
	return true;
}

/*
 * A fraction of seconds, whole seconds (up to ten characters), nanoseconds
 * (more), or RFC 3339.
 */
static bool
parse_time(const char *text, int64 *nanos)
{
	char	   *end;
	int64		n;
	double		d;

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
	char	   *end;
	double		d = strtod(text, &end);

	if (*end == '\0' && end != text && isfinite(d))
	{
		if (fabs(d) > 9e9)
			return false;
		*nanos = (int64) rint(d * NANOS);
		return true;
	}
	return parse_go_duration(text, nanos);
}

/* About 240 steps, of a round number of seconds where that is possible. */
static int64
automatic_step(int64 range)
{
	static const int64 grains[] = {3600, 300, 60, 15, 5, 1};
	int64		step = range / 240;

	if (range < 60 * NANOS)
		return Max(step / 50000000 * 50000000, 50000000);
	for (int i = 0; i < lengthof(grains); i++)
	{
		if (step > grains[i] * NANOS)
			return step / (grains[i] * NANOS) * (grains[i] * NANOS);
	}
	return NANOS;
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
	int64		now = now_nanos();
	int64		back = 3600000;

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
	range->step = automatic_step(range->step);
	if (step && !parse_step(step, &range->step))
		return bad_parameter(call, psprintf("cannot parse \"%s\" to a valid duration", step));
	if (range->step < 0)
		return bad_parameter(call, psprintf("cannot parse \"%s\": step must be positive", step));
	return true;
}

/* ----------------------------------------------------------------- query */

/*
 * The query, or NULL when it was answered that it is none.  What does not
 * parse is told as it is for a range and as "compiling query" for an instant;
 * what parses but has no meaning is "compiling query" for both.
 */
static TqlQuery *
read_query(ApiCall *call, bool instant)
{
	const char *text = parameter(call, "q");
	TqlQuery   *query;
	char	   *message;
	int			code;

	if (text == NULL)
		text = parameter(call, "query");
	if (text == NULL)
		text = "";
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
	int64		length = range->end - range->start;
	int64		smallest;

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

/* ------------------------------------------------- answers without spans */

/* Does the query start with { false }? */
static bool
matches_nothing(const TqlMetricsExpr *expr)
{
	const TqlStage *stage = expr->pipeline != NIL ? linitial(expr->pipeline) : NULL;

	return stage && stage->kind == TQL_ST_SPANSET && stage->spanset->kind == TQL_S_FILTER &&
		stage->spanset->filter && stage->spanset->filter->kind == TQL_E_STATIC &&
		stage->spanset->filter->value.type == TQL_BOOL && stage->spanset->filter->value.n == 0;
}

/*
 * rate() and count_over_time() are zero where there is nothing, other
 * functions and groups have no series.  NULL = none; what a comparison or
 * arithmetic makes of zero is none either.
 */
static const char *
zero_series(const TqlQuery *query)
{
	const TqlMetricsExpr *expr = query->metrics;

	if (expr->kind != TQL_ME_QUERY || expr->metrics->by != NIL || expr->second != NIL ||
		query->second != NIL || matches_nothing(expr))
		return NULL;
	if (expr->metrics->function == TQL_M_RATE)
		return "rate";
	return expr->metrics->function == TQL_M_COUNT ? "count_over_time" : NULL;
}

static Tempo__Otlp__KeyValue **
name_label(const char *name)
{
	Tempo__Otlp__KeyValue **labels = palloc(sizeof(void *));
	Tempo__Otlp__AnyValue *value = palloc(sizeof(*value));

	tempo__otlp__any_value__init(value);
	value->value_case = TEMPO__OTLP__ANY_VALUE__VALUE_STRING_VALUE;
	value->string_value.data = (uint8_t *) name;
	value->string_value.len = strlen(name);
	labels[0] = palloc(sizeof(Tempo__Otlp__KeyValue));
	tempo__otlp__key_value__init(labels[0]);
	labels[0]->key.data = (uint8_t *) "__name__";
	labels[0]->key.len = strlen("__name__");
	labels[0]->value = value;
	return labels;
}

/* Samples are at the right ends of the steps, from one before the start on. */
static Tempo__Api__TimeSeries *
zero_range(const char *name, const MetricsRange *range)
{
	Tempo__Api__TimeSeries *series = palloc(sizeof(*series));
	int64		step = range->step;
	int64		start = (range->start / step - 1) * step;
	int64		end = (range->end + step - 1) / step * step;

	tempo__api__time_series__init(series);
	series->n_labels = 1;
	series->labels = name_label(name);
	series->n_samples = (end - start) / step;
	series->samples = palloc(series->n_samples * sizeof(void *));
	for (Size i = 0; i < series->n_samples; i++)
	{
		series->samples[i] = palloc(sizeof(Tempo__Api__Sample));
		tempo__api__sample__init(series->samples[i]);
		series->samples[i]->timestamp_ms = (start + (int64) (i + 1) * step) / 1000000;
	}
	return series;
}

static bool
answer_without_spans(ApiCall *call, const TqlQuery *query, const MetricsRange *range, const char **zero)
{
	ApiRange	seconds = {true, range->start / NANOS - 1, range->end / NANOS + 1};

	*zero = zero_series(query);
	if (query->metrics->kind == TQL_ME_QUERY && matches_nothing(query->metrics))
		return true;
	/* the bucket before the start and the one around the end count too */
	seconds.start -= range->step / NANOS * 2;
	seconds.end += range->step / NANOS;
	if (has_spans(call, &seconds))
		return api_fail(call, 501, "metrics queries are not supported yet");
	return true;
}

static Tempo__Api__SearchMetrics *
metrics_message(void)
{
	Tempo__Api__SearchMetrics *metrics = palloc(sizeof(*metrics));

	tempo__api__search_metrics__init(metrics);
	metrics->completed_jobs = metrics->total_jobs = 1;
	return metrics;
}

void
serve_query_range(ApiCall *call)
{
	Tempo__Api__QueryRangeResponse response;
	Tempo__Api__TimeSeries *series;
	MetricsRange range;
	TqlQuery   *query;
	const char *zero;

	call->format = FORMAT_JSON;
	if (!read_range(call, &range) || (query = read_query(call, false)) == NULL ||
		!check_range(call, &range, false) || !answer_without_spans(call, query, &range, &zero))
		return;

	tempo__api__query_range_response__init(&response);
	response.metrics = metrics_message();
	if (zero)
	{
		series = zero_range(zero, &range);
		response.n_series = 1;
		response.series = &series;
	}
	api_answer(call, &response.base);
}

void
serve_query_instant(ApiCall *call)
{
	Tempo__Api__QueryInstantResponse response;
	Tempo__Api__InstantSeries series;
	Tempo__Api__InstantSeries *only = &series;
	MetricsRange range;
	TqlQuery   *query;
	const char *zero;

	call->format = FORMAT_JSON;
	if (!read_range(call, &range) || (query = read_query(call, true)) == NULL ||
		!check_range(call, &range, true) || !answer_without_spans(call, query, &range, &zero))
		return;

	tempo__api__query_instant_response__init(&response);
	response.metrics = metrics_message();
	if (zero)
	{
		tempo__api__instant_series__init(&series);
		series.n_labels = 1;
		series.labels = name_label(zero);
		response.n_series = 1;
		response.series = &only;
	}
	/* without series the key is left out */
	message_to_json(api_ok(call, "application/json"), &response.base, JSON_TEMPO, false);
}
