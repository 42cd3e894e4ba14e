# tempo_pg: build with PGXS.  "make", "make install", "make installcheck"
# (pg_regress, needs a running server), "make unit" (no server needed).

EXTENSION = tempo_pg
EXTVERSION = 0.1.0
MODULE_big = tempo_pg
PGFILEDESC = "tempo_pg - trace store for OpenTelemetry"

FOLDERS = span segment net access traceql ingest api worker

TRACEQL_GENERATED = src/traceql/grammar.c src/traceql/grammar.h src/traceql/lexer.c
PROTO_SOURCES = $(wildcard proto/*.proto)
PROTO_GENERATED = $(PROTO_SOURCES:proto/%.proto=src/proto/%.pb-c.c)

C_SOURCES = $(sort $(filter-out $(TRACEQL_GENERATED),$(wildcard src/*.c $(FOLDERS:%=src/%/*.c))))
CXX_SOURCES = $(sort $(wildcard src/traceql/*.cc))
GENERATED_SOURCES = $(if $(wildcard src/traceql/grammar.y),src/traceql/grammar.c src/traceql/lexer.c)
OBJS = $(C_SOURCES:.c=.o) $(CXX_SOURCES:.cc=.o) $(GENERATED_SOURCES:.c=.o) $(PROTO_GENERATED:.c=.o)

# The extension script is one file for PostgreSQL, one file per topic for us.
SQL_PARTS = $(sort $(wildcard sql/install/*.sql))
DATA_built = sql/$(EXTENSION)--$(EXTVERSION).sql

REGRESS = $(sort $(filter-out tempo_pg--%,$(notdir $(basename $(wildcard sql/*.sql)))))
REGRESS_OPTS = --load-extension=tempo_pg --encoding=UTF8
ISOLATION = $(notdir $(basename $(wildcard test/isolation/specs/*.spec)))
ISOLATION_OPTS = --load-extension=tempo_pg --encoding=UTF8 --inputdir=test/isolation

PKGS = libzstd liblz4 zlib snappy libuv libnghttp2 libmicrohttpd libprotobuf-c re2 openssl
PG_CPPFLAGS = -I$(srcdir)/src -I$(srcdir)/src/proto $(shell pkg-config --cflags $(PKGS))
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -std=gnu11
PG_CXXFLAGS = -std=c++17 -fvisibility=hidden
# PostgreSQL 15 does not mark SQL functions as exported, so -fvisibility=hidden
# would hide them: the linker keeps our other names from other extensions.
SHLIB_LINK = $(shell pkg-config --libs $(PKGS)) -lstdc++ -Wl,--version-script=$(srcdir)/src/exports.map
EXTRA_CLEAN = $(DATA_built) src/traceql/grammar.c src/traceql/grammar.h src/traceql/lexer.c src/proto test/unit/build

PG_CONFIG ?= pg_config
override with_llvm = no
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# PostgreSQL's own flags and headers are those of the compiler it was built
# with; clang need not comment on them.
ifneq (,$(findstring clang,$(CC)))
override CFLAGS += -Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-ignored-attributes
override CXXFLAGS += -Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-ignored-attributes
endif

# Rebuild what a changed header touches.
DEPFLAGS = -MMD -MP
override CPPFLAGS += $(DEPFLAGS)
-include $(OBJS:.o=.d)

sql/$(EXTENSION)--$(EXTVERSION).sql: $(SQL_PARTS)
	cat $^ > $@

src/traceql/grammar.c src/traceql/grammar.h: src/traceql/grammar.y
	bison -Wno-deprecated -d -o src/traceql/grammar.c $<
src/traceql/lexer.c: src/traceql/lexer.l src/traceql/grammar.h
	flex -o $@ $<
src/traceql/lexer.o src/traceql/grammar.o: CFLAGS += -Wno-sign-compare -Wno-unused-function -Wno-implicit-fallthrough
$(if $(wildcard src/traceql/grammar.y),$(filter src/traceql/%.o,$(OBJS)): src/traceql/grammar.h)

src/proto/%.pb-c.c src/proto/%.pb-c.h: proto/%.proto
	mkdir -p src/proto
	protoc-c --proto_path=proto --c_out=src/proto $(notdir $<)
# What gRPC reflection tells, as the bytes of an array.
CLIENT_PROTOS = $(sort $(shell cd $(srcdir)/proto/client && find . -name '*.proto' | sed 's,^\./,,'))
src/proto/client_descriptors.inc: $(CLIENT_PROTOS:%=proto/client/%)
	mkdir -p src/proto
	protoc-c --proto_path=proto/client --include_imports --descriptor_set_out=src/proto/client_descriptors.pb $(CLIENT_PROTOS)
	od -An -v -tx1 src/proto/client_descriptors.pb | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g' > $@
src/worker/reflection.o: src/proto/client_descriptors.inc
src/proto/%.pb-c.o: CFLAGS += -Wno-missing-braces
$(OBJS): | $(PROTO_GENERATED) $(PROTO_GENERATED:.c=.h)

unit:
	$(MAKE) -C test/unit check PG_CONFIG=$(PG_CONFIG)
.PHONY: unit

clean: clean-deps
clean-deps:
	find src -name '*.d' -delete
.PHONY: clean-deps
