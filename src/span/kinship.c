/*-------------------------------------------------------------------------
 *
 * kinship.c
 *	  Is a span of one kind a child, or a descendant, of a span of another kind?
 *
 * Time is proportional to the number of spans: the way up from a span ends
 * where another one has passed.
 *
 *-------------------------------------------------------------------------
 */
#include "span/kinship.h"

#include <string.h>

#define NONE UINT32_MAX

typedef struct Table
{
	const KinSpan *spans;
	uint32_t       mask;
	uint32_t      *places; /* a span in each, or NONE */
} Table;

static uint32_t
table_size(uint32_t n)
{
	uint32_t size = 16;

	while (size < (UINT32_C(1) << 31) && size / 2 < n)
		size *= 2;
	return size;
}

size_t
kinship_scratch(uint32_t n)
{
	return (size_t) table_size(n) * sizeof(uint32_t);
}

/* Where the span with the id is, or would be. */
static uint32_t *
find(const Table *table, uint64_t id)
{
	uint32_t place = (uint32_t) ((id * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & table->mask;

	while (table->places[place] != NONE && table->spans[table->places[place]].id != id)
		place = (place + 1) & table->mask;
	return &table->places[place];
}

static uint32_t
parent_of(const Table *table, uint32_t i)
{
	uint64_t parent = table->spans[i].parent;

	return parent == 0 ? NONE : *find(table, parent);
}

bool
kinship_possible(KinSpan *spans, uint32_t n, bool descendants, void *scratch)
{
	Table table = {spans, table_size(n) - 1, scratch};
	bool  above = false;
	bool  below = false;
	bool  unique = true;

	memset(scratch, 0xff, kinship_scratch(n));
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t *place = find(&table, spans[i].id);

		unique &= *place == NONE;
		*place = i;
		spans[i].seen = false;
		above |= spans[i].above;
		below |= spans[i].below;
	}
	if (!above || !below || !unique)
		return above && below;
	for (uint32_t i = 0; i < n; i++)
	{
		uint32_t at;

		if (!spans[i].below)
			continue;
		at = parent_of(&table, i);
		while (at != NONE && !spans[at].above && !spans[at].seen && descendants)
		{
			spans[at].seen = true;
			at = parent_of(&table, at);
		}
		if (at != NONE && spans[at].above)
			return true;
	}
	return false;
}
