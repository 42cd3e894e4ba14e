/*-------------------------------------------------------------------------
 *
 * literal.c
 *	  Reading numbers, durations, strings and attribute names (reference,
 *	  sections 1.3 to 1.6).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "common/int.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "traceql/parse.h"

#define NS_PER_US INT64CONST(1000)
#define NS_PER_MS INT64CONST(1000000)
#define NS_PER_S INT64CONST(1000000000)

/*
 * What PostgreSQL's text can hold, by the rule that ingest follows: each
 * byte that is no UTF-8, and each NUL, becomes U+FFFD.
 */
char *
tql_clean_text(const char *text, int length)
{
	StringInfoData out;
	int            i = 0;

	initStringInfo(&out);
	while (i < length)
	{
		int n = pg_utf_mblen((const unsigned char *) text + i);

		if (text[i] == '\0' || n > length - i ||
		    !pg_utf8_islegal((const unsigned char *) text + i, n))
		{
			appendStringInfoString(&out, "\xEF\xBF\xBD");
			i++;
		}
		else
		{
			appendBinaryStringInfo(&out, text + i, n);
			i += n;
		}
	}
	return out.data;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

/* Reads exactly "digits" digits of the base at text[*i]. */
static bool
read_digits(const char *text, int length, int *i, int digits, int base, uint32 *value)
{
	*value = 0;
	for (; digits > 0; digits--)
	{
		int d;

		if (*i >= length || (d = hex_digit(text[*i])) >= base)
			return false;
		*value = *value * base + d;
		(*i)++;
	}
	return true;
}

/* The value of a "..." string, given what is between the quotes. */
char *
tql_unescape(TqlParser *parser, const char *text, int length)
{
	StringInfoData    out;
	TqlToken          at = {.offset = parser->offset};
	static const char letters[] = "abfnrtv\\\"";
	static const char values[] = "\a\b\f\n\r\t\v\\\"";

	initStringInfo(&out);
	for (int i = 0; i < length;)
	{
		char        c = text[i++];
		const char *p;
		uint32      code;
		bool        ok;

		if (c != '\\')
		{
			appendStringInfoChar(&out, c);
			continue;
		}
		c = text[i++]; /* the lexer leaves no backslash at the end */
		if (c != '\0' && (p = strchr(letters, c)) != NULL)
		{
			appendStringInfoChar(&out, values[p - letters]);
			continue;
		}
		if (c >= '0' && c <= '7')
		{
			i--;
			ok = read_digits(text, length, &i, 3, 8, &code) && code <= 255;
			c = 'x';
		}
		else if (c == 'x')
			ok = read_digits(text, length, &i, 2, 16, &code);
		else if (c == 'u' || c == 'U')
			ok = read_digits(text, length, &i, c == 'u' ? 4 : 8, 16, &code) &&
			     code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
		else
			ok = false;
		if (!ok)
			tql_parse_error(parser, &at, "invalid char escape");
		if (c == 'x')
			appendStringInfoChar(&out, (char) code); /* a byte, not a character */
		else
		{
			unsigned char utf8[MAX_MULTIBYTE_CHAR_LEN + 1] = {0};

			unicode_to_utf8(code, utf8);
			appendBinaryStringInfo(&out, (char *) utf8, pg_utf_mblen(utf8));
		}
	}
	return tql_clean_text(out.data, out.len);
}

/* An attribute's name: quoted segments lose their quotes. */
char *
tql_attribute_name(TqlParser *parser, const char *text, int length)
{
	StringInfoData out;
	bool           quoted = false;

	initStringInfo(&out);
	for (int i = 0; i < length; i++)
	{
		if (text[i] == '"')
			quoted = !quoted;
		else if (quoted && text[i] == '\\')
		{
			TqlToken at = {.offset = parser->scope_offset, .inner = true};

			i++;
			if (i >= length || (text[i] != '"' && text[i] != '\\'))
				tql_parse_error(parser, &at, "invalid escape sequence");
			appendStringInfoChar(&out, text[i]);
		}
		else
			appendStringInfoChar(&out, text[i]);
	}
	return tql_clean_text(out.data, out.len);
}

TqlStatic
tql_read_number(TqlParser *parser, const char *text, int length)
{
	TqlToken at = {.offset = parser->offset};
	bool     hex = length > 1 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	bool     is_float = strchr(text, '.') != NULL || strpbrk(text, hex ? "pP" : "eE") != NULL;

	if (is_float)
	{
		char  *end;
		double d;

		errno = 0;
		d = strtod(text, &end);
		if (*end != '\0' || (hex && strpbrk(text, "pP") == NULL))
			tql_parse_error(parser, &at, "strconv.ParseFloat: parsing \"%s\": invalid syntax", text);
		if (isinf(d))
			tql_parse_error(parser, &at, "strconv.ParseFloat: parsing \"%s\": value out of range", text);
		return tql_float(d);
	}

	if (strspn(text, "0123456789") != length)
		tql_parse_error(parser, &at, "strconv.Atoi: parsing \"%s\": invalid syntax", text);
	if (length > 1 && text[0] == '0')
	{
		const char *bad = strpbrk(text, "89");

		if (bad)
			tql_parse_error(parser, &at, "invalid digit '%c' in octal literal", *bad);
	}
	errno = 0;
	{
		int64 n = strtoll(text, NULL, 10);

		if (errno == ERANGE)
			tql_parse_error(parser, &at, "strconv.Atoi: parsing \"%s\": value out of range", text);
		return tql_int(n);
	}
}

/* Reads digits as an int64; false without any or beyond the range. */
static bool
read_integer(const char **p, const char *end, int64 *value)
{
	const char *start = *p;

	*value = 0;
	for (; *p < end && **p >= '0' && **p <= '9'; (*p)++)
	{
		if (pg_mul_s64_overflow(*value, 10, value) ||
		    pg_add_s64_overflow(*value, **p - '0', value))
			return false;
	}
	return *p > start;
}

static bool
unit_is(const char *p, const char *end, const char *unit)
{
	return end - p >= strlen(unit) && memcmp(p, unit, strlen(unit)) == 0;
}

/* Integers with the units y w d h m s ms in this order, each once: 1w2d */
static bool
read_ordered_duration(const char *p, const char *end, int64 *ns)
{
	static const struct
	{
		const char *unit;
		int64       ns;
	} units[] = {
		{"y", 365 * 24 * 3600 * NS_PER_S},
		{"w", 7 * 24 * 3600 * NS_PER_S},
		{"d", 24 * 3600 * NS_PER_S},
		{"h", 3600 * NS_PER_S},
		{"m", 60 * NS_PER_S},
		{"s", NS_PER_S},
		{"ms", NS_PER_MS},
	};
	int next = 0;

	*ns = 0;
	while (p < end)
	{
		int64 n;

		if (!read_integer(&p, end, &n))
			return false;
		for (;; next++)
		{
			if (next == lengthof(units))
				return false;
			/* "m" must not take the start of "ms" */
			if (unit_is(p, end, units[next].unit) &&
			    !(strcmp(units[next].unit, "m") == 0 && unit_is(p, end, "ms")))
				break;
		}
		p += strlen(units[next].unit);
		if (pg_mul_s64_overflow(n, units[next].ns, &n) || pg_add_s64_overflow(*ns, n, ns))
			return false;
		next++;
	}
	return true;
}

/* Decimals with the units h m s ms us µs ns in any order: 1.5s, 30m1h */
static bool
read_free_duration(const char *p, const char *end, int64 *ns)
{
	static const struct
	{
		const char *unit;
		int64       ns;
	} units[] = {
		{"ns", 1},
		{"us", NS_PER_US},
		{"\xC2\xB5s", NS_PER_US},
		{"ms", NS_PER_MS},
		{"s", NS_PER_S},
		{"m", 60 * NS_PER_S},
		{"h", 3600 * NS_PER_S},
	};

	*ns = 0;
	while (p < end)
	{
		int64  whole = 0;
		double fraction = 0;
		double scale = 1;
		bool   digits;
		int    i;

		digits = *p >= '0' && *p <= '9';
		if (digits && !read_integer(&p, end, &whole))
			return false;
		if (p < end && *p == '.')
		{
			for (p++; p < end && *p >= '0' && *p <= '9'; p++)
			{
				digits = true;
				if (scale < 1e18)
				{
					fraction = fraction * 10 + (*p - '0');
					scale *= 10;
				}
			}
		}
		if (!digits)
			return false;
		for (i = 0; i < lengthof(units); i++)
			if (unit_is(p, end, units[i].unit))
				break;
		if (i == lengthof(units))
			return false;
		p += strlen(units[i].unit);
		if (pg_mul_s64_overflow(whole, units[i].ns, &whole) ||
		    pg_add_s64_overflow(whole, (int64) (fraction * (units[i].ns / scale)), &whole) ||
		    pg_add_s64_overflow(*ns, whole, ns))
			return false;
	}
	return true;
}

bool
tql_read_duration(const char *text, int length, int64 *ns)
{
	return read_ordered_duration(text, text + length, ns) ||
	       read_free_duration(text, text + length, ns);
}
