/*-------------------------------------------------------------------------
 *
 * params.c
 *	  The parameters of a query: durations, times, the range of a search.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>
#include <time.h>

#include "api/internal.h"
#include "common/int.h"

/* A window that the cut-off leaves nothing of becomes the last 15 minutes. */
#define RECENT_WINDOW 900

int64
now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec;
}

/* ------------------------------------------------------------- durations */

typedef struct Unit
{
	const char *name;
	int64       factor;
} Unit;

static const Unit go_units[] = {
	{"ns", 1}, {"us", 1000}, {"\xc2\xb5s", 1000}, {"\xce\xbcs", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"m", INT64CONST(60000000000)}, {"h", INT64CONST(3600000000000)}};

/* In the order in which they must be given. */
static const Unit prometheus_units[] = {
	{"y", INT64CONST(31536000000)}, {"w", 604800000}, {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

/* A unit ends where the next number begins. */
static int
find_unit(const Unit *units, int n, const char *text, const char **end)
{
	Size len = 0;

	while (text[len] && text[len] != '.' && !isdigit((unsigned char) text[len]))
		len++;
	*end = text + len;
	for (int i = 0; i < n; i++)
	{
		if (strlen(units[i].name) == len && strncmp(units[i].name, text, len) == 0)
			return i;
	}
	return -1;
}

/* "300ms", "1.5h", "-2h45m", "0" */
bool
parse_go_duration(const char *text, int64 *nanoseconds)
{
	bool        negative = *text == '-';
	long double total = 0;

	if (*text == '-' || *text == '+')
		text++;
	if (strcmp(text, "0") == 0)
	{
		*nanoseconds = 0;
		return true;
	}
	if (*text == '\0')
		return false;
	while (*text)
	{
		long double value = 0;
		long double scale = 1;
		bool        digits = false;
		int         unit;

		for (; isdigit((unsigned char) *text); text++, digits = true)
			value = value * 10 + (*text - '0');
		if (*text == '.')
		{
			for (text++; isdigit((unsigned char) *text); text++, digits = true)
				value += (*text - '0') * (scale /= 10);
		}
		unit = find_unit(go_units, lengthof(go_units), text, &text);
		if (!digits || unit < 0)
			return false;
		total += value * go_units[unit].factor;
		if (total >= 9223372036854775807.0L)
			return false;
	}
	/* what is less than a nanosecond is cut off, but 0.1s is no 99999999 */
	*nanoseconds = (int64) (total + 1e-6L);
	if (negative)
		*nanoseconds = -*nanoseconds;
	return true;
}

/* "1h30m", "7d", "0" */
bool
parse_prometheus_duration(const char *text, int64 *milliseconds)
{
	int   last = -1;
	int64 total = 0;

	if (strcmp(text, "0") == 0)
	{
		*milliseconds = 0;
		return true;
	}
	if (*text == '\0')
		return false;
	while (*text)
	{
		int64 value = 0;
		bool  digits = false;
		int   unit;

		for (; isdigit((unsigned char) *text); text++, digits = true)
		{
			if (pg_mul_s64_overflow(value, 10, &value) ||
			    pg_add_s64_overflow(value, *text - '0', &value))
				return false;
		}
		unit = find_unit(prometheus_units, lengthof(prometheus_units), text, &text);
		if (!digits || unit <= last ||
		    pg_mul_s64_overflow(value, prometheus_units[unit].factor, &value) ||
		    pg_add_s64_overflow(total, value, &total))
			return false;
		last = unit;
	}
	*milliseconds = total;
	return true;
}

/* A number of units below the second, without trailing zeros: "1.5", "250" */
static void
append_fraction(StringInfo out, int64 value, int64 unit)
{
	appendStringInfo(out, INT64_FORMAT, value / unit);
	value %= unit;
	if (value == 0)
		return;
	appendStringInfoChar(out, '.');
	while (value != 0)
	{
		unit /= 10;
		appendStringInfoChar(out, (char) ('0' + value / unit));
		value %= unit;
	}
}

/* As Go prints durations: "1h0m0s", "1.5s", "12ms", "0s" */
char *
format_go_duration(int64 nanoseconds)
{
	StringInfoData out;
	int64          n = nanoseconds;

	initStringInfo(&out);
	if (n < 0)
	{
		appendStringInfoChar(&out, '-');
		n = n == PG_INT64_MIN ? PG_INT64_MAX : -n;
	}
	if (n == 0)
		appendStringInfoString(&out, "0s");
	else if (n < 1000)
		appendStringInfo(&out, INT64_FORMAT "ns", n);
	else if (n < 1000000)
	{
		append_fraction(&out, n, 1000);
		appendStringInfoString(&out, "\xc2\xb5s");
	}
	else if (n < 1000000000)
	{
		append_fraction(&out, n, 1000000);
		appendStringInfoString(&out, "ms");
	}
	else
	{
		int64 minutes = n / INT64CONST(60000000000);

		if (minutes >= 60)
			appendStringInfo(&out, INT64_FORMAT "h", minutes / 60);
		if (minutes > 0)
			appendStringInfo(&out, INT64_FORMAT "m", minutes % 60);
		append_fraction(&out, n % INT64CONST(60000000000), 1000000000);
		appendStringInfoChar(&out, 's');
	}
	return out.data;
}

/* ----------------------------------------------------------------- range */

/* "function" is the one of Go's that clients of Tempo know from its errors. */
bool
read_integer(ApiCall *call, const char *name, const char *function, int64 *value)
{
	const char *text = parameter(call, name);
	char       *end;

	if (text == NULL)
		return true;
	errno = 0;
	*value = strtoll(text, &end, 10);
	if (*end != '\0' || end == text || isspace((unsigned char) *text))
		return api_fail(call, 400, "invalid %s: strconv.%s: parsing \"%s\": invalid syntax", name, function, text);
	if (errno == ERANGE)
		return api_fail(call, 400, "invalid %s: strconv.%s: parsing \"%s\": value out of range", name, function, text);
	return true;
}

bool
read_seconds(ApiCall *call, const char *name, int64 *value)
{
	return read_integer(call, name, "ParseInt", value);
}

void
append_percent(StringInfo out, const char *data, Size len)
{
	for (Size i = 0; i < len; i++)
	{
		if (isalnum((unsigned char) data[i]) && (unsigned char) data[i] < 0x80)
			appendStringInfoChar(out, data[i]);
		else
			appendStringInfo(out, "%%%02X", (unsigned char) data[i]);
	}
}

/* The range the client left open, or that reaches into the future. */
static void
settle_range(ApiRange *range, bool given)
{
	int64 now = now_seconds();
	int64 latest = now - tempo_query_end_cutoff;

	/* "until now" includes what has started within the current second */
	if (tempo_query_end_cutoff == 0)
		latest++;

	if (!given)
	{
		range->set = tempo_search_default_range > 0 || tempo_query_end_cutoff > 0;
		range->start = tempo_search_default_range > 0 ? now - tempo_search_default_range : 0;
		range->end = latest;
		return;
	}
	range->set = true;
	if (range->end >= (tempo_query_end_cutoff == 0 ? now : latest))
		range->end = latest;
	if (range->start > range->end)
		range->start = latest - RECENT_WINDOW;
}

/*
 * start, end and since of the search and tag endpoints.  "start_before_end":
 * only /api/search checks the order by itself, the tag endpoints find such a
 * range too long.
 */
bool
read_search_range(ApiCall *call, bool start_before_end, ApiRange *range)
{
	const char *since = parameter(call, "since");
	int64       start = 0;
	int64       end = 0;

	if (!read_seconds(call, "start", &start) || !read_seconds(call, "end", &end))
		return false;
	if (start < 0 || start > PG_UINT32_MAX)
		return api_fail(call, 400, "invalid start: strconv.ParseInt: parsing \"%s\": value out of range",
		                parameter(call, "start"));
	if (end < 0 || end > PG_UINT32_MAX)
		return api_fail(call, 400, "invalid end: strconv.ParseInt: parsing \"%s\": value out of range",
		                parameter(call, "end"));
	if (start_before_end && (start != 0 || end != 0) && end <= start)
		return api_fail(call, 400, "http parameter start must be before end. received start=" INT64_FORMAT " end=" INT64_FORMAT,
		                start, end);

	if (since)
	{
		int64 milliseconds;

		if (!parse_prometheus_duration(since, &milliseconds))
			return api_fail(call, 400, "error parsing date range: could not parse 'since' parameter: not a valid duration string: \"%s\"",
			                since);
		end = now_seconds() - tempo_query_end_cutoff;
		start = Max(end - milliseconds / 1000, 0);
		if (tempo_query_end_cutoff == 0)
			end++;
	}
	else if ((parameter(call, "start") == NULL) != (parameter(call, "end") == NULL))
		return api_fail(call, 400, "error parsing date range: only one of start and end provided: must provide both or neither");

	range->start = start;
	range->end = end;
	if ((end < start || (tempo_search_max_range > 0 && end - start > tempo_search_max_range)) && !since)
		return api_fail(call, 400, "range specified by start and end exceeds %s. received start=" INT64_FORMAT " end=" INT64_FORMAT,
		                format_go_duration((int64) tempo_search_max_range * 1000000000), start, end);
	if (since && tempo_search_max_range > 0 && end - start > (int64) tempo_search_max_range + 1)
		return api_fail(call, 400, "range specified by start and end exceeds %s. received start=" INT64_FORMAT " end=" INT64_FORMAT,
		                format_go_duration((int64) tempo_search_max_range * 1000000000), start, end);
	settle_range(range, since != NULL || start != 0 || end != 0);
	return true;
}
