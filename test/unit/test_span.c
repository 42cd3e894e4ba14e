/*-------------------------------------------------------------------------
 *
 * test_span.c
 *	  The model: arenas, text cleaning, ids, values, batches.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "span/kinship.h"
#include "spangen.h"
#include "tap.h"

static void
test_arena(void)
{
	Arena  arena;
	char  *pieces[400];
	size_t sizes[400];
	Random random = {1};
	int    wrong = 0;

	arena_init(&arena, &span_malloc_allocator, 0);
	ok(arena.used == 0, "an empty arena takes nothing");
	ok(arena_alloc(&arena, 0) != NULL, "nothing is something");
	for (int i = 0; i < 400; i++)
	{
		sizes[i] = random_below(&random, random_below(&random, 10) ? 100 : 100000);
		pieces[i] = arena_alloc(&arena, sizes[i]);
		memset(pieces[i], i, sizes[i]);
		wrong += ((uintptr_t) pieces[i] & 7) != 0;
	}
	ok(wrong == 0, "pieces are aligned");
	for (int i = 0; i < 400; i++)
		for (size_t k = 0; k < sizes[i]; k++)
			wrong += pieces[i][k] != (char) i;
	ok(wrong == 0, "pieces do not overlap");
	arena_reset(&arena);
	ok(arena.used == 0 && arena_alloc(&arena, 10) != NULL, "an arena can be used again");
	for (int i = 0; i < 100; i++)
		memset(arena_alloc(&arena, 1000), 1, 1000);
	arena_rewind(&arena, 1 << 20);
	ok(arena.used > 0 && arena.used < 100000, "rewinding keeps one chunk");
	for (int i = 0; i < 100; i++)
		memset(arena_alloc(&arena, 1000), 1, 1000);
	arena_rewind(&arena, 10);
	ok(arena.used == 0, "unless it is too large");
	arena_reset(&arena);

	arena_init(&arena, &span_malloc_allocator, 100000);
	for (int i = 0; i < 2000 && arena_alloc(&arena, 100) != NULL; i++)
		wrong += arena.used > 100000;
	ok(wrong == 0 && arena_alloc(&arena, 100) == NULL, "the limit holds for small pieces");
	arena_reset(&arena);
	ok(arena_alloc(&arena, 100001) == NULL && arena_alloc(&arena, SIZE_MAX) == NULL &&
	       arena_alloc(&arena, SIZE_MAX / 2) == NULL,
	   "the limit holds for large pieces");
	ok(arena_alloc(&arena, 50000) != NULL && arena_alloc(&arena, 60000) == NULL && arena.used <= 100000, "and for their sum");
	arena_reset(&arena);
}

/* Cleans "in" and compares; the number of changes must fit. */
static void
check_clean(const char *in, size_t len, const char *expected)
{
	Arena    arena;
	uint64_t changed = 0;
	char    *exact = malloc(len + 1); /* so that reading past the end is noticed */
	SpanText out;

	memcpy(exact, in, len);
	exact = realloc(exact, len == 0 ? 1 : len);
	arena_init(&arena, &span_malloc_allocator, 0);
	out = span_text_clean(span_text(exact, (uint32_t) len), &arena, &changed);
	ok(out.len == strlen(expected) && memcmp(out.data, expected, out.len) == 0, "clean \"%.*s\" -> \"%.*s\"",
	   (int) len, in, (int) out.len, out.data);
	ok(changed == (len != strlen(expected) || memcmp(in, expected, len) != 0), "changes are counted once");
	ok(changed != 0 || out.data == exact, "clean text is not copied");
	arena_reset(&arena);
	free(exact);
}

#define R "\xef\xbf\xbd"
#define CLEAN(in, expected) check_clean(in, sizeof(in) - 1, expected)

static void
test_clean(void)
{
	CLEAN("", "");
	CLEAN("plain text of more than eight bytes", "plain text of more than eight bytes");
	CLEAN("gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f");
	CLEAN("\xe2\x82\xac\xf0\x9f\x98\x80", "\xe2\x82\xac\xf0\x9f\x98\x80");
	CLEAN("a\0b", "a" R "b");
	CLEAN("12345678\0", "12345678" R);
	CLEAN("1234567\xff", "1234567" R);
	CLEAN("\x80", R);
	CLEAN("\xbf\xbf", R R);
	CLEAN("\xc0\xaf", R R);
	CLEAN("\xc1\xbf", R R);
	CLEAN("\xc2", R);
	CLEAN("\xc2"
	      "a",
	      R "a");
	CLEAN("\xe0\x80\xaf", R R R);
	CLEAN("\xe0\x9f\xbf", R R R);
	CLEAN("\xe0\xa0", R);
	CLEAN("\xe1\x80"
	      "x",
	      R "x");
	CLEAN("\xed\xa0\x80", R R R);
	CLEAN("\xed\x9f\xbf", "\xed\x9f\xbf");
	CLEAN("\xee\x80\x80", "\xee\x80\x80");
	CLEAN("\xef\xbf\xbf", "\xef\xbf\xbf");
	CLEAN("\xf0\x80\x80\x80", R R R R);
	CLEAN("\xf0\x90\x80", R);
	CLEAN("\xf0\x90\x80\x80", "\xf0\x90\x80\x80");
	CLEAN("\xf1\x80\x80\xe1\x80\xc2"
	      "a",
	      R R R "a"); /* Unicode's own example, table 3-8 */
	CLEAN("a\xf1\x80\x80\xe1\x80\xc2"
	      "b\x80"
	      "c\x80\xbf"
	      "d",
	      "a" R R R "b" R "c" R R "d");
	CLEAN("\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf");
	CLEAN("\xf4\x90\x80\x80", R R R R);
	CLEAN("\xf5\x80\x80\x80", R R R R);
	CLEAN("\xff\xfe", R R);

	/* whatever comes in, what goes out is clean */
	{
		Random random = {5};
		int    wrong = 0;

		for (int i = 0; i < 5000; i++)
		{
			char     in[40];
			uint32_t len = random_below(&random, 40);
			Arena    arena;
			SpanText once;
			uint64_t changed = 0;

			for (uint32_t k = 0; k < len; k++)
				in[k] = (char) (random_below(&random, 3) ? 0x70 + random_below(&random, 0x90) : random_next(&random));
			arena_init(&arena, &span_malloc_allocator, 0);
			once = span_text_clean(span_text(in, len), &arena, NULL);
			span_text_clean(once, &arena, &changed);
			wrong += changed != 0;
			arena_reset(&arena);
		}
		ok(wrong == 0, "cleaning twice changes nothing");
	}
	{
		Arena    arena;
		SpanText out;

		arena_init(&arena, &span_malloc_allocator, 1);
		out = span_text_clean(span_text("\xff", 1), &arena, NULL);
		ok(out.data == NULL && out.len > 0, "no memory is told");
		arena_reset(&arena);
	}
}

static void
test_ids(void)
{
	uint8_t bytes[8];
	char    hex[17];

	ok(id_from_hex("0123456789abcDEF", 16, bytes, 8), "hex of either case");
	id_to_hex(bytes, 8, hex);
	ok(strcmp(hex, "0123456789abcdef") == 0, "and back: %s", hex);
	ok(!id_from_hex("0123456789abcde", 15, bytes, 8), "too short");
	ok(!id_from_hex("0123456789abcdef0", 17, bytes, 8), "too long");
	ok(!id_from_hex("0123456789abcdeg", 16, bytes, 8), "no digit");
	ok(!id_from_hex("", 0, bytes, 8), "empty");
	ok(id_from_short_hex("abc", 3, bytes, 8), "short hex");
	id_to_hex(bytes, 8, hex);
	ok(strcmp(hex, "0000000000000abc") == 0, "is padded on the left: %s", hex);
	ok(!id_from_short_hex("", 0, bytes, 8), "nothing is no id");
	ok(!id_from_short_hex("00000000000000000", 17, bytes, 8), "short hex must not be longer");
	memset(bytes, 0, 8);
	ok(id_is_zero(bytes, 8), "zero");
	bytes[7] = 1;
	ok(!id_is_zero(bytes, 8) && id_is_zero(bytes, 7), "not zero");
}

static void
test_values(void)
{
	AnyValue      nan = {.type = ANY_DOUBLE};
	AnyValue      zero = {.type = ANY_DOUBLE};
	AnyValue      minus_zero = {.type = ANY_DOUBLE};
	AnyValue      one = {.type = ANY_INT, .u.integer = 1};
	AnyValue      yes = {.type = ANY_BOOL, .u.boolean = true};
	AnyValue      elements[2] = {one, yes};
	AnyValue      other[2] = {yes, one};
	AnyValue      array = {.type = ANY_ARRAY, .len = 2, .u.elements = elements};
	AnyValue      swapped = {.type = ANY_ARRAY, .len = 2, .u.elements = other};
	AnyValue      text = {.type = ANY_STRING, .len = 1, .u.data = "1"};
	AnyValue      bytes = {.type = ANY_BYTES, .len = 1, .u.data = "1"};
	KeyValue      items[3] = {{{"a", 1}, 0, one}, {{"a", 1}, 0, yes}, {{"", 0}, 0, array}};
	AttributeList list = {items, 3};
	AttributeList copy;
	Arena         arena;

	nan.u.number = __builtin_nan("");
	zero.u.number = 0.0;
	minus_zero.u.number = -0.0;
	ok(any_value_equal(&nan, &nan), "NaN equals itself");
	ok(!any_value_equal(&zero, &minus_zero), "the zeros differ");
	ok(!any_value_equal(&one, &yes) && !any_value_equal(&text, &bytes), "types differ");
	ok(!any_value_equal(&array, &swapped), "order of elements matters");
	ok(any_value_hash(&array, 1) != any_value_hash(&swapped, 1), "to the hash, too");
	ok(attribute_find(list, span_text("a", 1)) == &items[0].value, "the first of duplicates is found");
	ok(attribute_find(list, span_text("", 0)) == &items[2].value, "the empty key is a key");
	ok(attribute_find(list, span_text("b", 1)) == NULL, "an absent key is not found");
	arena_init(&arena, &span_malloc_allocator, 0);
	ok(attribute_list_copy(&arena, list, &copy) && attribute_lists_equal(list, copy), "a copy is equal");
	ok(copy.items[2].value.u.elements != elements && copy.items[0].key.data != items[0].key.data, "and deep");
	ok(attribute_list_hash(list, 3) == attribute_list_hash(copy, 3), "and hashes alike");
	arena_reset(&arena);
	arena_init(&arena, &span_malloc_allocator, 1);
	ok(!attribute_list_copy(&arena, list, &copy), "no memory is told");
	arena_reset(&arena);
	ok(span_text_is(span_text("abc", 3), "abc") && !span_text_is(span_text("abc", 2), "abc") &&
	       span_text_is(span_text(NULL, 0), ""),
	   "text against literals");
}

static void
test_batch(void)
{
	SpanBatch   *batch = span_batch_create(&span_malloc_allocator, 0);
	uint32_t     ids[3000];
	int          wrong = 0;
	char         buf[32];
	uint64_t     generation = span_batch_generation(batch);
	SpanBatch   *another;
	SpanResource resource = {0};
	SpanScope    scope = {0};
	KeyValue     items[2];
	uint32_t     r;

	ok(span_batch_string(batch, span_text("", 0)) == 0, "string 0 is empty");
	for (int i = 0; i < 3000; i++)
	{
		snprintf(buf, sizeof(buf), "string %d", i);
		ids[i] = span_batch_string(batch, span_text(buf, (uint32_t) strlen(buf)));
	}
	for (int i = 0; i < 3000; i++)
	{
		snprintf(buf, sizeof(buf), "string %d", i);
		wrong += span_batch_string(batch, span_text(buf, (uint32_t) strlen(buf))) != ids[i] ||
		         !span_text_is(batch->strings[ids[i]], buf);
	}
	ok(wrong == 0 && batch->n_strings == 3001, "equal strings have equal ids");

	memset(items, 0, sizeof(items));
	items[0].key = span_text("a", 1);
	items[0].value.type = ANY_INT;
	items[1].key = span_text("b", 1);
	items[1].value.type = ANY_BOOL;
	resource.attributes.items = items;
	resource.attributes.count = 2;
	r = span_batch_resource(batch, &resource);
	ok(r == 0 && span_batch_resource(batch, &resource) == 0 && batch->n_resources == 1, "equal resources are one");
	ok(span_text_is(batch->strings[batch->resources[0].attributes.items[1].key_id], "b"), "its keys are interned");
	resource.tenant = ids[0];
	ok(span_batch_resource(batch, &resource) == 1, "another tenant is another resource");
	resource.dropped_attributes_count = 1;
	ok(span_batch_resource(batch, &resource) == 2, "and so is another dropped count");
	resource.entity_refs = span_text("[]", 2);
	ok(span_batch_resource(batch, &resource) == 3, "and other entity refs");
	{
		KeyValue t = items[0];

		items[0] = items[1];
		items[1] = t;
	}
	ok(span_batch_resource(batch, &resource) == 4, "and another order");
	scope.resource = 1;
	ok(span_batch_scope(batch, &scope) == 0 && span_batch_scope(batch, &scope) == 0, "equal scopes are one");
	scope.version = ids[5];
	ok(span_batch_scope(batch, &scope) == 1, "another version is another scope");
	scope.resource = 2;
	ok(span_batch_scope(batch, &scope) == 2, "another resource, too");

	another = span_batch_create(&span_malloc_allocator, 0);
	ok(span_batch_generation(another) != generation, "batches have generations of their own");
	span_batch_destroy(another);
	span_batch_reset(batch);
	ok(batch->n_strings == 1 && batch->n_resources == 0 && batch->n_spans == 0, "reset empties");
	ok(span_batch_generation(batch) != generation, "and begins a new generation");
	for (int i = 0; i < 3; i++)
	{
		spangen_realistic(batch, 500, 2);
		ok(batch->n_spans == 500 && batch->n_strings > 10, "a batch can be filled again");
		span_batch_reset(batch);
	}
	ok(span_batch_memory(batch) < 6 << 20, "reset keeps little: %zu", span_batch_memory(batch));
	spangen_realistic(batch, 1000, 1);
	span_batch_truncate(batch, 1001);
	ok(batch->n_spans == 1000, "truncate does not grow");
	span_batch_truncate(batch, 10);
	ok(batch->n_spans == 10, "truncate forgets");
	ok(span_batch_memory(batch) > 100000, "memory is counted");
	span_batch_destroy(batch);
	span_batch_destroy(NULL);

	/* a bound */
	batch = span_batch_create(&span_malloc_allocator, 200000);
	for (int i = 0; i < 100000; i++)
	{
		snprintf(buf, sizeof(buf), "string %d", i);
		if (span_batch_string(batch, span_text(buf, (uint32_t) strlen(buf))) == SPAN_BATCH_NONE)
			break;
	}
	ok(batch->n_strings < 100000 && batch->n_strings > 100, "the bound stops interning");
	ok(span_batch_memory(batch) <= 200000, "memory stays below the bound: %zu", span_batch_memory(batch));
	ok(span_batch_string(batch, span_text("string 3", 8)) != SPAN_BATCH_NONE, "what is interned is still found");
	span_batch_destroy(batch);
	batch = span_batch_create(&span_malloc_allocator, 200000);
	{
		Span span = {0};
		int  n = 0;

		while (span_batch_add(batch, &span) && n < 100000)
			n++;
		ok(n < 2000 && batch->n_spans == n, "the bound stops spans");
	}
	span_batch_destroy(batch);
}

/* The obvious way: from each span up, as many steps as there are spans */
static bool
kinship_walked(const KinSpan *spans, uint32_t n, bool descendants)
{
	for (uint32_t i = 0; i < n; i++)
	{
		uint64_t parent = spans[i].parent;

		for (uint32_t step = 0; spans[i].below && step < (descendants ? n : 1); step++)
		{
			uint64_t next = 0;

			for (uint32_t j = 0; j < n && parent != 0; j++)
			{
				if (spans[j].id != parent)
					continue;
				if (spans[j].above)
					return true;
				next = spans[j].parent;
			}
			parent = next;
		}
	}
	return false;
}

static void
test_kinship(void)
{
	Random  random = {7};
	KinSpan spans[40];
	int     wrong = 0;
	int     related = 0;
	void   *scratch = malloc(kinship_scratch(40));

	for (int round = 0; round < 20000; round++)
	{
		uint32_t n = 1 + (uint32_t) random_below(&random, 40);
		bool     descendants = random_below(&random, 2) != 0;
		bool     expected;

		for (uint32_t i = 0; i < n; i++)
		{
			memset(&spans[i], 0xff, sizeof(KinSpan));
			spans[i].id = (uint64_t) (i + 1) << 32;
			/* cycles, own parents, and parents that are not there, too */
			spans[i].parent = (uint64_t) random_below(&random, n + 3) << 32;
			spans[i].above = random_below(&random, 8) == 0;
			spans[i].below = random_below(&random, 8) == 0;
		}
		expected = kinship_walked(spans, n, descendants);
		related += expected;
		wrong += kinship_possible(spans, n, descendants, scratch) != expected;
	}
	ok(wrong == 0, "kinship: %d of 20000 wrong", wrong);
	ok(related > 2000 && related < 18000, "%d related", related);
	memset(spans, 0, sizeof(spans));
	spans[0] = (KinSpan){.id = 5, .above = true};
	spans[1] = (KinSpan){.id = 6, .parent = 5};
	spans[2] = (KinSpan){.id = 6, .below = true};
	ok(kinship_possible(spans, 3, false, scratch), "where ids are not unique, any pair will do");
	spans[0].above = false;
	ok(!kinship_possible(spans, 3, false, scratch), "if there is one");
	ok(!kinship_possible(spans, 0, true, scratch), "no spans");
	free(scratch);
}

int
main(void)
{
	test_kinship();
	test_arena();
	test_clean();
	test_ids();
	test_values();
	test_batch();
	return tap_done();
}
