/*-------------------------------------------------------------------------
 *
 * credentials.h
 *	  Who may ask: what a listening process does about it.
 *
 * Passwords and tokens are verified where the database is, see authenticate.h.
 * A listening process only looks whether there is something to verify, and
 * sees to it that guessing is slow: who has been accepted lately goes through,
 * what is not known yet is let through at a limited rate.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_CREDENTIALS_H
#define TEMPO_WORKER_CREDENTIALS_H

#include "postgres.h"

#include "net/server.h"

/* tempo_pg.authentication: which kinds are taken */
#define AUTHENTICATION_BASIC 1
#define AUTHENTICATION_BEARER 2

extern int tempo_authentication;

typedef struct Credentials
{
	bool  given;    /* false: nothing to be learned */
	bool  unproven; /* took one of the attempts */
	uint8 digest[32];
} Credentials;

typedef enum CredentialsVerdict
{
	CREDENTIALS_NOT_NEEDED,
	CREDENTIALS_TO_VERIFY,
	CREDENTIALS_MISSING, /* none, or of a kind that is not taken */
	CREDENTIALS_TOO_MANY /* failed attempts; later */
} CredentialsVerdict;

typedef enum CredentialsOutcome
{
	CREDENTIALS_ACCEPTED,
	CREDENTIALS_REJECTED,
	CREDENTIALS_UNKNOWN /* could not be verified */
} CredentialsOutcome;

#define CREDENTIALS_MISSING_TEXT "credentials are needed"
#define CREDENTIALS_REJECTED_TEXT "authentication failed"
#define CREDENTIALS_TOO_MANY_TEXT "too many failed attempts, retry later"

/* credentials_missing: would credentials_check say so?  Costs no attempt. */
extern bool               credentials_missing(const NetRequest *request);
extern CredentialsVerdict credentials_check(const NetRequest *request, Credentials *credentials);
extern void               credentials_learned(const Credentials *credentials, CredentialsOutcome outcome);

/* credentials_challenge: the value of WWW-Authenticate */
extern const char *credentials_challenge(void);

/* credentials_header: the Authorization of a request, NULL if it has not just one */
extern const char *credentials_header(const NetRequest *request);

/* credentials_digest: of a text, of no use outside of this process; false without memory */
extern bool credentials_digest(const char *text, uint8 digest[32]);

extern void credentials_init(void);

#endif /* TEMPO_WORKER_CREDENTIALS_H */
