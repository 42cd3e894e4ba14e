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

CREATE FUNCTION tempo.match(value jsonb, op text, literal jsonb) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_match' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 3;
COMMENT ON FUNCTION tempo.match(jsonb, text, jsonb) IS 'TraceQL comparison (= != < <= > >=); of an array: any element, for != none that is equal';

CREATE FUNCTION tempo.match_re(value jsonb, pattern text, negate boolean DEFAULT false) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_match_re' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION tempo.match_re(jsonb, text, boolean) IS 'does a string match a whole RE2 pattern (or not, if negated); of an array: any element, if negated none';

CREATE FUNCTION tempo.match_re(value text, pattern text, negate boolean DEFAULT false) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_match_re_text' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 10;
COMMENT ON FUNCTION tempo.match_re(text, text, boolean) IS 'does a text match a whole RE2 pattern (or not, if negated)';

CREATE FUNCTION tempo.truth(value jsonb) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_truth' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION tempo.truth(jsonb) IS 'the boolean that a value is, NULL if it is none';

CREATE FUNCTION tempo.calc("left" jsonb, op text, "right" jsonb) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'tempo_calc' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 5;
COMMENT ON FUNCTION tempo.calc(jsonb, text, jsonb) IS 'TraceQL arithmetic (+ - * / % ^): integers wrap, doubles follow IEEE 754; false if an operand is no number';

CREATE FUNCTION tempo.divides_by_zero("left" jsonb, "right" jsonb) RETURNS boolean
    AS 'MODULE_PATHNAME', 'tempo_divides_by_zero' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 3;
COMMENT ON FUNCTION tempo.divides_by_zero(jsonb, jsonb) IS 'is this a division of an integer by the integer 0';

CREATE FUNCTION tempo.search_span(span_id text, name text, start_time_unix_nano bigint, duration_nano bigint, keys text[], "values" jsonb[]) RETURNS jsonb
    AS 'MODULE_PATHNAME', 'tempo_search_span' LANGUAGE C IMMUTABLE PARALLEL SAFE COST 20;
COMMENT ON FUNCTION tempo.search_span(text, text, bigint, bigint, text[], jsonb[]) IS 'a span as search answers show it';
