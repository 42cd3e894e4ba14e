/*-------------------------------------------------------------------------
 *
 * types.c
 *	  The types tempo.trace_id and tempo.span_id: fixed-length byte strings
 *	  with a hexadecimal text form.
 *
 * Both are passed by reference and have no alignment, so a datum can point
 * straight into a decoded span.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/compat.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "libpq/pqformat.h"
#include "span/ids.h"
#include "utils/builtins.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

static bool
read_hex(const char *text, size_t len, uint8 *out)
{
	return id_from_hex(text, strlen(text), out, len);
}

static Datum
id_out(const uint8 *id, size_t len)
{
	char *hex = palloc(2 * len + 1);

	id_to_hex(id, len, hex);
	return CStringGetDatum(hex);
}

static Datum
id_recv(StringInfo buf, size_t len)
{
	uint8 *id = palloc(len);

	pq_copymsgbytes(buf, (char *) id, len);
	return PointerGetDatum(id);
}

static Datum
id_send(const uint8 *id, size_t len)
{
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbytes(&buf, (const char *) id, len);
	return PointerGetDatum(pq_endtypsend(&buf));
}

static Datum
id_from_bytea(const bytea *in, size_t len, const char *type)
{
	uint8 *id;

	if (VARSIZE_ANY_EXHDR(in) != len)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
		         errmsg("invalid length for type %s: %d bytes", type, (int) VARSIZE_ANY_EXHDR(in)),
		         errdetail("A %s has exactly %d bytes.", type, (int) len)));
	id = palloc(len);
	memcpy(id, VARDATA_ANY(in), len);
	return PointerGetDatum(id);
}

static Datum
id_to_bytea(const uint8 *id, size_t len)
{
	bytea *out = palloc(VARHDRSZ + len);

	SET_VARSIZE(out, VARHDRSZ + len);
	memcpy(VARDATA(out), id, len);
	return PointerGetDatum(out);
}

#define ARG(n) ((const uint8 *) PG_GETARG_POINTER(n))

/* Every function exists once for each of the two types. */
#define ID_FUNCTION(name) \
	PG_FUNCTION_INFO_V1(tempo_##name); \
	Datum tempo_##name(PG_FUNCTION_ARGS)

#define ID_COMPARISON(type, len, name, op) \
	ID_FUNCTION(type##_##name) \
	{ \
		PG_RETURN_BOOL(memcmp(ARG(0), ARG(1), len) op 0); \
	}

#define ID_TYPE(type, len) \
	ID_FUNCTION(type##_in) \
	{ \
		const char *text = PG_GETARG_CSTRING(0); \
		uint8      *id = palloc(len); \
\
		if (!read_hex(text, len, id)) \
			tempo_input_error(fcinfo->context, \
			                  (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION), \
			                   errmsg("invalid input syntax for type %s: \"%s\"", "tempo." #type, text), \
			                   errdetail("A %s has exactly %d hexadecimal digits.", \
			                             "tempo." #type, 2 * (int) (len)))); \
		PG_RETURN_POINTER(id); \
	} \
	ID_FUNCTION(type##_out) \
	{ \
		return id_out(ARG(0), len); \
	} \
	ID_FUNCTION(type##_recv) \
	{ \
		return id_recv((StringInfo) PG_GETARG_POINTER(0), len); \
	} \
	ID_FUNCTION(type##_send) \
	{ \
		return id_send(ARG(0), len); \
	} \
	ID_FUNCTION(type##_from_bytea) \
	{ \
		return id_from_bytea(PG_GETARG_BYTEA_PP(0), len, "tempo." #type); \
	} \
	ID_FUNCTION(type##_to_bytea) \
	{ \
		return id_to_bytea(ARG(0), len); \
	} \
	ID_COMPARISON(type, len, eq, ==) \
	ID_COMPARISON(type, len, ne, !=) \
	ID_COMPARISON(type, len, lt, <) \
	ID_COMPARISON(type, len, le, <=) \
	ID_COMPARISON(type, len, gt, >) \
	ID_COMPARISON(type, len, ge, >=) \
	ID_FUNCTION(type##_cmp) \
	{ \
		int order = memcmp(ARG(0), ARG(1), len); \
\
		PG_RETURN_INT32(order<0 ? -1 : order> 0); \
	} \
	ID_FUNCTION(type##_hash) \
	{ \
		return hash_any(ARG(0), len); \
	} \
	ID_FUNCTION(type##_hash_extended) \
	{ \
		return hash_any_extended(ARG(0), len, PG_GETARG_INT64(1)); \
	} \
	/* for the semicolon of the caller */ \
	extern int tempo_##type##_defined

ID_TYPE(trace_id, TRACE_ID_LEN);
ID_TYPE(span_id, SPAN_ID_LEN);
