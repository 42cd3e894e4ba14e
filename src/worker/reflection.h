/*-------------------------------------------------------------------------
 *
 * reflection.h
 *	  grpc.reflection of the gateway.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_WORKER_REFLECTION_H
#define TEMPO_WORKER_REFLECTION_H

#include "net/server.h"

/*
 * reflection_check: takes a call of reflection before its messages come; true
 * if it is one.  "full" says whether there are too many unread answers already.
 */
extern bool reflection_check(NetRequest *net, bool (*full)(void));

/* reflection_ends: of a call that reflection_check() took, when its last message has come */
extern bool reflection_ends(NetRequest *net);

#endif /* TEMPO_WORKER_REFLECTION_H */
