/*-------------------------------------------------------------------------
 *
 * credentials.c
 *	  Who may ask: what a listening process does about it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "utils/guc.h"
#include "utils/timestamp.h"
#include "worker/credentials.h"

/* Unknown credentials that may be tried at once, and then each second. */
#define ATTEMPTS 20
#define ATTEMPTS_PER_SECOND 5

/* Credentials accepted lately that are remembered. */
#define KNOWN 256

int tempo_authentication = 0;

static const struct config_enum_entry kinds[] = {
	{"off", 0, false},
	{"basic", AUTHENTICATION_BASIC, false},
	{"bearer", AUTHENTICATION_BEARER, false},
	{"both", AUTHENTICATION_BASIC | AUTHENTICATION_BEARER, false},
	{NULL, 0, false}};

typedef struct Known
{
	uint8  digest[32];
	uint64 used; /* 0 = free */
} Known;

static Known       known[KNOWN];
static uint64      uses;
static double      attempts = ATTEMPTS;
static TimestampTz refilled;

void
credentials_init(void)
{
	DefineCustomEnumVariable("tempo_pg.authentication",
	                         "What clients must send to be served: a role's password (HTTP Basic), a token (Bearer), either, or nothing.",
	                         "A request runs with the privileges of the role it authenticates as.",
	                         &tempo_authentication, 0, kinds, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

bool
credentials_digest(const char *text, uint8 digest[32])
{
	static uint8 key[32];
	static bool  has_key = false;
	unsigned int len;

	if (!has_key && !pg_strong_random(key, sizeof(key)))
		return false;
	has_key = true;
	return HMAC(EVP_sha256(), key, sizeof(key), (const unsigned char *) text, strlen(text), digest, &len) != NULL;
}

const char *
credentials_header(const NetRequest *request)
{
	int         count;
	const char *header = net_request_header(request, "authorization", &count);

	return count == 1 ? header : NULL;
}

const char *
credentials_challenge(void)
{
	/* the first is what a browser asks its user for */
	return (tempo_authentication & AUTHENTICATION_BASIC) ? "Basic realm=\"tempo_pg\", charset=\"UTF-8\"" :
	                                                       "Bearer realm=\"tempo_pg\"";
}

bool
credentials_missing(const NetRequest *request)
{
	const char *header = credentials_header(request);

	if (tempo_authentication == 0)
		return false;
	if (header == NULL)
		return true;
	return !((tempo_authentication & AUTHENTICATION_BASIC) && pg_strncasecmp(header, "Basic ", 6) == 0) &&
	       !((tempo_authentication & AUTHENTICATION_BEARER) && pg_strncasecmp(header, "Bearer ", 7) == 0);
}

static Known *
find(const uint8 *digest)
{
	for (int i = 0; i < KNOWN; i++)
		if (known[i].used > 0 && memcmp(known[i].digest, digest, sizeof(known[i].digest)) == 0)
			return &known[i];
	return NULL;
}

static void
remember(const uint8 *digest)
{
	Known *oldest = &known[0];

	for (int i = 1; i < KNOWN; i++)
		if (known[i].used < oldest->used)
			oldest = &known[i];
	memcpy(oldest->digest, digest, sizeof(oldest->digest));
	oldest->used = ++uses;
}

static void
refill(void)
{
	TimestampTz now = GetCurrentTimestamp();

	/* a clock that was set back gives nothing */
	if (now > refilled)
		attempts = Min(ATTEMPTS, attempts + (now - refilled) / 1e6 * ATTEMPTS_PER_SECOND);
	refilled = now;
}

CredentialsVerdict
credentials_check(const NetRequest *request, Credentials *credentials)
{
	Known *entry;

	memset(credentials, 0, sizeof(*credentials));
	if (tempo_authentication == 0)
		return CREDENTIALS_NOT_NEEDED;
	if (credentials_missing(request))
		return CREDENTIALS_MISSING;
	if (!credentials_digest(credentials_header(request), credentials->digest))
		return CREDENTIALS_TOO_MANY;
	credentials->given = true;
	entry = find(credentials->digest);
	if (entry != NULL)
	{
		entry->used = ++uses;
		return CREDENTIALS_TO_VERIFY;
	}
	refill();
	if (attempts < 1)
		return CREDENTIALS_TOO_MANY;
	attempts -= 1;
	credentials->unproven = true;
	return CREDENTIALS_TO_VERIFY;
}

void
credentials_learned(const Credentials *credentials, CredentialsOutcome outcome)
{
	Known *entry;

	if (!credentials->given)
		return;
	entry = find(credentials->digest);
	if (outcome != CREDENTIALS_REJECTED && credentials->unproven)
		attempts = Min(ATTEMPTS, attempts + 1);
	if (outcome == CREDENTIALS_ACCEPTED && entry == NULL)
		remember(credentials->digest);
	else if (outcome == CREDENTIALS_REJECTED && entry != NULL)
		entry->used = 0;
}
