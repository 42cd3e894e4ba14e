/*-------------------------------------------------------------------------
 *
 * body.c
 *	  The body of an answer: bytes in pieces, and the primitives of JSON.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "api/body.h"
#include "common/base64.h"
#include "common/shortest_dec.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

/* A piece that has grown to this is closed. */
#define BODY_PIECE (256 * 1024)

ApiBody *
body_create(void)
{
	ApiBody *body = palloc0(sizeof(ApiBody));

	body->context = CurrentMemoryContext;
	return body;
}

Size
body_length(const ApiBody *body)
{
	return body->len + (body->current ? body->current->len : 0);
}

/* The buffer to write to. */
static StringInfo
body_piece(ApiBody *body)
{
	if (body->current == NULL || body->current->len >= BODY_PIECE)
	{
		MemoryContext old = MemoryContextSwitchTo(body->context);

		if (body->current)
		{
			body->len += body->current->len;
			body->pieces = lappend(body->pieces, body->current);
		}
		body->current = makeStringInfo();
		MemoryContextSwitchTo(old);
	}
	return body->current;
}

void
body_append(ApiBody *body, const void *data, Size len)
{
	StringInfo piece = body_piece(body);

	appendBinaryStringInfo(piece, data, (int) len);
}

void
body_printf(ApiBody *body, const char *format, ...)
{
	StringInfo piece = body_piece(body);

	for (;;)
	{
		va_list args;
		int     needed;

		va_start(args, format);
		needed = appendStringInfoVA(piece, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(piece, needed);
	}
}

void
body_wrap(ApiBody *body, uint32 tag)
{
	MemoryContext old = MemoryContextSwitchTo(body->context);
	Size          len = body_length(body);
	StringInfo    header = makeStringInfo();

	appendStringInfoChar(header, (char) (tag << 3 | 2));
	for (; len >= 0x80; len >>= 7)
		appendStringInfoChar(header, (char) (len | 0x80));
	appendStringInfoChar(header, (char) len);

	body->pieces = lcons(header, body->pieces);
	body->len += header->len;
	MemoryContextSwitchTo(old);
}

bool
body_take(ApiBody *body, const char **data, Size *len)
{
	StringInfo piece;

	if (body->pieces != NIL)
	{
		piece = linitial(body->pieces);
		body->pieces = list_delete_first(body->pieces);
		body->len -= piece->len;
	}
	else
	{
		piece = body->current;
		body->current = NULL;
	}
	if (piece == NULL || piece->len == 0)
		return false;
	*data = piece->data;
	*len = piece->len;
	return true;
}

/* ------------------------------------------------------------------ JSON */

static void
escape_ascii(StringInfo out, unsigned char c)
{
	switch (c)
	{
		case '"':
			appendStringInfoString(out, "\\\"");
			break;
		case '\\':
			appendStringInfoString(out, "\\\\");
			break;
		case '\n':
			appendStringInfoString(out, "\\n");
			break;
		case '\r':
			appendStringInfoString(out, "\\r");
			break;
		case '\t':
			appendStringInfoString(out, "\\t");
			break;
		default:
			appendStringInfo(out, "\\u%04x", c);
	}
}

void
body_json_string(ApiBody *body, const char *data, Size len)
{
	StringInfo  out = body_piece(body);
	const char *end = data + len;
	const char *plain = data;
	const char *p = data;

	appendStringInfoCharMacro(out, '"');
	while (p < end)
	{
		unsigned char c = (unsigned char) *p;
		bool          separator = c == 0xe2 && end - p >= 3 && (unsigned char) p[1] == 0x80 &&
		                 ((unsigned char) p[2] & 0xfe) == 0xa8;

		if (c >= 0x20 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' && !separator)
		{
			p++;
			continue;
		}
		appendBinaryStringInfo(out, plain, (int) (p - plain));
		if (separator)
		{
			/* U+2028 and U+2029 end a line in JavaScript */
			appendStringInfo(out, "\\u202%c", (unsigned char) p[2] == 0xa8 ? '8' : '9');
			p += 3;
		}
		else
		{
			escape_ascii(out, c);
			p++;
		}
		plain = p;
	}
	appendBinaryStringInfo(out, plain, (int) (end - plain));
	appendStringInfoCharMacro(out, '"');
}

char *
format_double(double value, int low, int high, bool padded)
{
	char           shortest[DOUBLE_SHORTEST_DECIMAL_LEN];
	char           digits[DOUBLE_SHORTEST_DECIMAL_LEN];
	int            n = 0;
	int            point = -1; /* digits before the decimal point */
	int            exponent = 0;
	StringInfoData out;

	double_to_shortest_decimal_buf(fabs(value), shortest);
	for (const char *p = shortest; *p; p++)
	{
		if (*p == '.')
			point = n;
		else if (*p == 'e')
		{
			exponent = atoi(p + 1);
			break;
		}
		else
			digits[n++] = *p;
	}
	if (point < 0)
		point = n;

	/* digits[0] becomes the first significant one */
	point += exponent;
	while (n > 1 && digits[0] == '0')
	{
		memmove(digits, digits + 1, --n);
		point--;
	}
	while (n > 1 && digits[n - 1] == '0')
		n--;
	if (digits[0] == '0')
		point = 1;

	initStringInfo(&out);
	if (signbit(value))
		appendStringInfoChar(&out, '-');
	exponent = point - 1;
	if (value != 0 && (exponent < low || exponent >= high))
	{
		appendStringInfoChar(&out, digits[0]);
		if (n > 1)
		{
			appendStringInfoChar(&out, '.');
			appendBinaryStringInfo(&out, digits + 1, n - 1);
		}
		appendStringInfo(&out, padded ? "e%c%02d" : "e%c%d", exponent < 0 ? '-' : '+', abs(exponent));
	}
	else if (point <= 0)
	{
		appendStringInfoString(&out, "0.");
		for (int i = point; i < 0; i++)
			appendStringInfoChar(&out, '0');
		appendBinaryStringInfo(&out, digits, n);
	}
	else
	{
		for (int i = 0; i < Max(n, point); i++)
		{
			if (i == point)
				appendStringInfoChar(&out, '.');
			appendStringInfoChar(&out, i < n ? digits[i] : '0');
		}
	}
	return out.data;
}

void
body_json_double(ApiBody *body, double value)
{
	char *text;

	if (isnan(value))
		body_text(body, "\"NaN\"");
	else if (isinf(value))
		body_text(body, value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
	else
	{
		text = format_double(value, -6, 21, false);
		body_text(body, text);
		pfree(text);
	}
}

void
body_base64(ApiBody *body, const void *data, Size len)
{
	StringInfo out = body_piece(body);
	int        room = pg_b64_enc_len((int) len);
	int        written;

	enlargeStringInfo(out, room + 1);
	written = pg_b64_encode(data, (int) len, out->data + out->len, room);
	if (written < 0)
		elog(ERROR, "could not encode %zu bytes in base64", len);
	out->len += written;
	out->data[out->len] = '\0';
}
