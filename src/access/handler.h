/*-------------------------------------------------------------------------
 *
 * handler.h
 *	  The table access method "tempo".
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_HANDLER_H
#define TEMPO_ACCESS_HANDLER_H

/* tempo_access_init: settings, hooks and transaction callbacks */
extern void tempo_access_init(void);

#endif /* TEMPO_ACCESS_HANDLER_H */
