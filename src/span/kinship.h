/*-------------------------------------------------------------------------
 *
 * kinship.h
 *	  Is a span of one kind a child, or a descendant, of a span of another kind?
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_SPAN_KINSHIP_H
#define TEMPO_SPAN_KINSHIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A span of a trace; ids are any 64 bits that are equal where ids are. */
typedef struct KinSpan
{
	uint64_t id;
	uint64_t parent; /* 0 = none */
	uint32_t row;    /* for the caller */
	bool     above;  /* of the kind that is looked for above */
	bool     below;  /* of the kind that is looked for below */
	bool     seen;   /* by kinship_possible() itself */
} KinSpan;

/* kinship_scratch: bytes of working memory for so many spans */
extern size_t kinship_scratch(uint32_t n);

/*
 * kinship_possible: false only if no span "below" is a child (or descendant) of
 * one that is "above".  Where an id occurs twice it is not known whose child a
 * span is, and any pair will do.
 */
extern bool kinship_possible(KinSpan *spans, uint32_t n, bool descendants, void *scratch);

#endif /* TEMPO_SPAN_KINSHIP_H */
