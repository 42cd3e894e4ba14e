-- TraceQL: what parses, how it prints, and what is refused.
-- psql shows a query's canonical form or its error; nothing here reads spans.
\set VERBOSITY terse
\set ON_ERROR_STOP off

CREATE TEMP TABLE q (n serial, query text);
CREATE FUNCTION pg_temp.parsed(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN tempo.traceql_parse(query);
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;

-- literals
INSERT INTO q (query) VALUES
    ('{ .i = 12 }'), ('{ .i = 007 }'), ('{ .i = 019 }'), ('{ .i = 0b11 }'), ('{ .i = 12_0 }'),
    ('{ .i = 99999999999999999999 }'), ('{ .i = -9223372036854775807 }'), ('{ .i = minInt || .i > maxInt }'),
    ('{ .f = .25 }'), ('{ .f = 3. }'), ('{ .f = 25e-6 }'), ('{ .f = 123456.0 }'), ('{ .f = 12345678.5 }'), ('{ .f = 0x1p4 }'), ('{ .f = 2e999 }'),
    ('{ duration > 1w }'), ('{ duration > 1h1m1s1ms }'), ('{ duration > 1ms1s }'), ('{ duration > 2.5ms }'), ('{ duration > 7us7ns }'),
    ('{ duration > 3µs }'), ('{ duration > 400y }'), ('{ duration > 2.5w }'), ('{ duration > 10h5 }'),
    ('{ .s = "tab\tquote\"end" }'), ('{ .s = "\x41\102\u00df" }'), ('{ .s = "\q" }'), ('{ .s = "open }'), ('{ .s = `raw\n"x"` }'), ('{ .s = ''c'' }'),
    ('{ .s = "a' || chr(10) || 'b" }'),
    ('{ status = unset && kind = producer }'), ('{ .b = true }'), ('{ .b = True }');

-- attributes and intrinsics
INSERT INTO q (query) VALUES
    ('{ span.http.status_code = 1 }'), ('{ resource.k8s.pod-name != `x` }'), ('{ .a+b = 1 }'), ('{ .a +.b = 1 }'), ('{ ."with space" = 1 }'),
    ('{ span."q\"q" = 1 }'), ('{ span."b\n" = 1 }'), ('{ span."open = 1 }'), ('{ span."" = 1 }'), ('{ span.=1 }'), ('{ .ключ = 1 }'), ('{ .a[0].b@c = 1 }'),
    ('{ event:name = `e` && event.x = 1 }'), ('{ link:spanID = `00` }'), ('{ instrumentation:version = `1` }'), ('{ trace:id != `1` }'),
    ('{ trace:rootService = `a` || trace:rootName = `b` }'), ('{ span:childCount > 1 }'), ('{ span:rootName = `a` }'), ('{ trace:name = `a` }'), ('{ id = 1 }'),
    ('{ parent.resource.x = 1 }'), ('{ resource.parent.x = 1 }'), ('{ scope.x = 1 }'), ('{ Name = `a` }');

-- precedence, folding, lists
INSERT INTO q (query) VALUES
    ('{ .a = 1 + 2 * 3 ^ 2 }'), ('{ .a + .b * .c ^ .d = 1 }'), ('{ .a - .b - .c = 1 }'), ('{ .a ^ .b ^ .c = 1 }'), ('{ -.a + 2 = 1 }'), ('{ -.a * 2 = 1 }'),
    ('{ !.a || .b }'), ('{ !.a * .b = 1 }'), ('{ .a = .b != .c }'), ('{ .a || .b && .c || .d }'), ('{ .a = 7 / 2 }'), ('{ .a = 7 % 0 }'), ('{ .a = 1s * 2 }'), ('{ `a` < `b` }'),
    ('{ true && !false }'), ('{ 1 != 1.0 }'), ('{ .x = `a` || .x = `b` || .x = `c` }'), ('{ .x = `a` || .y = `b` || .x = `c` }'), ('{ `a` != .x && .x != `b` }'),
    ('{ .x !~ `a.*` && .x !~ `b` }'), ('{ .x = 1 || .x = 1s }'), ('{ !(.x = 1 || .x = 2) }'), ('{ nil != .a }'), ('{ nil != nil }'), ('{ .a = nil = false }');

-- typing
INSERT INTO q (query) VALUES
    ('{ name = 1 }'), ('{ duration = `1s` }'), ('{ kind = ok }'), ('{ kind != 2 }'), ('{ status < ok }'), ('{ name && .a }'), ('{ .a + `x` = 1 }'), ('{ -name = 1 }'), ('{ !duration }'),
    ('{ duration }'), ('{ 3 }'), ('{ .a * 2 }'), ('{ .a =~ 5 }'), ('{ .a =~ .b }'), ('{ .a !~ `[` }'), ('{ .a =~ `\1(a)` }'), ('{ statusMessage = nil }'), ('{ kind != nil }'),
    ('{ resource.service.name = nil }'), ('{ .service.name = nil }'), ('{ (.a + 1) = nil }'), ('{ .a < nil }');

-- spansets and pipelines
INSERT INTO q (query) VALUES
    ('{}'), ('  { }  '), (''), ('{'), ('{.a'), ('{.a}}'), ('{.a}{.b}'), ('{.a} >> {.b} ~ {.c}'), ('{.a} !>> {.b} || {.c} &< {.d}'), ('{.a} = {.b}'), ('({.a} && {.b}) | {.c}'),
    ('({.a}|{.b}) && ({.c})'), ('({.a}|{.b}) && {.c}'), ('({.a}|{.b}) >> ({.c}|{.d}) | {.e}'),
    ('{} | by(name) | count() > 2 | coalesce() | select(.a, span.b)'), ('{} | by()'), ('{} | avg(duration) >= 1ms'), ('{} | avg(.a) > -(2 * 3)'), ('{} | sum(.a + .b) < 2'),
    ('{} | min(status) > 1'), ('{} | max(1 + 1) > 1'), ('{} | count(.a) > 1'), ('{} | count()'), ('{} | 1 < 2'), ('{} | count() * 2 > 1'), ('({}|count()) > 1'), ('{} | select()'), ('coalesce()'),
    ('max(duration) > 1s'), ('{ .a } // done'), ('{ /* open }'), ('# {}');

-- metrics
INSERT INTO q (query) VALUES
    ('{} | rate()'), ('rate()'), ('{} | rate() by(name, .x)'), ('{} | rate() by()'), ('{} | by(name) | count_over_time()'), ('{} | quantile_over_time(duration, 0.9, 1, .5) by(name)'),
    ('{} | quantile_over_time(duration, -0.1)'), ('{} | quantile_over_time(duration, 2)'), ('{} | histogram_over_time(duration) by(.a,.b,.c,.d)'), ('{} | histogram_over_time(duration) by(.a,.b,.c,.d,.e)'),
    ('{} | sum_over_time(.x) > 5 | bottomk(3)'), ('{} | topk(1)'), ('{} | rate() | bottomk(0)'), ('{} | rate() | {}'), ('{} | rate() > 1s'), ('{} | rate() > `x`'),
    ('{} | compare({ .a })'), ('{} | compare({ .a }, 5, 10, 20)'), ('{} | compare({ .a }, 5, 20, 10)'), ('{} | compare({ .a }, 5, 0, 10)'), ('{} | compare({ .a }, 5, 10)'), ('{} | compare({ .a }) > 1'),
    ('({}|rate()) + ({}|count_over_time()) - 2'), ('2 * ({}|rate() > 1) / (3 + 4)'), ('({}|rate()) / ({.a}|rate()) | topk(2)'), ('(({}|rate()) > 1) + ({}|rate())'), ('({}|rate()) ^ 2'), ('-({}|rate())'),
    ('({}|rate()) + 1m'), ('({}|rate()) + (1m + 1)'), ('({}|compare({})) + 1'), ('({}|rate()) + {}'),
    ('{} with(a=1, b=`x`, c=false, d=1s, e=ok)'), ('{} with(a=-1)'), ('{} with(a=.b)'), ('{} with()'), ('{} with(a=1) with(rate=2)'), ('{} | rate() with(exemplars=true)');

SELECT query, pg_temp.parsed(query) FROM q ORDER BY n;

-- every canonical form is a query with the same canonical form
-- (lists and the smallest integer apart, which have no other notation)
SELECT query, p, pg_temp.parsed(p) AS again
FROM q, pg_temp.parsed(query) AS p
WHERE p !~ '^[0-9A-Z]{5} ' AND p !~ ' (IN|ANY|NONE) \[|-9223372036854775808' AND pg_temp.parsed(p) <> p
ORDER BY n;

-- limits
SELECT tempo.traceql_parse('{ .a = "' || repeat('x', 131072) || '" }');
SELECT length(tempo.traceql_parse('{ .a = "' || repeat('x', 131072 - 11) || '" }'));
SELECT pg_temp.parsed('{ ' || repeat('(', 400) || '.a' || repeat(')', 400) || ' }');
SELECT pg_temp.parsed('{ ' || repeat('!', 501) || '.a }');
SELECT pg_temp.parsed('{ ' || repeat('(', 60000) || '.a }');
SELECT pg_temp.parsed(repeat('(', 60000) || '{}');
SELECT length(pg_temp.parsed('{ .a = 0' || repeat(' || .b = 1', 2000) || ' }'));
SELECT tempo.traceql_parse(NULL) IS NULL AS null_is_null;

-- the canonical form can be read again
SELECT query, once, twice FROM (SELECT query, once, pg_temp.parsed(once) AS twice FROM (SELECT query, pg_temp.parsed(query) AS once, n FROM q) AS a
    WHERE once !~ '^(42601|22023|54001) ' AND once !~ '-9223372036854775808' ORDER BY n) AS b WHERE once <> twice;
SELECT u.query, pg_temp.parsed(u.query) AS once, pg_temp.parsed(pg_temp.parsed(u.query)) = pg_temp.parsed(u.query) AS same FROM unnest(ARRAY[
    '{ .a = 1 || .a = 2}', '{ .a != -1 && .a != 2.0 }', '{ .a != -1 && 2 != .a }', '{ .a =~ `a` || .a =~ `b` }', '{ .a !~ `a` && .a !~ `b` }',
    '{ .a IN [1, 2.0, `x`] }', '{ !(.a IN [1, 2]) }', '{ .a NOT IN [true] || .b MATCH NONE [`x`] }', '{ .a IN [] }', '{ .a = ] }', '{ IN = 1 }', '{ (.a + 1) IN [1] }', '{ .a MATCH ANY [1] }',
    '{ (-1) * .a = 1 }', '{ -1 * .a = 1 }', '{ (-1.0) ^ .a = 1 }', '{ .a ^ -1 = 1 }', '{ .a - -1s > 0 }',
    '(-1) * ({} | rate())', '({} | rate()) * -1', '({} | rate()) - -1 - 3', '{} | quantile_over_time(duration, 0.999999, .5)',
    '{ .a = "x`y\"\\z" }', '{} | rate() with (x="`")']) AS u (query);

-- errors show the place, like those of SQL
\set VERBOSITY default
SELECT tempo.traceql_parse(E'{ .ключ = 1 &&\n\tspan.b == 2 }');
SELECT tempo.traceql_parse('{ name = 1 }');
-- what parses and has no meaning, too: at the operator, or at what is wrong
SELECT tempo.traceql_parse(E'{ .ключ = 1 &&\n\tname > 1 && .b }');
SELECT tempo.traceql_parse('{ .a = 1 && parent.b = 2 }');
SELECT tempo.traceql_parse('{ .a = 1 && parent = 2 }');
SELECT tempo.traceql_parse('{ name =~ .b }');
SELECT tempo.traceql_parse('{ .x = 1 && name =~ "(" }');
SELECT tempo.traceql_parse('{ .x = 1 && duration = nil }');
SELECT tempo.traceql_parse('{ .x = 1 && nil != resource.service.name }');
SELECT tempo.traceql_parse('{ resource.service.name = nil }');
SELECT tempo.traceql_parse('{ .x = 1 && !(name) }');
SELECT tempo.traceql_parse('{ .x = 1 && (name + "y" = "z") }');
SELECT tempo.traceql_parse('{ .x + 1 }');
SELECT tempo.traceql_parse('{ name IN ["a", 2] }');
SELECT tempo.traceql_parse('{ } | count() > 1 | avg(name) > 1');
SELECT tempo.traceql_parse('{ } | avg(1 + 1) > 1');
SELECT tempo.traceql_parse('{ } | 1 > count()');
SELECT tempo.traceql_parse('{ } | count() > min(duration)');
SELECT tempo.traceql_parse('{ } | by(1)');
SELECT tempo.traceql_parse('{ } | select(name, parent.a)');
SELECT tempo.traceql_parse('{ } | rate() | topk(0)');
SELECT tempo.traceql_parse('{ } | compare({ .a = 1 }, 0)');
SELECT tempo.traceql_parse('{ } | compare({ .a = 1 }, 1, 0, 5)');
SELECT tempo.traceql_parse('{ } | compare({ .a = 1 }, 1, 9, 5)');
SELECT tempo.traceql_parse('({ } | rate()) + ({ } | compare({ .a = 1 }))');
SELECT tempo.traceql_parse('{ } | compare({ .a = 1 }) | topk(2)');
SELECT tempo.traceql_parse('{ } | rate() by (.a, .b, .c, .d, .e, .f)');
SELECT tempo.traceql_parse('{ } | quantile_over_time(duration, 2)');
\set VERBOSITY terse

-- the usual mistakes get a hint beside Tempo's message
\set VERBOSITY default
SELECT tempo.traceql_parse('{ service.name = "x" }');
SELECT tempo.traceql_parse('{ name = x }');
SELECT tempo.traceql_parse('{ status = "error" }');
SELECT tempo.traceql_parse('{ "server" = kind }');
SELECT tempo.traceql_parse('{ duration > "5s" }');
SELECT tempo.traceql_parse('{ duration > "5s" || 5 = "x" }');
SELECT tempo.traceql_parse('{ 5 = "x" }');
SELECT * FROM traceql_metrics('{}');
