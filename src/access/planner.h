/*-------------------------------------------------------------------------
 *
 * planner.h
 *	  The custom scan over tempo tables: its hook and its setting.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_PLANNER_H
#define TEMPO_ACCESS_PLANNER_H

#include "postgres.h"

#include "nodes/extensible.h"

extern const struct CustomScanMethods tempo_scan_methods;

extern void tempo_planner_init(void);

#endif							/* TEMPO_ACCESS_PLANNER_H */
