/*-------------------------------------------------------------------------
 *
 * logfmt.h
 *	  key=value key2="value 2": how searches by tags are written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_LOGFMT_H
#define TEMPO_API_LOGFMT_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct LogfmtPair
{
	char *key;
	char *value;
} LogfmtPair;

/*
 * parse_logfmt: a List of LogfmtPair.  *message is NULL, or what is wrong and
 * where.
 */
extern List *parse_logfmt(const char *text, char **message);

#endif /* TEMPO_API_LOGFMT_H */
