/*-------------------------------------------------------------------------
 *
 * authenticate.c
 *	  Which role an Authorization header stands for.
 *
 * HTTP Basic is the password of a role that may log in, verified as
 * PostgreSQL verifies one that it is sent in clear text; pg_hba.conf is not
 * asked.  Bearer is a token of tempo.api_tokens, where only its hash is.
 *
 * To verify a SCRAM secret takes milliseconds on purpose.  A process remembers
 * what it has verified, with the secret as it was, so that requests do not pay
 * for it each time and a changed password counts at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "common/base64.h"
#include "access/compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "libpq/crypt.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "worker/authenticate.h"
#include "worker/credentials.h"

#define DIGEST_BYTES 32
#define TOKEN_PREFIX "tempo_"
#define TOKEN_BYTES 32
#define VERIFIED 32

/* Longer is no password and no token. */
#define MAX_HEADER 2048

static uint8 verified[VERIFIED][DIGEST_BYTES];
static int   n_verified;

/* ------------------------------------------------------------------ basic */

static bool
was_verified(const uint8 *digest)
{
	for (int i = 0; i < Min(n_verified, VERIFIED); i++)
		if (memcmp(verified[i], digest, DIGEST_BYTES) == 0)
			return true;
	return false;
}

/* Is it the password of the role? */
static bool
password_is(const char *role, const char *password, const char **detail)
{
	char *secret = get_role_password(role, detail);
	uint8 digest[DIGEST_BYTES];
	bool  digested;

	if (secret == NULL)
		return false;
	/* a role has no newline in its secret, so these cannot be confused */
	digested = credentials_digest(psprintf("%s\n%s\n%s", secret, role, password), digest);
	if (digested && was_verified(digest))
		return true;
	if (plain_crypt_verify(role, secret, password, detail) != STATUS_OK)
		return false;
	if (digested)
		memcpy(verified[n_verified++ % VERIFIED], digest, DIGEST_BYTES);
	return true;
}

/* The role, if it exists and may log in. */
static Oid
login_role(const char *name, const char **detail)
{
	HeapTuple tuple = SearchSysCache1(AUTHNAME, CStringGetDatum(name));
	Oid       role = InvalidOid;

	if (!HeapTupleIsValid(tuple))
	{
		*detail = psprintf("Role \"%s\" does not exist.", name);
		return InvalidOid;
	}
	if (((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin)
		role = ((Form_pg_authid) GETSTRUCT(tuple))->oid;
	else
		*detail = psprintf("Role \"%s\" is not permitted to log in.", name);
	ReleaseSysCache(tuple);
	return role;
}

static Oid
basic(const char *encoded, const char **detail)
{
	int   room = pg_b64_dec_len(strlen(encoded));
	char *text = palloc(room + 1);
	int   len = pg_b64_decode(encoded, strlen(encoded), (void *) text, room);
	char *colon;
	Oid   role;
	bool  right;

	if (len < 0 || memchr(text, '\0', len) != NULL)
	{
		*detail = "The credentials are malformed.";
		return InvalidOid;
	}
	text[len] = '\0';
	colon = strchr(text, ':');
	/* names longer than any would be cut by the look-up */
	if (colon == NULL || colon == text || colon - text >= NAMEDATALEN)
	{
		*detail = "The credentials are malformed.";
		return InvalidOid;
	}
	*colon = '\0';
	right = password_is(text, colon + 1, detail);
	if (!right)
		return InvalidOid;
	role = login_role(text, detail);
	return role;
}

/* ----------------------------------------------------------------- bearer */

static bytea *
token_hash(const char *token, int len)
{
	bytea       *hash = palloc(VARHDRSZ + DIGEST_BYTES);
	unsigned int n;

	if (EVP_Digest(token, len, (unsigned char *) VARDATA(hash), &n, EVP_sha256(), NULL) != 1)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute the hash of a token")));
	SET_VARSIZE(hash, VARHDRSZ + DIGEST_BYTES);
	return hash;
}

static Oid
bearer(const char *token, const char **detail)
{
	Oid   types[] = {BYTEAOID};
	Datum values[] = {PointerGetDatum(token_hash(token, strlen(token)))};
	Oid   role = InvalidOid;

	SPI_connect();
	/* a superuser's query: names of its own schemas only */
	if (SPI_execute_with_args("SELECT role::pg_catalog.oid FROM tempo.api_tokens "
	                          "WHERE token_hash OPERATOR(pg_catalog.=) $1 "
	                          "AND (expires IS NULL OR expires OPERATOR(pg_catalog.>) pg_catalog.now())",
	                          1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read tempo.api_tokens");
	if (SPI_processed == 1)
	{
		bool isnull;

		role = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_finish();
	if (!OidIsValid(role) || !SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
	{
		*detail = OidIsValid(role) ? "The role of the token does not exist any more." :
		                             "The token is not known, or has expired.";
		return InvalidOid;
	}
	return role;
}

/*
 * Settings reach one process after the other.  Until both sides have read the
 * same ones, what either of them demands is demanded.
 */
bool
authentication_needed(int demanded)
{
	return demanded != 0 || tempo_authentication != 0;
}

Oid
authenticate(const char *header, int demanded)
{
	int         kinds = demanded == 0             ? tempo_authentication :
	                    tempo_authentication == 0 ? demanded :
	                                                demanded & tempo_authentication;
	const char *detail = "There are no credentials.";
	const char *value = header != NULL ? strchr(header, ' ') : NULL;
	Oid         role = InvalidOid;

	if (value != NULL && strlen(header) <= MAX_HEADER)
	{
		value += strspn(value, " ");
		detail = "Credentials of this kind are not taken.";
		if ((kinds & AUTHENTICATION_BASIC) && pg_strncasecmp(header, "Basic ", 6) == 0)
			role = basic(value, &detail);
		else if ((kinds & AUTHENTICATION_BEARER) && pg_strncasecmp(header, "Bearer ", 7) == 0)
			role = bearer(value, &detail);
	}
	if (!OidIsValid(role))
		ereport(LOG,
		        (errcode(ERRCODE_INVALID_PASSWORD),
		         errmsg("a client of tempo_pg could not be authenticated"),
		         detail != NULL ? errdetail_log("%s", detail) : 0,
		         errhidestmt(true)));
	return role;
}

/* ----------------------------------------------------------------- tokens */

PG_FUNCTION_INFO_V1(tempo_create_token);
PG_FUNCTION_INFO_V1(tempo_drop_token);
PG_FUNCTION_INFO_V1(tempo_drop_token_hash);

/* May the caller act as the role? */
static void
check_role(Oid role)
{
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_OBJECT),
		         errmsg("role with OID %u does not exist", role)));
#if PG_VERSION_NUM >= 160000
	if (member_can_set_role(GetUserId(), role))
		return;
#else
	if (is_member_of_role(GetUserId(), role))
		return;
#endif
	ereport(ERROR,
	        (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
	         errmsg("must be able to SET ROLE \"%s\"", GetUserNameFromId(role, false))));
}

/* Runs a statement on tempo.api_tokens, which nobody else may write, as its owner. */
static uint64
execute_as_owner(const char *command, int n, Oid *types, Datum *values, const char *nulls, Datum *result)
{
	Oid       relid = get_relname_relid("api_tokens", get_namespace_oid("tempo", false));
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid       owner;
	Oid       user;
	int       security;
	uint64    processed;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation \"tempo.api_tokens\" does not exist")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	SPI_connect();
	if (SPI_execute_with_args(command, n, types, values, nulls, false, 0) < 0)
		elog(ERROR, "could not execute: %s", command);
	processed = SPI_processed;
	if (result != NULL && processed > 0)
	{
		bool isnull;

		*result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	}
	SPI_finish();
	SetUserIdAndSecContext(user, security);
	return processed;
}

/* tempo.create_token(role regrole, expires timestamptz, comment text) returns text */
Datum
tempo_create_token(PG_FUNCTION_ARGS)
{
	Oid   types[] = {BYTEAOID, OIDOID, TIMESTAMPTZOID, TEXTOID};
	Datum values[4];
	char  nulls[4] = {' ', ' ', ' ', ' '};
	uint8 secret[TOKEN_BYTES];
	char  token[sizeof(TOKEN_PREFIX) + 2 * TOKEN_BYTES];
	int   len;

	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("role must not be null")));
	check_role(PG_GETARG_OID(0));
	if (!pg_strong_random(secret, sizeof(secret)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random token")));
	strcpy(token, TOKEN_PREFIX);
	len = strlen(TOKEN_PREFIX);
	len += hex_encode((const char *) secret, TOKEN_BYTES, token + len);
	token[len] = '\0';
	values[0] = PointerGetDatum(token_hash(token, len));
	values[1] = PG_GETARG_DATUM(0);
	for (int i = 1; i <= 2; i++)
	{
		values[i + 1] = PG_GETARG_DATUM(i);
		nulls[i + 1] = PG_ARGISNULL(i) ? 'n' : ' ';
	}
	(void) execute_as_owner("INSERT INTO tempo.api_tokens (token_hash, role, expires, comment) VALUES ($1, $2, $3, $4)",
	                        4, types, values, nulls, NULL);
	PG_RETURN_TEXT_P(cstring_to_text(token));
}

static bool
drop(bytea *hash)
{
	Oid   types[] = {BYTEAOID};
	Datum values[] = {PointerGetDatum(hash)};
	Datum role;

	if (execute_as_owner("SELECT role::pg_catalog.oid FROM tempo.api_tokens WHERE token_hash OPERATOR(pg_catalog.=) $1",
	                     1, types, values, NULL, &role) == 0)
		return false;
	/* of a role that is gone, anybody's who may call this */
	if (SearchSysCacheExists1(AUTHOID, role))
		check_role(DatumGetObjectId(role));
	return execute_as_owner("DELETE FROM tempo.api_tokens WHERE token_hash OPERATOR(pg_catalog.=) $1",
	                        1, types, values, NULL, NULL) > 0;
}

/* tempo.drop_token(token text) returns boolean */
Datum
tempo_drop_token(PG_FUNCTION_ARGS)
{
	text *token = PG_GETARG_TEXT_PP(0);

	PG_RETURN_BOOL(drop(token_hash(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token))));
}

/* tempo.drop_token(token_hash bytea) returns boolean */
Datum
tempo_drop_token_hash(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(drop(PG_GETARG_BYTEA_P(0)));
}
