/*-------------------------------------------------------------------------
 *
 * newest_plan.h
 *	  The plan node that reads whole traces, newest first, and what the planner
 *	  tells it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_ACCESS_NEWEST_PLAN_H
#define TEMPO_ACCESS_NEWEST_PLAN_H

#include "postgres.h"

#include "access/planner.h"

/* Conditions that a span of the trace meets are told apart by so many bits. */
#define NEWEST_MAX_CONDITIONS 32

/*
 * custom_exprs has the pushed conditions on every row, then those that some row
 * of a trace must meet, then the operand of min(start) <= operand, if there is
 * one.  custom_private has, as the numbers below say:
 */
enum
{
	NEWEST_N_PUSHED,     /* Integer */
	NEWEST_N_CONDITIONS, /* Integer */
	NEWEST_EARLY,        /* Boolean as Integer: may conditions be looked at before the rest of the row's? */
	NEWEST_NEED,         /* a tree of conditions, or NIL */
	NEWEST_KEYS,         /* all that is used of the span's attributes: Strings; NIL if that is unknown */
	NEWEST_RELATIONS,    /* lists of integers: descendants or children, and the numbers of the
						 conditions on the span above and the one below; see newest_kinship.c */
	NEWEST_PRIVATE
};

/*
 * The tree: an Integer is the number of a condition; a list begins with a
 * NEWEST_AND or NEWEST_OR, and has trees behind it.
 */
#define NEWEST_AND (-1)
#define NEWEST_OR (-2)

extern const struct CustomScanMethods tempo_newest_methods;

extern void tempo_newest_init(void);

#endif /* TEMPO_ACCESS_NEWEST_PLAN_H */
