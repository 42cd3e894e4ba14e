-- TraceQL: parsing, and the functions that its SQL is made of.

CREATE FUNCTION tempo.traceql_parse(query text) RETURNS text
    AS 'MODULE_PATHNAME', 'tempo_traceql_parse' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.traceql_parse(text) IS 'checks a TraceQL query and returns its canonical form';

-- What compiled queries are made of.  A value is what the attribute columns
-- hold, NULL is TraceQL's nil.  Comparisons are never NULL: what does not fit
-- is false.

CREATE FUNCTION tempo.attr(attributes jsonb, resource jsonb, scope text, key text) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'tempo_attr' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 2;
COMMENT ON FUNCTION tempo.attr(jsonb, jsonb, text, text) IS 'value of an attribute of the span, the resource, or any: the span''s if it has the key, else the resource''s; NULL if there is none';

CREATE FUNCTION tempo.pick(attributes jsonb, keys text[]) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'tempo_pick' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 2;
COMMENT ON FUNCTION tempo.pick(jsonb, text[]) IS 'the attributes that have these keys: of tempo.spans, no others are read';

CREATE FUNCTION tempo.match(value jsonb, op text, literal jsonb) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_match' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 3;
COMMENT ON FUNCTION tempo.match(jsonb, text, jsonb) IS 'TraceQL comparison (= != < <= > >=); of an array: any element, for != none that is equal';

CREATE FUNCTION tempo.match_re(value jsonb, pattern text, negate boolean DEFAULT false) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_match_re' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION tempo.match_re(jsonb, text, boolean) IS 'does a string match a whole RE2 pattern (or not, if negated); of an array: any element, if negated none';

CREATE FUNCTION tempo.match_re(value text, pattern text, negate boolean DEFAULT false) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_match_re_text' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION tempo.match_re(text, text, boolean) IS 'does a text match a whole RE2 pattern (or not, if negated)';

CREATE FUNCTION tempo.event_match(events jsonb, key text, op text, literal jsonb) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_event_match' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10;
COMMENT ON FUNCTION tempo.event_match(jsonb, text, text, jsonb) IS 'is there an event whose attribute meets a TraceQL comparison, see match()?';

CREATE FUNCTION tempo.event_match_re(events jsonb, key text, pattern text, negate boolean DEFAULT false) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_event_match_re' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 20;
COMMENT ON FUNCTION tempo.event_match_re(jsonb, text, text, boolean) IS 'is there an event whose attribute matches a whole RE2 pattern (or has a string that does not, if negated), see match_re()?';

CREATE FUNCTION tempo.relate_span(internal, relation text, above boolean, below boolean, span_id tempo.span_id, parent_span_id tempo.span_id) RETURNS internal
    AS 'MODULE_PATHNAME', 'tempo_relate_span' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tempo.relate_span(internal, text, boolean, boolean, tempo.span_id, tempo.span_id) IS 'transition function of may_be_related()';

CREATE FUNCTION tempo.may_be_related_final(internal) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_may_be_related' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tempo.may_be_related_final(internal) IS 'final function of may_be_related()';

CREATE AGGREGATE tempo.may_be_related(relation text, above boolean, below boolean, span_id tempo.span_id, parent_span_id tempo.span_id) (
    SFUNC = tempo.relate_span, STYPE = internal, SSPACE = 4096,
    FINALFUNC = tempo.may_be_related_final, PARALLEL = SAFE
);
COMMENT ON AGGREGATE tempo.may_be_related(text, boolean, boolean, tempo.span_id, tempo.span_id) IS
    'of the spans of one trace: is one that is "below" a child (>) or descendant (>>) of one that is "above"? Where span ids are not unique, any pair will do';

CREATE FUNCTION tempo.truth(value jsonb) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_truth' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tempo.truth(jsonb) IS 'the boolean that a value is, NULL if it is none';

CREATE FUNCTION tempo.calc("left" jsonb, op text, "right" jsonb) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'tempo_calc' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 5;
COMMENT ON FUNCTION tempo.calc(jsonb, text, jsonb) IS 'TraceQL arithmetic (+ - * / % ^): integers wrap, doubles follow IEEE 754; false if an operand is no number';

CREATE FUNCTION tempo.divides_by_zero("left" jsonb, "right" jsonb) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_divides_by_zero' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 3;
COMMENT ON FUNCTION tempo.divides_by_zero(jsonb, jsonb) IS 'is this a division of an integer by the integer 0';

-- Evaluating a query on the spans of one trace, each with the columns of
-- tempo.spans that the query needs, NULL for others.

CREATE TYPE tempo.search_result AS (
    start bigint,
    stop bigint,
    root_service_name text,
    root_trace_name text,
    spansets jsonb,
    service_stats jsonb
);
COMMENT ON TYPE tempo.search_result IS 'what a search finds in a trace; all NULL if nothing';

CREATE TYPE tempo.matched_span AS (
    span_id tempo.span_id,
    kind text,
    start_time_unix_nano bigint,
    keys text[],
    value double precision,
    weight double precision
);
COMMENT ON TYPE tempo.matched_span IS 'a span that a query finds in a trace, with what a metrics query groups by (JSON texts) and measures';

CREATE FUNCTION tempo.collect_span(internal, query text, spss integer,
    trace_id tempo.trace_id, span_id tempo.span_id, parent_span_id tempo.span_id,
    name text, kind text, status text, status_message text, start_time_unix_nano bigint, duration_nano bigint, service_name text,
    attributes jsonb, resource_attributes jsonb, scope_name text, scope_version text, scope_attributes jsonb, events jsonb, links jsonb, trace_state text)
    RETURNS internal
    AS 'MODULE_PATHNAME', 'tempo_collect_span' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION tempo.collect_span(internal, text, integer, tempo.trace_id, tempo.span_id, tempo.span_id, text, text, text, text, bigint, bigint, text, jsonb, jsonb, text, text, jsonb, jsonb, jsonb, text) IS 'transition function of search_trace()';

CREATE FUNCTION tempo.collect_span_of_part(internal, query text, part integer,
    trace_id tempo.trace_id, span_id tempo.span_id, parent_span_id tempo.span_id,
    name text, kind text, status text, status_message text, start_time_unix_nano bigint, duration_nano bigint, service_name text,
    attributes jsonb, resource_attributes jsonb, scope_name text, scope_version text, scope_attributes jsonb, events jsonb, links jsonb, trace_state text)
    RETURNS internal
    AS 'MODULE_PATHNAME', 'tempo_collect_span_of_part' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION tempo.collect_span_of_part(internal, text, integer, tempo.trace_id, tempo.span_id, tempo.span_id, text, text, text, text, bigint, bigint, text, jsonb, jsonb, text, text, jsonb, jsonb, jsonb, text) IS 'transition function of trace_spans()';

CREATE FUNCTION tempo.search_trace_final(internal) RETURNS tempo.search_result
    AS 'MODULE_PATHNAME', 'tempo_search_trace' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION tempo.search_trace_final(internal) IS 'final function of search_trace()';

CREATE FUNCTION tempo.trace_spans_final(internal) RETURNS tempo.matched_span[]
    AS 'MODULE_PATHNAME', 'tempo_trace_spans' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION tempo.trace_spans_final(internal) IS 'final function of trace_spans()';

CREATE AGGREGATE tempo.search_trace(query text, spss integer,
    trace_id tempo.trace_id, span_id tempo.span_id, parent_span_id tempo.span_id,
    name text, kind text, status text, status_message text, start_time_unix_nano bigint, duration_nano bigint, service_name text,
    attributes jsonb, resource_attributes jsonb, scope_name text, scope_version text, scope_attributes jsonb, events jsonb, links jsonb, trace_state text) (
    SFUNC = tempo.collect_span, STYPE = internal, SSPACE = 8192,
    FINALFUNC = tempo.search_trace_final, FINALFUNC_MODIFY = READ_WRITE, PARALLEL = SAFE
);
COMMENT ON AGGREGATE tempo.search_trace(text, integer, tempo.trace_id, tempo.span_id, tempo.span_id, text, text, text, text, bigint, bigint, text, jsonb, jsonb, text, text, jsonb, jsonb, jsonb, text) IS
    'what a TraceQL query finds in a trace, as search answers show it, with up to spss spans per spanset (0: all)';

CREATE AGGREGATE tempo.trace_spans(query text, part integer,
    trace_id tempo.trace_id, span_id tempo.span_id, parent_span_id tempo.span_id,
    name text, kind text, status text, status_message text, start_time_unix_nano bigint, duration_nano bigint, service_name text,
    attributes jsonb, resource_attributes jsonb, scope_name text, scope_version text, scope_attributes jsonb, events jsonb, links jsonb, trace_state text) (
    SFUNC = tempo.collect_span_of_part, STYPE = internal, SSPACE = 8192,
    FINALFUNC = tempo.trace_spans_final, FINALFUNC_MODIFY = READ_WRITE, PARALLEL = SAFE
);
COMMENT ON AGGREGATE tempo.trace_spans(text, integer, tempo.trace_id, tempo.span_id, tempo.span_id, text, text, text, text, bigint, bigint, text, jsonb, jsonb, text, text, jsonb, jsonb, jsonb, text) IS
    'the spans that a TraceQL query finds in a trace; of arithmetic on metrics queries those of query number part';

-- Exemplars of metrics queries.
CREATE TYPE tempo.exemplar AS (
    start_time_unix_nano bigint,
    value double precision,
    series jsonb,
    labels jsonb
);
COMMENT ON TYPE tempo.exemplar IS
    'a span that stands for what a metrics query counted: its value, NULL where spans are counted; the labels of its series, NULL if that has none; what the query mentions of it; both as label_list of tempo.series';

CREATE FUNCTION tempo.trace_exemplar_final(internal) RETURNS tempo.exemplar
    AS 'MODULE_PATHNAME', 'tempo_trace_exemplar' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 100;
COMMENT ON FUNCTION tempo.trace_exemplar_final(internal) IS 'final function of trace_exemplar()';

CREATE AGGREGATE tempo.trace_exemplar(query text, part integer,
    trace_id tempo.trace_id, span_id tempo.span_id, parent_span_id tempo.span_id,
    name text, kind text, status text, status_message text, start_time_unix_nano bigint, duration_nano bigint, service_name text,
    attributes jsonb, resource_attributes jsonb, scope_name text, scope_version text, scope_attributes jsonb, events jsonb, links jsonb, trace_state text) (
    SFUNC = tempo.collect_span_of_part, STYPE = internal, SSPACE = 8192,
    FINALFUNC = tempo.trace_exemplar_final, FINALFUNC_MODIFY = READ_WRITE, PARALLEL = SAFE
);
COMMENT ON AGGREGATE tempo.trace_exemplar(text, integer, tempo.trace_id, tempo.span_id, tempo.span_id, text, text, text, text, bigint, bigint, text, jsonb, jsonb, text, text, jsonb, jsonb, jsonb, text) IS
    'a span that a TraceQL metrics query counts in a trace; of arithmetic one of query number part';

-- compare() where both filters are of single spans.
CREATE TYPE tempo.compared AS (
    bucket bigint,
    keys text[],
    n double precision
);
COMMENT ON TYPE tempo.compared IS 'how many spans compare() counts in a time step with a side, attribute and value (JSON text); without a value: with those that are too many to show';

CREATE FUNCTION tempo.attribute_label(scope text, name text) RETURNS text
    AS 'MODULE_PATHNAME', 'tempo_attribute_label' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.attribute_label(text, text) IS 'an attribute of span, resource or instrumentation as TraceQL writes it';

CREATE FUNCTION tempo.compare_span(internal, counted boolean, selected boolean, weight double precision, start bigint, step bigint, steps integer, "values" integer,
    trace_id tempo.trace_id, span_id tempo.span_id, parent_span_id tempo.span_id,
    name text, kind text, status text, status_message text, start_time_unix_nano bigint, duration_nano bigint, service_name text,
    attributes jsonb, resource_attributes jsonb, scope_name text, scope_version text, scope_attributes jsonb, events jsonb, links jsonb, trace_state text)
    RETURNS internal
    AS 'MODULE_PATHNAME', 'tempo_compare_span' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 20;
COMMENT ON FUNCTION tempo.compare_span(internal, boolean, boolean, double precision, bigint, bigint, integer, integer, tempo.trace_id, tempo.span_id, tempo.span_id, text, text, text, text, bigint, bigint, text, jsonb, jsonb, text, text, jsonb, jsonb, jsonb, text) IS 'transition function of compare_spans()';
CREATE FUNCTION tempo.compare_spans_final(internal) RETURNS tempo.compared[]
    AS 'MODULE_PATHNAME', 'tempo_compare_spans' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 1000;
COMMENT ON FUNCTION tempo.compare_spans_final(internal) IS 'final function of compare_spans()';

CREATE AGGREGATE tempo.compare_spans(counted boolean, selected boolean, weight double precision, start bigint, step bigint, steps integer, "values" integer,
    trace_id tempo.trace_id, span_id tempo.span_id, parent_span_id tempo.span_id,
    name text, kind text, status text, status_message text, start_time_unix_nano bigint, duration_nano bigint, service_name text,
    attributes jsonb, resource_attributes jsonb, scope_name text, scope_version text, scope_attributes jsonb, events jsonb, links jsonb, trace_state text) (
    SFUNC = tempo.compare_span, STYPE = internal, FINALFUNC = tempo.compare_spans_final, FINALFUNC_MODIFY = READ_WRITE, PARALLEL = SAFE
);
COMMENT ON AGGREGATE tempo.compare_spans(boolean, boolean, double precision, bigint, bigint, integer, integer, tempo.trace_id, tempo.span_id, tempo.span_id, text, text, text, text, bigint, bigint, text, jsonb, jsonb, text, text, jsonb, jsonb, jsonb, text) IS
    'how often spans that are counted have each value of each attribute, selected ones and others, in steps of time that begin behind start; of an attribute the most frequent values; rows are those of whole traces, and spans that come twice count once';

CREATE FUNCTION tempo.number(value jsonb) RETURNS double precision
    AS 'MODULE_PATHNAME', 'tempo_number' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 3;
COMMENT ON FUNCTION tempo.number(jsonb) IS 'the number that a value is, NULL if it is none';

CREATE FUNCTION tempo.log2_bucket(value double precision) RETURNS double precision
    AS 'MODULE_PATHNAME', 'tempo_log2_bucket' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.log2_bucket(double precision) IS 'the smallest power of two not below the value, NULL for values below 2';

CREATE FUNCTION tempo.label(value jsonb) RETURNS text
    AS 'MODULE_PATHNAME', 'tempo_label' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 3;
COMMENT ON FUNCTION tempo.label(jsonb) IS 'JSON of the label that a value makes in a series: "nil" for NULL and for what is no single value';

CREATE FUNCTION tempo.sampling_weight(trace_state text) RETURNS double precision
    AS 'MODULE_PATHNAME', 'tempo_sampling_weight' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION tempo.sampling_weight(text) IS 'how many spans a sampled span stands for, by the threshold in its tracestate';

CREATE TYPE tempo.series AS (
    labels jsonb,
    label_list jsonb,
    times timestamptz[],
    "values" double precision[]
);
COMMENT ON TYPE tempo.series IS 'a time series; label_list has the labels in order and with their types, as the HTTP API prints them';

CREATE FUNCTION tempo.collect_series(internal, query text, start bigint, stop bigint, step bigint, part integer, bucket bigint, keys text[], value double precision, n double precision) RETURNS internal
    AS 'MODULE_PATHNAME', 'tempo_collect_series' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tempo.collect_series(internal, text, bigint, bigint, bigint, integer, bigint, text[], double precision, double precision) IS 'transition function of metrics_series()';
CREATE FUNCTION tempo.metrics_series_final(internal) RETURNS tempo.series[]
    AS 'MODULE_PATHNAME', 'tempo_metrics_series' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tempo.metrics_series_final(internal) IS 'final function of metrics_series()';

CREATE AGGREGATE tempo.metrics_series(query text, start bigint, stop bigint, step bigint, part integer, bucket bigint, keys text[], value double precision, n double precision) (
    SFUNC = tempo.collect_series, STYPE = internal, FINALFUNC = tempo.metrics_series_final, FINALFUNC_MODIFY = READ_WRITE, PARALLEL = SAFE
);
COMMENT ON AGGREGATE tempo.metrics_series(text, bigint, bigint, bigint, integer, bigint, text[], double precision, double precision) IS
    'the series of a TraceQL metrics query, of what its queries (part) found per time step (bucket) and labels (keys, JSON texts): number of spans n, sum, minimum, maximum or power of two value';

-- Queries.  They run with the privileges of the caller; the fixed search_path
-- keeps the caller's objects out of the SQL they compile to.

CREATE FUNCTION @extschema@.traceql(
    query text,
    start timestamptz DEFAULT NULL,
    "end" timestamptz DEFAULT NULL,
    "limit" integer DEFAULT 20,
    spss integer DEFAULT 3,
    tenants text[] DEFAULT NULL,
    OUT trace_id tempo.trace_id,
    OUT root_service_name text,
    OUT root_trace_name text,
    OUT start_time timestamptz,
    OUT duration interval,
    OUT spansets jsonb,
    OUT start_time_unix_nano bigint,
    OUT duration_nano bigint,
    OUT service_stats jsonb
) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tempo_traceql' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 20
    SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION @extschema@.traceql(text, timestamptz, timestamptz, integer, integer, text[]) IS
    'the newest "limit" traces with spans that match a TraceQL query, newest first, with up to spss spans each (NULL: all)';

CREATE FUNCTION @extschema@.traceql_spans(
    query text,
    start timestamptz DEFAULT NULL,
    "end" timestamptz DEFAULT NULL,
    "limit" integer DEFAULT NULL,
    tenants text[] DEFAULT NULL,
    OUT trace_id tempo.trace_id,
    OUT span_id tempo.span_id,
    OUT parent_span_id tempo.span_id,
    OUT service_name text,
    OUT name text,
    OUT kind text,
    OUT status text,
    OUT status_message text,
    OUT start_time timestamptz,
    OUT duration interval,
    OUT attributes jsonb,
    OUT resource_attributes jsonb,
    OUT start_time_unix_nano bigint,
    OUT duration_nano bigint
) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tempo_traceql_spans' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 1000
    SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION @extschema@.traceql_spans(text, timestamptz, timestamptz, integer, text[]) IS
    'the spans that match a TraceQL query, in the newest "limit" traces (NULL: in all)';

CREATE FUNCTION @extschema@.traceql_to_sql(
    query text,
    start timestamptz DEFAULT NULL,
    "end" timestamptz DEFAULT NULL,
    "limit" integer DEFAULT 20,
    spss integer DEFAULT 3,
    tenants text[] DEFAULT NULL
) RETURNS text
    AS 'MODULE_PATHNAME', 'tempo_traceql_to_sql' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.traceql_to_sql(text, timestamptz, timestamptz, integer, integer, text[]) IS
    'the SQL that traceql() runs for the same arguments';

CREATE FUNCTION @extschema@.traceql_metrics(
    query text,
    start timestamptz DEFAULT NULL,
    "end" timestamptz DEFAULT NULL,
    step interval DEFAULT NULL,
    tenants text[] DEFAULT NULL,
    OUT labels jsonb,
    OUT "time" timestamptz,
    OUT value double precision
) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'tempo_traceql_metrics' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 1000
    SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION @extschema@.traceql_metrics(text, timestamptz, timestamptz, interval, text[]) IS
    'the series of a TraceQL metrics query, a row per sample: the step that ends at "time"; the last hour unless said otherwise';

CREATE FUNCTION @extschema@.traceql_metrics_to_sql(
    query text,
    start timestamptz DEFAULT NULL,
    "end" timestamptz DEFAULT NULL,
    step interval DEFAULT NULL,
    tenants text[] DEFAULT NULL
) RETURNS text
    AS 'MODULE_PATHNAME', 'tempo_traceql_metrics_to_sql' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.traceql_metrics_to_sql(text, timestamptz, timestamptz, interval, text[]) IS
    'the SQL that traceql_metrics() runs for the same arguments';

CREATE FUNCTION tempo.query_metrics(query text, start bigint, stop bigint, step bigint, tenants text[] DEFAULT NULL, after bigint DEFAULT NULL) RETURNS SETOF tempo.series
    AS 'MODULE_PATHNAME', 'tempo_query_metrics' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 100
    SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION tempo.query_metrics(text, bigint, bigint, bigint, text[], bigint) IS
    'the series of a TraceQL metrics query, a row per series, for steps from start (exclusive) to stop (Unix nanoseconds); as if there were no spans up to "after"';

CREATE FUNCTION tempo.query_exemplars(query text, start bigint, stop bigint, step bigint, first integer[], last integer[], "limit" integer, tenants text[] DEFAULT NULL) RETURNS SETOF tempo.exemplar
    AS 'MODULE_PATHNAME', 'tempo_query_exemplars' LANGUAGE C STABLE PARALLEL RESTRICTED COST 10000 ROWS 100
    SET search_path = pg_catalog, pg_temp SET jit = off;
COMMENT ON FUNCTION tempo.query_exemplars(text, bigint, bigint, bigint, integer[], integer[], integer, text[]) IS
    'up to so many spans of different traces that a TraceQL metrics query counts; looked for between these steps (from 0) of those that query_metrics() answers for the same range';
