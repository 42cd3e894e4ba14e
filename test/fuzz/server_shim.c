/*-------------------------------------------------------------------------
 *
 * server_shim.c
 *	  What of a server fuzzed code calls, for code that needs postgres.h.
 *
 * Every allocation is one of malloc(), so that AddressSanitizer sees where it
 * ends; shim_reset() stands for the reset of a memory context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <stdio.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "server_shim.h"
#include "utils/memutils.h"

sigjmp_buf *shim_handler;
int         shim_sqlstate;
char        shim_message[4096];
size_t      shim_memory_limit = (size_t) 512 << 20;

volatile sig_atomic_t InterruptPending;
MemoryContext         CurrentMemoryContext;

/* ----------------------------------------------------------------- memory */

typedef struct Chunk
{
	struct Chunk *next;
	struct Chunk *previous;
	size_t        size;
	size_t        padding;
} Chunk;

static Chunk  chunks = {&chunks, &chunks, 0, 0};
static size_t allocated;

static void *
allocate(size_t size)
{
	Chunk *chunk;

	allocated += size;
	if (allocated > shim_memory_limit)
	{
		fprintf(stderr, "more than %zu bytes are allocated\n", shim_memory_limit);
		abort();
	}
	chunk = malloc(sizeof(Chunk) + size);
	chunk->size = size;
	chunk->next = chunks.next;
	chunk->previous = &chunks;
	chunks.next->previous = chunk;
	chunks.next = chunk;
	/* nobody may count on zeros */
	memset(chunk + 1, 0xA5, size);
	return chunk + 1;
}

void *
palloc(Size size)
{
	return allocate(size);
}

void *
palloc0(Size size)
{
	return memset(allocate(size), 0, size);
}

void *
palloc_extended(Size size, int flags)
{
	return (flags & MCXT_ALLOC_ZERO) ? palloc0(size) : palloc(size);
}

void *
MemoryContextAllocZeroAligned(MemoryContext context, Size size)
{
	return palloc0(size);
}

void
pfree(void *pointer)
{
	Chunk *chunk = (Chunk *) pointer - 1;

	chunk->next->previous = chunk->previous;
	chunk->previous->next = chunk->next;
	allocated -= chunk->size;
	free(chunk);
}

void *
repalloc(void *pointer, Size size)
{
	void *new = allocate(size);

	memcpy(new, pointer, Min(size, ((Chunk *) pointer - 1)->size));
	pfree(pointer);
	return new;
}

char *
pstrdup(const char *s)
{
	return strcpy(allocate(strlen(s) + 1), s);
}

char *
pnstrdup(const char *s, Size len)
{
	char *copy;

	len = strnlen(s, len);
	copy = allocate(len + 1);
	memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

void
shim_reset(void)
{
	while (chunks.next != &chunks)
		pfree(chunks.next + 1);
}

/* ----------------------------------------------------------------- errors */

static char *stack_base;

void
shim_stack_base(void *base)
{
	stack_base = base;
}

/* Half of the server's default: sanitized frames are bigger, and so is their stack */
void
check_stack_depth(void)
{
	char here;

	if (stack_base - &here > (ptrdiff_t) 4 << 20)
		ereport(ERROR,
		        (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
		         errmsg("stack depth limit exceeded")));
}

void
ProcessInterrupts(void)
{
}

ErrorContextCallback *error_context_stack;
static int            shim_position;

bool
errstart(int elevel, const char *domain)
{
	shim_sqlstate = ERRCODE_INTERNAL_ERROR;
	shim_message[0] = '\0';
	shim_position = 0;
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	if (shim_handler == NULL)
		abort();
	for (ErrorContextCallback *context = error_context_stack; context != NULL; context = context->previous)
		context->callback(context->arg);
	error_context_stack = NULL;
	/* an error that is none of the user's is a finding */
	if (shim_sqlstate == ERRCODE_INTERNAL_ERROR)
	{
		fprintf(stderr, "internal error at %s:%d: %s\n", filename, lineno, shim_message);
		abort();
	}
	siglongjmp(*shim_handler, 1);
}

int
errcode(int sqlerrcode)
{
	shim_sqlstate = sqlerrcode;
	return 0;
}

int
errmsg(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(shim_message, sizeof(shim_message), fmt, args);
	va_end(args);
	return 0;
}

int
errmsg_internal(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(shim_message, sizeof(shim_message), fmt, args);
	va_end(args);
	return 0;
}

int
errdetail(const char *fmt, ...)
{
	return 0;
}

int
errhint(const char *fmt, ...)
{
	return 0;
}

int
internalerrquery(const char *query)
{
	return 0;
}

int
internalerrposition(int cursorpos)
{
	shim_position = cursorpos;
	return 0;
}

int
getinternalerrposition(void)
{
	return shim_position;
}

/* The encoding is UTF-8. */
int
pg_mbstrlen_with_len(const char *s, int limit)
{
	int n = 0;

	for (int i = 0; i < limit; i++)
		n += ((unsigned char) s[i] & 0xC0) != 0x80;
	return n;
}

/* ------------------------------------------------------------------ lists */

static List *
new_list(int length)
{
	List *list = palloc(offsetof(List, initial_elements) + Max(length, 4) * sizeof(ListCell));

	list->type = T_List;
	list->length = length;
	list->max_length = Max(length, 4);
	list->elements = list->initial_elements;
	return list;
}

List *
list_make1_impl(NodeTag t, ListCell datum1)
{
	List *list = new_list(1);

	list->elements[0] = datum1;
	return list;
}

static void
grow_list(List *list, int length)
{
	if (length > list->max_length)
	{
		ListCell *cells;

		list->max_length = length * 2;
		cells = palloc(list->max_length * sizeof(ListCell));
		memcpy(cells, list->elements, list->length * sizeof(ListCell));
		list->elements = cells;
	}
	list->length = length;
}

List *
lappend(List *list, void *datum)
{
	if (list == NIL)
		list = new_list(1);
	else
		grow_list(list, list->length + 1);
	list->elements[list->length - 1].ptr_value = datum;
	return list;
}

List *
list_copy(const List *list)
{
	List *copy;

	if (list == NIL)
		return NIL;
	copy = new_list(list->length);
	memcpy(copy->elements, list->elements, list->length * sizeof(ListCell));
	return copy;
}

List *
list_concat(List *list1, const List *list2)
{
	int n = list_length(list1);
	int more = list_length(list2);

	if (list1 == NIL)
		return list_copy(list2);
	if (list2 == NIL)
		return list1;
	grow_list(list1, n + more);
	memcpy(list1->elements + n, list2->elements, more * sizeof(ListCell));
	return list1;
}

/* ------------------------------------------------------------------ seeds */

void
shim_write_seeds(int argc, char **argv, const char *queries)
{
	char  path[4096];
	char  line[4096];
	FILE *in;
	int   n = 0;

	if (argc != 3 || strcmp(argv[1], "--seeds") != 0)
		return;
	in = fopen(queries, "r");
	if (in == NULL)
	{
		perror(queries);
		exit(1);
	}
	while (fgets(line, sizeof(line), in))
	{
		size_t len = strcspn(line, "\n");
		FILE  *out;

		snprintf(path, sizeof(path), "%s/query-%d", argv[2], n++);
		out = fopen(path, "wb");
		if (out == NULL || fwrite(line, 1, len, out) != len || fclose(out) != 0)
		{
			perror(path);
			exit(1);
		}
	}
	fclose(in);
	exit(0);
}
