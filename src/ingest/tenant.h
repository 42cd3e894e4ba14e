/*-------------------------------------------------------------------------
 *
 * tenant.h
 *	  Whose spans a request brings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_INGEST_TENANT_H
#define TEMPO_INGEST_TENANT_H

#include "span/error.h"
#include "span/value.h"

#define DEFAULT_TENANT "single-tenant"
#define TENANT_MAX_BYTES 150

/*
 * tenant_for_write: the tenant that X-Scope-OrgID names, as a part of "header".
 * Several tenants ("a|b") are for reading only, unless all are the same;
 * metadata behind ':' is left out.
 */
extern bool tenant_for_write(const char *header, SpanText *tenant, SpanError *error);

#endif /* TEMPO_INGEST_TENANT_H */
