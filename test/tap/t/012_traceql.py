"""TraceQL against the reference evaluator: random filters over random spans, the newest traces of random ranges; with and without pushdown, before and after compaction."""
import json, math, os, random
import cluster, tap
import traceql_reference as reference

SEED = int(os.environ.get("TEMPO_PG_SEED", "1"))
BASE = 1700000000
SECOND = 10**9


def quote(s):
    return "'" + s.replace("'", "''") + "'"


def insert(spans):
    events = lambda s: "[%s]" % ", ".join('{"time_unix_nano": %d, "name": "%s", "attributes": %s}' % (e["time"], e["event:name"], e["json"]) for e in s["events"])
    links = lambda s: "[%s]" % ", ".join('{"trace_id": "%s", "span_id": "%s", "attributes": %s}' % (l["link:traceID"], l["link:spanID"], l["json"]) for l in s["links"])
    rows = ["(%s, '%032x', '%016x', %s, %s, %s, %s, %s, %s, %d, %d, %s, %s, %s, %s, %s, %s)" % ("'t'", s["trace"], s["id"], "NULL" if s["parent"] is None else "'%016x'" % s["parent"], quote(events(s)), quote(s["name"]), quote(s["kind"]), quote(s["status"]), quote(s["statusMessage"]), s["start"], s["duration"],
                                                                      quote(s["span_json"]), quote(s["resource_json"]), quote(links(s)), quote(s["instrumentation:name"]), quote(s["instrumentation:version"]), quote(s["scope_json"])) for s in spans]
    return "INSERT INTO tempo.spans (tenant, trace_id, span_id, parent_span_id, events, name, kind, status, status_message, start_time_unix_nano, duration_nano, attributes, resource_attributes, links, scope_name, scope_version, scope_attributes) VALUES %s;" % ",\n".join(rows)


def filters(rng, n):
    return [reference.random_expression(rng, rng.randint(1, 5)) for _ in range(n)]


def check_filters(node, spans, expressions, setting, how, form="{ %s }"):
    # what has no meaning by the static types is refused, here as NULL
    answers = node.sql(setting + """
        CREATE FUNCTION pg_temp.spans(query text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN
            RETURN (SELECT coalesce(string_agg(trace_id || '.' || span_id, ' ' ORDER BY trace_id, span_id), 'none') FROM traceql_spans(query));
        EXCEPTION WHEN invalid_parameter_value THEN
            RETURN 'invalid';
        END
        $$;
        SELECT pg_temp.spans(q) FROM unnest(ARRAY[%s]) WITH ORDINALITY AS u (q, n) ORDER BY n;""" % ",\n".join(quote(form % reference.text(e)) for e in expressions)).splitlines()
    valid = 0
    wrong = []
    for e, got in zip(expressions, answers):
        if got == "invalid": continue
        valid += 1
        want = " ".join("%032x.%016x" % (s["trace"], s["id"]) for s in spans if reference.matches(e, s)) or "none"
        if got != want: wrong.append("{ %s }\n  got  %.500s\n  want %.500s" % (reference.text(e), got, want))
    tap.ok(len(answers) == len(expressions) and valid > len(expressions) / 4 and not wrong, "%d filters agree, %s" % (valid, how), "\n".join(wrong[:5]))


def check_pipelines(node, rng, traces, n, how):
    """spansets of random queries over whole traces"""
    queries = [reference.random_pipeline(rng) for _ in range(n)]
    texts = [reference.pipeline_text(q) for q in queries]
    answers = node.sql("""
        CREATE FUNCTION pg_temp.spansets(query text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN
            RETURN (SELECT coalesce(string_agg(trace || ':' || members, ' ' ORDER BY trace::int, members COLLATE "C"), 'none')
                    FROM (SELECT ltrim(trace_id::text, '0') AS trace,
                              (SELECT string_agg(ltrim(x ->> 'spanID', '0'), ',') FROM jsonb_array_elements(s -> 'spans') AS x) || coalesce('/' || jsonb_array_length(s -> 'attributes'), '') AS members
                          FROM traceql(query, "limit" => NULL, spss => NULL), jsonb_array_elements(spansets) AS s) AS f);
        EXCEPTION WHEN invalid_parameter_value THEN
            RETURN CASE WHEN SQLERRM LIKE '%%multiple spansets%%' THEN 'several' ELSE 'invalid' END;
        END
        $$;
        SELECT pg_temp.spansets(q) FROM unnest(ARRAY[%s]) WITH ORDINALITY AS u (q, n) ORDER BY n;""" % ",\n".join(map(quote, texts))).splitlines()
    valid = found = 0
    wrong = []
    for query, text, got in zip(queries, texts, answers):
        if got == "invalid": continue
        valid += 1
        want = []
        several = False
        for trace, spans in traces.items():
            for s in spans: reference.forget(s)
            try:
                for members, attributes in reference.run_pipeline(query, [(spans, [])]):
                    want.append((trace, ",".join("%x" % s["id"] for s in sorted(members, key=lambda s: (s["start"], s["id"]))) + ("/%d" % len(attributes) if attributes else "")))
            except reference.SeveralSpansets: several = True
        want = " ".join("%x:%s" % w for w in sorted(want)) or "none"
        found += want != "none"
        # a trace that cannot match is not looked at
        if got != want and not (several and got == "several"): wrong.append("%s\n  got  %.700s\n  want %.700s" % (text, got, want))
    tap.ok(len(answers) == n and valid > n / 4 and found > n / 8 and not wrong, "%d queries over whole traces agree, %s" % (valid, how), "\n".join(wrong[:5]))


def check_metrics(node, rng, spans, n, how):
    """series of random queries, over single spans and over whole traces"""
    step = 7 * SECOND
    questions = []
    while len(questions) < n:
        by = rng.sample(["name", "kind", "status", "resource.service.name", "span.a", ".b", "resource.a", "span.absent"], rng.choice([0, 1, 1, 2, 3]))
        function = rng.choice(reference.FUNCTIONS)
        argument = None if function in ("rate", "count_over_time") else rng.choice(["duration", "span.a", ".b", "name"])
        questions.append((reference.random_condition(rng) if rng.random() < 0.6 else ("literal", "true", True), rng.choice(["", " | count() > 0"]), function, argument, by))
    texts = ["{ %s }%s | %s(%s)%s" % (reference.text(e), middle, f, a or "", " by (%s)" % ", ".join(by) if by else "") for e, middle, f, a, by in questions]
    answers = node.sql("""
        CREATE FUNCTION pg_temp.series(query text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN
            RETURN (SELECT coalesce(jsonb_agg(jsonb_build_array(labels, extract(epoch FROM "time")::bigint, value::text)), '[]')
                    FROM traceql_metrics(query, to_timestamp(%d), to_timestamp(%d), '7 s'));
        EXCEPTION WHEN invalid_parameter_value THEN
            RETURN 'invalid';
        END
        $$;
        SELECT pg_temp.series(q) FROM unnest(ARRAY[%s]) WITH ORDINALITY AS u (q, n) ORDER BY n;""" % (BASE, BASE + 70, ",\n".join(map(quote, texts)))).splitlines()
    start = (BASE // 7 - 1) * step
    valid = 0
    wrong = []
    for (e, middle, function, argument, by), text, got in zip(questions, texts, answers):
        if got == "invalid": continue
        valid += 1
        for s in spans: reference.forget(s)
        want = {} if e == ("literal", "false", False) else reference.series([s for s in spans if reference.matches(e, s)], function, argument, by, start, step, -(-(BASE + 70) // 7) - BASE // 7 + 1)
        found = {}
        for labels, t, value in json.loads(got): found.setdefault(repr(sorted(labels.items())), {})[t // 7 - BASE // 7] = float(value)
        same = found.keys() == want.keys() and all(found[k].keys() == want[k].keys() and all(math.isnan(want[k][b]) or math.isclose(found[k][b], want[k][b], rel_tol=1e-9, abs_tol=1e-9) for b in want[k]) for k in want)
        if not same: wrong.append("%s\n  got  %.900s\n  want %.900s" % (text, sorted(found.items()), sorted(want.items())))
    tap.ok(len(answers) == n and valid > n / 4 and not wrong, "%d metrics queries agree, %s" % (valid, how), "\n".join(wrong[:5]))


def ask_series(node, texts):
    """per query its series as {labels: samples}, labels being a sorted tuple; or an error as text"""
    answers = node.sql("""
        CREATE FUNCTION pg_temp.series(query text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN
            RETURN (SELECT coalesce(jsonb_agg(jsonb_build_array(labels, extract(epoch FROM "time")::bigint, value::text)), '[]')
                    FROM traceql_metrics(query, to_timestamp(%d), to_timestamp(%d), '7 s'));
        EXCEPTION WHEN invalid_parameter_value THEN
            RETURN CASE WHEN SQLERRM LIKE '%%multiple spansets%%' THEN 'several' ELSE 'invalid' END;
        END
        $$;
        SELECT pg_temp.series(q) FROM unnest(ARRAY[%s]) WITH ORDINALITY AS u (q, n) ORDER BY n;""" % (BASE, BASE + 70, ",\n".join(map(quote, texts)))).splitlines()
    result = []
    for got in answers:
        if got in ("several", "invalid"):
            result.append(got)
            continue
        found = {}
        for labels, t, value in json.loads(got):
            key = () if list(labels) == ["__name__"] else tuple(sorted((k, json.dumps(v, sort_keys=True, ensure_ascii=False)) for k, v in labels.items()))
            found.setdefault(key, {})[t // 7 - BASE // 7] = float(value)
        result.append(found)
    return result


def same_series(found, want):
    want = {tuple(sorted(labels)): samples for labels, samples in want.items()}
    return found.keys() == want.keys() and all(found[k].keys() == want[k].keys() and all(math.isclose(found[k][b], want[k][b], rel_tol=1e-9, abs_tol=1e-12) for b in want[k]) for k in want)


def check_series(node, rng, traces, n, how, whole_traces=False):
    """random metrics expressions: every function, second stages, arithmetic, compare()"""
    window = ((BASE // 7 - 1) * 7 * SECOND, 7 * SECOND, -(-(BASE + 70) // 7) - BASE // 7 + 1)
    questions = []
    while len(questions) < n:
        if rng.random() < 0.15:
            questions.append(("compare", reference.random_metrics_pipeline(rng), reference.random_condition(rng)))
        else: questions.append(reference.random_metrics(rng))
        # behind an aggregate the query goes over whole traces
        if whole_traces: questions[-1] = reference.over_whole_traces(questions[-1])
    texts = ["%s | compare({ %s }, 1000)" % (reference.pipeline_text(e[1]), reference.text(e[2])) if e[0] == "compare" else reference.metrics_text(e) for e in questions]
    answers = ask_series(node, texts)
    valid = found = 0
    wrong = []
    for e, text, got in zip(questions, texts, answers):
        if got == "invalid": continue
        try: want = reference.compare_series(e[1], e[2], traces.values(), *window) if e[0] == "compare" else reference.metrics_series(e, traces.values(), *window)
        except reference.SeveralSpansets: want = "several"
        except reference.DependsOnOrder: continue
        valid += 1
        found += len(want) > 0 and want != "several"
        # what cannot be in the answer is not looked at
        if want == "several": continue
        if got == "several" or not same_series(got, want): wrong.append("%s\n  got  %.900s\n  want %.900s" % (text, got, want))
    tap.ok(len(answers) == n and valid > n / 5 and found > n / 12 and not wrong, "%d metrics expressions agree, %s" % (valid, how), "\n".join(wrong[:5]))


def check_newest(node, rng, traces, n, how):
    """traces: number -> spans.  One filter that random spans meet, random limits and ranges."""
    questions = []
    for _ in range(n):
        start = rng.choice([None, BASE + rng.randint(-50, 1000)])
        questions.append((start, rng.choice([None, (start or BASE) + rng.randint(0, 300)]), rng.choice([1, 2, 5, 20, None])))
    time = lambda t: "NULL" if t is None else "to_timestamp(%d)" % t
    answers = node.sql("".join("SELECT coalesce(string_agg(ltrim(trace_id::text, '0'), ' '), 'none') FROM traceql('{ name = `op` }', %s, %s, %s);\n" % (time(s), time(e), "NULL" if l is None else l) for s, e, l in questions)).split("\n")
    wrong = []
    for (start, end, limit), got in zip(questions, answers):
        found = []
        for trace, spans in traces.items():
            first, last = min(s["start"] for s in spans), max(s["start"] + max(0, s["duration"]) for s in spans)
            if any(s["name"] == "op" for s in spans) and (end is None or first <= end * SECOND) and (start is None or last >= start * SECOND): found.append((-first, trace))
        want = " ".join("%x" % trace for _, trace in sorted(found)[:limit]) or "none"
        if got != want: wrong.append("%s to %s limit %s\n  got  %s\n  want %s" % (start, end, limit, got, want))
    tap.ok(len(answers) == n and not wrong, "the newest traces of %d ranges, %s" % (n, how), "\n".join(wrong[:5]))


def test():
    tap.note("seed %d; TEMPO_PG_SEED=... gives other data and queries" % SEED)
    rng = random.Random(SEED)
    node = cluster.Cluster("traceql", **{"tempo_pg.enabled": "off"})
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")

    spans = [reference.random_span(rng, trace, n, (BASE + trace) * SECOND + n) for trace in range(1, 61) for n in range(1, rng.randint(2, 9))]
    node.sql("".join(insert(spans[i::7]) for i in range(7)))
    check_filters(node, spans, filters(rng, 500), "SET tempo_pg.enable_custom_scan = on;", "pushed down")
    check_filters(node, spans, filters(rng, 500), "SET tempo_pg.enable_custom_scan = off;", "row by row")
    # behind an aggregate the filter is evaluated over whole traces
    check_filters(node, spans, filters(rng, 500), "", "in whole traces", "{ %s } | count() > 0")
    node.sql("SELECT tempo.compact()")
    check_filters(node, spans, filters(rng, 500), "SET tempo_pg.enable_custom_scan = on;", "pushed down behind compaction")

    # whole traces: trees with holes and cycles, events
    node.sql("TRUNCATE tempo.spans")
    traces = {trace: [reference.random_span(rng, trace, n, (BASE + trace) * SECOND + rng.randint(0, 20)) for n in range(1, rng.randint(2, 10))] for trace in range(1, 10)}
    for trace, spans in traces.items(): reference.relate(rng, spans)
    node.sql(insert([s for spans in traces.values() for s in spans]))
    traces = {trace: reference.complete(spans) for trace, spans in traces.items()}
    check_pipelines(node, rng, traces, 400, "fresh")
    node.sql("SELECT tempo.compact()")
    check_pipelines(node, rng, traces, 200, "behind compaction")
    check_metrics(node, rng, [s for spans in traces.values() for s in spans], 300, "behind compaction")
    check_series(node, rng, traces, 400, "behind compaction")

    # the same spans in any order, halves of traces in other segments, some of them twice
    node.sql("TRUNCATE tempo.spans")
    spans = [s for spans in traces.values() for s in spans]
    rng.shuffle(spans)
    for part in range(3): node.sql(insert(spans[part::3] + rng.sample(spans, 8)))
    check_pipelines(node, rng, traces, 150, "in pieces")
    check_series(node, rng, traces, 150, "in pieces", True)
    node.sql("SELECT tempo.compact()")
    check_pipelines(node, rng, traces, 150, "in pieces, behind compaction")
    check_series(node, rng, traces, 150, "in pieces, behind compaction", True)

    # traces that overlap each other for minutes, so that the newest match is not in the newest trace
    node.sql("TRUNCATE tempo.spans")
    traces = {}
    for trace in range(1, 201):
        start = rng.randint(0, 1000) * SECOND + trace
        traces[trace] = [reference.random_span(rng, trace, n, BASE * SECOND + start + rng.choice([0, 1, 10, 60, 300]) * SECOND + rng.randint(0, SECOND)) for n in range(1, rng.randint(2, 6))]
    node.sql(insert([s for spans in traces.values() for s in spans]))
    check_newest(node, rng, traces, 150, "fresh")
    node.sql("SELECT tempo.compact()")
    check_newest(node, rng, traces, 50, "behind compaction")


tap.main(test)
