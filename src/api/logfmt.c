/*-------------------------------------------------------------------------
 *
 * logfmt.c
 *	  key=value key2="value 2": how searches by tags are written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "api/logfmt.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

typedef struct Logfmt
{
	const char *text;
	const char *p;
	char       *message;
} Logfmt;

static bool
is_space(char c)
{
	return (unsigned char) c <= ' ' && c != '\0';
}

static char *
fail(Logfmt *in, const char *what)
{
	in->message = psprintf("%s at pos %d", what, (int) (in->p - in->text) + 1);
	return NULL;
}

static char *
unexpected(Logfmt *in)
{
	return fail(in, psprintf("unexpected '%c'", *in->p));
}

static char *
read_key(Logfmt *in)
{
	const char *start = in->p;

	while (*in->p && *in->p != '=' && !is_space(*in->p))
	{
		if (*in->p == '"')
			return unexpected(in);
		in->p++;
	}
	if (in->p == start)
		return unexpected(in);
	return pnstrdup(start, in->p - start);
}

/* \n and its like, and \u with four hexadecimal digits, as in JSON */
static bool
read_escape(Logfmt *in, StringInfo out)
{
	static const char from[] = "\"\\/'bfnrt";
	static const char to[] = "\"\\/'\b\f\n\r\t";
	const char       *at = *in->p ? strchr(from, *in->p) : NULL;
	unsigned int      code;
	unsigned char     utf8[5] = {0};
	int               n = 0;

	if (at)
	{
		appendStringInfoChar(out, to[at - from]);
		in->p++;
		return true;
	}
	if (*in->p != 'u' || sscanf(in->p + 1, "%4x%n", &code, &n) != 1 || n != 4 || code == 0 ||
	    (code >= 0xd800 && code < 0xe000))
		return false;
	(void) unicode_to_utf8((pg_wchar) code, utf8);
	appendBinaryStringInfo(out, (char *) utf8, pg_utf_mblen(utf8));
	in->p += 5;
	return true;
}

static char *
read_quoted(Logfmt *in)
{
	StringInfoData out;

	initStringInfo(&out);
	for (in->p++; *in->p != '"';)
	{
		if (*in->p == '\0')
			return fail(in, "unterminated quoted value");
		if (*in->p != '\\')
			appendStringInfoChar(&out, *in->p++);
		else
		{
			in->p++;
			if (*in->p == '\0')
				return fail(in, "unterminated quoted value");
			if (!read_escape(in, &out))
				return fail(in, "invalid quoted value");
		}
	}
	in->p++;
	return out.data;
}

static char *
read_value(Logfmt *in)
{
	const char *start = in->p;

	if (*in->p == '"')
		return read_quoted(in);
	for (; *in->p && !is_space(*in->p); in->p++)
	{
		if (*in->p == '=' || *in->p == '"')
			return unexpected(in);
	}
	return pnstrdup(start, in->p - start);
}

List *
parse_logfmt(const char *text, char **message)
{
	Logfmt in = {text, text, NULL};
	List  *pairs = NIL;

	for (;;)
	{
		LogfmtPair *pair = palloc(sizeof(LogfmtPair));
		ListCell   *lc;

		while (is_space(*in.p))
			in.p++;
		if (*in.p == '\0')
			break;
		pair->key = read_key(&in);
		pair->value = pair->key ? pstrdup("") : NULL;
		if (pair->key && *in.p == '=')
		{
			in.p++;
			pair->value = read_value(&in);
		}
		if (in.message)
			break;
		foreach (lc, pairs)
		{
			if (strcmp(((LogfmtPair *) lfirst(lc))->key, pair->key) == 0)
				in.message = psprintf("tag %s has been set twice", pair->key);
		}
		pairs = lappend(pairs, pair);
	}
	*message = in.message;
	return pairs;
}
