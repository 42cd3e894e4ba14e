"""TraceQL evaluated span by span and trace by trace: slow, and as close to the words of the rules as can be.

Expressions are tuples; text() writes them as TraceQL, matches() evaluates them.
Values: int, float, str, bool; list for an array; OPAQUE for a value that no operator can see (bytes, maps, mixed or
empty arrays); None for nil; Duration (an int) and Word (status, kind) for intrinsics.
"""
import json, math, random, re

OPAQUE = object()
KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"]
STATUSES = ["unset", "ok", "error"]


class Duration(int):
    pass


class Word(str):
    """a status or a kind"""


class DivisionByZero(Exception):
    """the span does not match, whatever the rest of the filter says"""


def number(x):
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def wrap(n):
    return (n + 2**63) % 2**64 - 2**63


# ------------------------------------------------------------ evaluation
LISTS = {"event": "events", "link": "links"}
IDS = {"trace:id": 32, "link:traceID": 32, "span:id": 16, "span:parentID": 16, "link:spanID": 16}  # and their digits


def read_id(text, digits):
    """upper case and leading zeros do not count; what is no id differs from all of them"""
    if not re.fullmatch("[0-9a-fA-F]+", text): return "none"
    return text.lower().lstrip("0").zfill(digits)


def look_up(name, span):
    if name == "duration": return Duration(max(0, span["duration"]))
    if name in ("name", "status", "kind", "statusMessage") or name in TRACE_INTRINSICS: return span[name]
    scope, _, key = name.partition(".")
    if key == "service.name" and scope != "span":
        missing = span["resource"].get(key, "")
        return missing if scope == "resource" else span["span"].get(key, missing)
    if name in IDS and not name.startswith("link"): return "%0*x" % (IDS[name], span[{"span:id": "id", "span:parentID": "parent", "trace:id": "trace"}[name]] or 0)
    if name.startswith("instrumentation:"): return span[name]
    for kind in LISTS:
        if not name.startswith(kind): continue
        item = span.get(kind) or (span[LISTS[kind]][0] if span[LISTS[kind]] else None)  # what met a filter, else the first
        if item is None: return None
        if name == "event:timeSinceStart": return Duration(item["time"] - span["start"])
        return item[name] if ":" in name else item["values"].get(key)
    if scope: return span[scope].get(key)
    return span["span"].get(key, span["resource"].get(key))


def compare_scalars(a, op, b):
    if number(a) and number(b):
        if isinstance(a, float) or isinstance(b, float): a, b = float(a), float(b)
    elif isinstance(a, Word) or isinstance(b, Word):
        if not (isinstance(a, Word) and isinstance(b, Word)) or (a in STATUSES) != (b in STATUSES) or op not in ("=", "!="): return False
    elif isinstance(a, bool) and isinstance(b, bool):
        if op not in ("=", "!="): return False
    elif isinstance(a, str) and isinstance(b, str):
        a, b = a.encode(), b.encode()
    else:
        return False
    return {"=": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op]


def compare(a, op, b):
    if a is None or b is None or a is OPAQUE or b is OPAQUE: return False
    pairs = [compare_scalars(x, op, y) for x in (a if isinstance(a, list) else [a]) for y in (b if isinstance(b, list) else [b])]
    return all(pairs) if op == "!=" else any(pairs)


def calculate(a, op, b):
    if not (number(a) and number(b)): return False
    if not any(isinstance(x, (float, Duration)) for x in (a, b)):
        if op == "+": return wrap(a + b)
        if op == "-": return wrap(a - b)
        if op == "*": return wrap(a * b)
        if op == "^":
            if b >= 0: return wrap(pow(a, b, 2**64))
            return {1: 1, -1: 1 if b % 2 == 0 else -1, 0: 2**63 - 1}.get(a, 0)
        if b == 0: raise DivisionByZero
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        return wrap(quotient) if op == "/" else wrap(a - quotient * b)
    a, b = float(a), float(b)
    try:
        if op == "+": return a + b
        if op == "-": return a - b
        if op == "*": return a * b
        if op == "/":
            if b == 0: return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
            return a / b
        if op == "%": return math.nan if b == 0 or math.isinf(a) else math.fmod(a, b)
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if op == "^" and a < 0 and b % 2 == 1 else math.inf
    except ValueError:
        return math.inf if op == "^" and a == 0 else math.nan


def mentions(e, kind):
    return any(mentions(x, kind) if isinstance(x, tuple) else isinstance(x, str) and x.startswith((kind + ":", kind + ".")) for x in e[1:])


def mentions_lists(e):
    return any(mentions(e, kind) for kind in LISTS)


def conjuncts(e):
    return conjuncts(e[1]) + conjuncts(e[3]) if e[0] == "binary" and e[2] == "&&" else [e]


def is_list_condition(e):
    return mentions_lists(e) and e[0] != "not" and not (e[0] == "binary" and e[2] in ("&&", "||"))


def evaluate_conjunction(e, span):
    """in a filter: conditions on events hold for one and the same, and so do those on links"""
    others = [evaluate(c, span, True) is True for c in conjuncts(e) if not is_list_condition(c)]
    if not all(others): return False
    for kind in LISTS:
        conditions = [c for c in conjuncts(e) if is_list_condition(c) and mentions(c, kind)]
        met = [item for item in span[LISTS[kind]] if all(evaluate(c, dict(span, **{kind: item})) is True for c in conditions)]
        if conditions and not met: return False
        if conditions: span["met"].append((kind, met[0]))
    return True


def evaluate(e, span, in_filter=False):
    kind = e[0]
    if in_filter and mentions_lists(e):
        if is_list_condition(e) or e[0] == "binary" and e[2] == "&&": return evaluate_conjunction(e, span)
        if e[0] == "not": return not evaluate(e[1], span, True)
        return any([evaluate(x, span, True) is True for x in (e[1], e[3])])
    if kind == "literal": return e[2]
    if kind == "attribute": return look_up(e[1], span)
    if kind == "nil":
        if any(e[1].startswith(kind) and not span[LISTS[kind]] for kind in LISTS): return False
        return (look_up(e[1], span) is None) == (e[2] == "=")
    if kind == "regex":
        value = look_up(e[1], span)
        values = value if isinstance(value, list) else [value]
        if not isinstance(values[0], str) or isinstance(values[0], Word): return False
        return any(re.fullmatch(e[3], v, re.S) for v in values) == (e[2] == "=~")
    if kind == "not":
        value = evaluate(e[1], span)
        return not value if isinstance(value, bool) else False
    if kind == "minus":
        value = evaluate(e[1], span)
        if not number(value): return False
        return -value if isinstance(value, float) else type(value)(wrap(-value))
    _, left, op, right = e
    a, b = evaluate(left, span), evaluate(right, span)
    if op == "&&": return a is True and b is True
    if op == "||": return a is True or b is True
    if left[0] == "attribute" and left[1] in IDS and right[0] == "literal": b = read_id(b, IDS[left[1]])
    return compare(a, op, b) if op in ("=", "!=", "<", "<=", ">", ">=") else calculate(a, op, b)


def matches(e, span):
    span["met"] = []
    try: found = evaluate(e, span, True) is True
    except DivisionByZero: return False
    for kind in LISTS:
        met = [item for k, item in span["met"] if k == kind]
        if found and met: span[kind] = min(met, key=span[LISTS[kind]].index)
    return found


def text(e):
    kind = e[0]
    if kind in ("literal", "attribute"): return e[1]
    if kind == "nil": return "(%s %s nil)" % (e[1], e[2])
    if kind == "regex": return "(%s %s `%s`)" % (e[1], e[2], e[3])
    if kind in ("not", "minus"): return "(%s(%s))" % ("!" if kind == "not" else "-", text(e[1]))
    return "(%s %s %s)" % (text(e[1]), e[2], text(e[3]))


# ------------------------------------------------------------- generation
KEYS = ["a", "b", "c", "d", "e"]
ATTRIBUTES = [scope + key for key in KEYS for scope in (".", "span.", "resource.")] + [".service.name", "resource.service.name", "span.absent"]
INTRINSICS = ["name", "status", "statusMessage", "kind", "duration"]
LITERALS = [("1", 1), ("0", 0), ("5", 5), ("7", 7), ("2.5", 2.5), ("0.0", 0.0), ("1e+300", 1e300), ("9223372036854775807", 2**63 - 1), ("`x`", "x"), ("`5`", "5"), ("``", ""), ("`op`", "op"), ("`svc`", "svc"),
            ("true", True), ("false", False), ("10ms", Duration(10**7)), ("0s", Duration(0))] + [(w, Word(w)) for w in ("error", "unset", "server", "unspecified")]
COMPARISONS = ["=", "!=", "<", "<=", ">", ">="]


def random_expression(rng, depth):
    r = rng.random()
    attribute = ("attribute", rng.choice(ATTRIBUTES if rng.random() < 0.8 else INTRINSICS))
    literal = ("literal",) + rng.choice(LITERALS)
    if depth <= 0 or r < 0.1: return attribute if rng.random() < 0.7 else literal
    deeper = lambda: random_expression(rng, depth - 1)
    if r < 0.2: return ("not", deeper())
    if r < 0.25: return ("minus", deeper())
    if r < 0.32: return ("regex", rng.choice(ATTRIBUTES), rng.choice(["=~", "!~"]), rng.choice(["x.*", ".*", "(?i)K.*", "[xy5]+", ""]))
    if r < 0.4: return ("nil", rng.choice([a for a in ATTRIBUTES if "service" not in a]), rng.choice(["=", "!="]))
    if r < 0.55: return ("binary", deeper(), rng.choice(["&&", "||"]), deeper())
    if r < 0.7: return ("binary", attribute, rng.choice(COMPARISONS), literal)
    if r < 0.75: return ("binary", literal, rng.choice(COMPARISONS), attribute)
    return ("binary", deeper(), rng.choice(COMPARISONS + ["=", "=", "+", "-", "*", "/", "%", "^"]), deeper())


def random_value(rng):
    """a value and the jsonb it is stored as"""
    scalar = rng.choice([lambda: rng.choice([0, 1, 5, 7, -7, 2**63 - 1, -2**63]), lambda: rng.choice([0.0, 2.5, 5.0, -1.5, 1e20]), lambda: rng.choice(["x", "5", "", "k", "K\nz", "op", "svc", "nil", "true", "\u00e9"]), lambda: rng.random() < 0.5])
    r = rng.random()
    if r < 0.1: return OPAQUE, rng.choice(["[]", '{"a": 1}', '[1, "x"]', "[[1]]", '{"$otlp": {"bytesValue": "AAE="}}', '{"$otlp": {}}'])
    if r < 0.15: return math.nan, '{"$otlp": {"doubleValue": "NaN"}}'
    json_of = lambda v: "%.1f" % v if isinstance(v, float) else json.dumps(v)
    if r < 0.75:
        value = scalar()
        return value, json_of(value)
    first = scalar()
    values = [first] + [v for v in (scalar() for _ in range(4)) if type(v) is type(first)]
    return (values if len(values) > 1 else first), "[%s]" % ", ".join(map(json_of, values))


def random_attributes(rng, keys, share):
    values = {k: random_value(rng) for k in keys if rng.random() < share}
    return {k: v for k, (v, _) in values.items()}, "{%s}" % ", ".join("%s: %s" % (json.dumps(k), j) for k, (_, j) in values.items())


def random_span(rng, trace, n, start):
    span, span_json = random_attributes(rng, KEYS, 0.4)
    resource, resource_json = random_attributes(rng, KEYS[:2], 0.4)
    scope, scope_json = random_attributes(rng, KEYS[:2], 0.3)
    if rng.random() < 0.8:
        service = rng.choice(["svc", "x", ""])
        resource["service.name"] = service
        resource_json = '{"service.name": %s%s%s' % (json.dumps(service), ", " if len(resource_json) > 2 else "", resource_json[1:])
    return {"trace": trace, "id": n, "span": span, "span_json": span_json, "resource": resource, "resource_json": resource_json, "name": rng.choice(["op", "x", "svc", ""]), "statusMessage": rng.choice(["", "x"]),
            "kind": Word(rng.choice(KINDS)), "status": Word(rng.choice(STATUSES)), "start": start, "duration": rng.choice([0, 1, 5, 7, 10**7, 10**9, -3]), "parent": None, "events": [], "links": [],
            "instrumentation:name": rng.choice(["", "x", "op"]), "instrumentation:version": rng.choice(["", "5"]), "instrumentation": scope, "scope_json": scope_json}


# ----------------------------------------------------- whole traces
def forget(span):
    """which event and which link met a filter before"""
    for kind in LISTS: span.pop(kind, None)


def complete(spans):
    """Numbers and relates the spans of one trace; returns them by start."""
    spans = sorted(spans, key=lambda s: (s["start"], s["id"], KINDS.index(s["kind"])))
    owners = {}
    for s in spans: owners.setdefault(s["id"], []).append(s)
    ambiguous = any(len(o) > 2 for o in owners.values())
    roots = [s for s in spans if s["parent"] is None]
    for s in spans:
        parents = owners.get(s["parent"], [])
        # client and server of one call may share an id
        if len(parents) > 1: parents = [p for p in parents if p["kind"] == ("client" if s["kind"] == "server" else "server")]
        s["up"] = parents[0] if parents else None
        if s["up"] is s: s["up"] = None
        named = [r for r in roots if not any(l["link:traceID"] == "%032x" % r["trace"] and l["values"].get("opentracing.ref_type") == "child_of" for l in r["links"])]
        s["rootName"], s["rootServiceName"] = (named[0]["name"], named[0]["resource"].get("service.name", "")) if named else ("", "")
        s["traceDuration"] = Duration(max(x["start"] + max(0, x["duration"]) for x in spans) - spans[0]["start"])
        s["nestedSetLeft"] = s["nestedSetRight"] = s["nestedSetParent"] = 0
    for s in spans: s["span:childCount"] = 0 if ambiguous else sum(x["up"] is s for x in spans)
    counter = 0

    def number(span, parent):
        nonlocal counter
        counter += 1
        span["nestedSetLeft"], span["nestedSetParent"] = counter, parent
        for child in spans:
            if child["up"] is span: number(child, span["nestedSetLeft"])
        counter += 1
        span["nestedSetRight"] = counter

    if not ambiguous:
        for root in roots: number(root, -1)
    return spans


def ancestors(span):
    found = []
    while span["up"] is not None and span["up"] not in found:
        span = span["up"]
        found.append(span)
    return found


RELATIONS = {  # does the right span stand in the relation to the left one?
    ">": lambda l, r: l is not r and r["up"] is l, ">>": lambda l, r: l is not r and any(a is l for a in ancestors(r)),
    "<": lambda l, r: l is not r and l["up"] is r, "<<": lambda l, r: l is not r and any(a is r for a in ancestors(l)),
    "~": lambda l, r: l is not r and r["parent"] is not None and l["parent"] == r["parent"]}


def inside(spans, span):
    return any(s is span for s in spans)


def operate(left, op, right):
    if op == "&&" and not (left and right): return []
    if op in ("&&", "||"): return left + [r for r in right if not inside(left, r)]
    related = RELATIONS[op.lstrip("!&")]
    if op[0] == "!": return [r for r in right if not any(related(l, r) for l in left)]
    found = [r for r in right if any(related(l, r) for l in left)]
    return found if op[0] != "&" else found + [l for l in left if any(related(l, r) for r in right) and not inside(found, l)]


class SeveralSpansets(Exception):
    pass


def run_spanset(s, spans, attributes):
    if s[0] == "filter": found = [x for x in spans if matches(s[1], x)]
    elif s[0] == "operation":
        sides = [run_spanset(side, spans, attributes) for side in (s[1], s[3])]
        if any(len(side) > 1 for side in sides): raise SeveralSpansets
        left, right = (side[0][0] if side else [] for side in sides)
        found = operate(left, s[2], right)
    else: return run_pipeline(s[1], [(spans, attributes)])
    return [(found, attributes)] if found else []


def aggregate(name, e, spans):
    """None if no span has a number"""
    if name == "count": return len(spans)
    values = []
    for s in spans:
        try: v = evaluate(e, s)
        except DivisionByZero: continue
        if number(v) and not (isinstance(v, float) and math.isnan(v)): values.append(v)
    if not values: return None
    if name in ("min", "max"):
        best = values[0]
        for v in values[1:]:
            if compare(v, "<" if name == "min" else ">", best): best = v
        return best
    durations = all(isinstance(v, Duration) for v in values)
    if name == "avg": return Duration(sum(values) // len(values)) if durations else sum(map(float, values)) / len(values) if any(isinstance(v, float) for v in values) else sum(values) / len(values)
    if durations: return Duration(sum(values))
    return wrap(sum(values)) if all(not isinstance(v, (float, Duration)) for v in values) else sum(map(float, values))


def group_key(e, span):
    try: value = evaluate(e, span)
    except DivisionByZero: value = False
    return "nil" if value is None or value is OPAQUE else value


def run_pipeline(pipeline, groups):
    """groups: of (spans, attributes)"""
    for stage in pipeline:
        result = []
        if stage[0] == "coalesce": result = [([s for s in sorted((x for g, _ in groups for x in g), key=lambda s: (s["start"], s["id"]))], [])] if groups else []
        for spans, attributes in groups if stage[0] != "coalesce" else []:
            if stage[0] == "spanset": result += run_spanset(stage[1], spans, attributes)
            elif stage[0] == "select": result.append((spans, attributes))
            elif stage[0] == "by":
                split = {}
                for s in spans:
                    key = group_key(stage[1], s)
                    split.setdefault((type(key).__name__, repr(key)), []).append(s)
                result += [(members, attributes + [repr(key)]) for key, members in split.items()]
            else:
                value = aggregate(stage[1], stage[2], spans)
                if value is not None and compare(value, stage[3], stage[4][2]): result.append((spans, attributes + [stage[1]]))
        groups = result
    return groups


def spanset_text(s):
    if s[0] == "filter": return "{ %s }" % text(s[1])
    if s[0] == "pipeline": return "(%s)" % pipeline_text(s[1])
    return "(%s %s %s)" % (spanset_text(s[1]), s[2], spanset_text(s[3]))


def pipeline_text(pipeline):
    return " | ".join(spanset_text(s[1]) if s[0] == "spanset" else "coalesce()" if s[0] == "coalesce" else "by(%s)" % text(s[1]) if s[0] == "by" else "select(%s)" % s[1] if s[0] == "select" else
                      "%s(%s) %s %s" % (s[1], text(s[2]) if s[2] else "", s[3], s[4][1]) for s in pipeline)


TRACE_INTRINSICS = ["rootName", "rootServiceName", "traceDuration", "nestedSetLeft", "nestedSetRight", "nestedSetParent", "span:childCount"]


def random_condition(rng):
    """what a filter of a bigger query asks"""
    r = rng.random()
    if r < 0.25: return ("literal", "true", True)
    if r < 0.5: return ("binary", ("attribute", rng.choice(INTRINSICS)), rng.choice(COMPARISONS), ("literal",) + rng.choice(LITERALS))
    if r < 0.7: return ("binary", ("attribute", rng.choice(TRACE_INTRINSICS)), rng.choice(COMPARISONS), ("literal",) + rng.choice(LITERALS))
    if r < 0.85: return random_event_condition(rng, 2)
    if r < 0.88: return random_id_condition(rng, rng.choice(["trace:id", "span:id", "span:parentID"]))
    if r < 0.91: return ("binary", ("attribute", rng.choice(["instrumentation:name", "instrumentation:version", "instrumentation.a"])), rng.choice(COMPARISONS), ("literal",) + rng.choice(LITERALS))
    return random_expression(rng, 2)


def random_id_condition(rng, name):
    if rng.random() < 0.3: return ("regex", name, rng.choice(["=~", "!~"]), rng.choice([".*1", "0+[12]", ".*", "1"]))
    n = rng.randint(0, 3)
    return ("binary", ("attribute", name), rng.choice(["=", "!="]), ("literal",) + rng.choice([("`%x`" % n, "%x" % n), ("`%016x`" % n, "%016x" % n), ("`%040X`" % n, "%040X" % n), ("`xyz`", "xyz"), ("``", "")]))


def random_event_condition(rng, depth):
    """of events and links"""
    r = rng.random()
    if depth > 0 and r < 0.6: return ("binary", random_event_condition(rng, depth - 1), rng.choice(["&&", "&&", "||"]), random_event_condition(rng, depth - 1))
    if depth > 0 and r < 0.7: return ("not", random_event_condition(rng, depth - 1))
    if rng.random() < 0.15: return random_id_condition(rng, rng.choice(["link:spanID", "link:traceID"]))
    if rng.random() < 0.15: return ("binary", ("attribute", rng.choice(["link.a", "link.b"])), rng.choice(COMPARISONS), ("literal",) + rng.choice(LITERALS[:12]))
    if rng.random() < 0.1: return ("binary", ("attribute", "event:timeSinceStart"), rng.choice(COMPARISONS), ("literal",) + rng.choice([("1", 1), ("0s", Duration(0)), ("2ns", Duration(2)), ("0.5", 0.5)]))
    if r < 0.75: return ("regex", "event:name", rng.choice(["=~", "!~"]), rng.choice(["x.*", ".*", ""]))
    if r < 0.8: return ("nil", rng.choice(["event.a", "link.a"]), rng.choice(["=", "!="]))
    if r < 0.85: return ("binary", ("attribute", "span.a"), rng.choice(COMPARISONS), ("literal",) + rng.choice(LITERALS))
    return ("binary", ("attribute", rng.choice(["event:name", "event.a", "event.b"])), rng.choice(COMPARISONS), ("literal",) + rng.choice(LITERALS[:12]))


def random_spanset(rng, depth, wrapped=False):
    if wrapped and depth <= 0: return ("pipeline", [("spanset", random_spanset(rng, 0)), random_stage(rng)])
    if depth <= 0 or rng.random() < 0.3: return ("filter", random_condition(rng)) if not wrapped else random_spanset(rng, 0, True)
    return ("operation", random_spanset(rng, depth - 1, wrapped), rng.choice(["&&", "||", ">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~", "&>", "&>>", "&<", "&<<", "&~"]), random_spanset(rng, depth - 1, wrapped))


def random_stage(rng):
    r = rng.random()
    if r < 0.3: return ("by", rng.choice([("attribute", a) for a in ("name", "kind", "status", "span.a", ".b", "resource.service.name", "rootName", "event:name", "event:timeSinceStart", "link:spanID", "link.a", "instrumentation:name", "instrumentation.a", "span:parentID", "trace:id")] + [("binary", ("attribute", "span.a"), o, ("literal", "5", 5)) for o in ("+", "=", "/")]))
    if r < 0.4: return ("coalesce",)
    if r < 0.5: return ("select", "span.a, name")
    if r < 0.65: return ("spanset", ("filter", random_condition(rng)))
    name = rng.choice(["count", "count", "sum", "avg", "min", "max"])
    argument = None if name == "count" else rng.choice([("attribute", "span.a"), ("attribute", ".b"), ("attribute", "duration"), ("binary", ("attribute", "span.a"), "*", ("literal", "2", 2))])
    return ("aggregate", name, argument, rng.choice(COMPARISONS), rng.choice([("literal", "1", 1), ("literal", "2", 2), ("literal", "2.5", 2.5), ("literal", "10ms", Duration(10**7)), ("literal", "5", 5)]))


def random_pipeline(rng):
    if rng.random() < 0.15: return [("spanset", ("operation", random_spanset(rng, 0, True), rng.choice([">>", "&&", "||", "!<"]), random_spanset(rng, 0, True)))]
    return [("spanset", random_spanset(rng, rng.randint(0, 3)))] + [random_stage(rng) for _ in range(rng.choice([0, 0, 1, 2, 3]))]


def relate(rng, spans):
    """gives the spans of one trace random parents, events and links; some share an id"""
    shared = rng.choice([0, 0, 0, 0, 0, 2, 2, 3])
    for s, kind in zip(rng.sample(spans, min(shared, len(spans))), rng.sample(["client", "server", "internal"], 2) + ["producer"]):
        s.update(id=1, kind=Word(kind), start=s["start"] + s["id"])
    ids = [s["id"] for s in spans]
    for s in spans:
        r = rng.random()
        s["parent"] = None if r < 0.15 else rng.choice(ids) if r < 0.25 else rng.choice([i for i in ids if i < s["id"]] or [None]) if r < 0.9 else 1000 + rng.randint(0, 2)
        s["events"], s["links"] = [], []
        for n in range(rng.choice([0, 0, 0, 1, 2, 3])):
            values, values_json = random_attributes(rng, ["a", "b"], 0.6)
            s["events"].append({"event:name": rng.choice(["x", "op", "", "xy"]), "time": s["start"] + n, "values": values, "json": values_json})
        for n in range(rng.choice([0, 0, 0, 1, 2])):
            values, values_json = random_attributes(rng, ["a", "b"], 0.6)
            s["links"].append({"link:traceID": "%032x" % rng.randint(1, 3), "link:spanID": "%016x" % rng.randint(1, 3), "values": values, "json": values_json})
        if rng.random() < 0.15:
            s["links"].append({"link:traceID": "%032x" % rng.choice([s["trace"], s["trace"], 5]), "link:spanID": "%016x" % 1, "values": {"opentracing.ref_type": "child_of"}, "json": '{"opentracing.ref_type": "child_of"}'})


# ---------------------------------------------------------------- metrics
FUNCTIONS = ["rate", "count_over_time", "sum_over_time", "avg_over_time", "min_over_time", "max_over_time"]


def label(value):
    """a value as JSON has it"""
    if value is None or value is OPAQUE or isinstance(value, list): return "nil"
    if isinstance(value, float) and math.isnan(value): return {"$otlp": {"doubleValue": "NaN"}}
    return str(value) if isinstance(value, Word) else value


def series(spans, function, argument, by, start, step, n):
    """repr of the labels -> {number of the step: value}; spans are those that matched"""
    groups = {}
    for s in spans:
        bucket = (s["start"] - start - 1) // step
        if 0 <= bucket < n: groups.setdefault(repr(sorted((k, label(look_up(k, s))) for k in by)), {}).setdefault(bucket, []).append(s)
    if not by:
        groups = {repr([("__name__", function)]): groups.get("[]", {})}
    result = {}
    for labels, buckets in groups.items():
        if function in ("rate", "count_over_time"):
            result[labels] = {b: len(buckets.get(b, [])) / (step / 1e9 if function == "rate" else 1) for b in range(n)}
            continue
        samples = {}
        for b, members in buckets.items():
            values = [v for v in (look_up(argument, s) for s in members) if number(v) and not (isinstance(v, float) and math.isnan(v))]
            # what huge numbers leave of small ones depends on the order
            if values and function[:3] in ("sum", "avg") and max(map(abs, values)) > 1e12: samples[b] = math.nan
            elif values: samples[b] = {"sum": math.fsum, "avg": lambda v: math.fsum(v) / len(v), "min": min, "max": max}[function[:3]](list(map(float, values))) / (1e9 if argument == "duration" else 1)
        if samples: result[labels] = samples
    return result


# A metrics query is ("query", pipeline, function, argument, quantiles, by, seconds), an expression that or
# ("number", text, value) or ("operation", left, op, right).  A set of series is {labels: {number of the step: value}},
# labels being a tuple of (key, JSON of the value) in the order of the query, () for a series that has only its name.
class DependsOnOrder(Exception):
    """what huge numbers leave of small ones depends on the order in which they are added"""


def power_of_two(value):
    """the smallest power of two not below a number"""
    edge = 2
    while edge < value: edge *= 2
    return float(edge)


def quantile(counts, q):
    """counts: edge -> number of values"""
    total = sum(counts.values())
    rank = max(math.ceil(q * total), 1)
    running, before = 0, None
    for edge in sorted(counts):
        if running + counts[edge] > rank:
            high = math.log2(edge)
            low = high - 1 if before is None else math.log2(before)
            return 2 ** (low + (high - low) * (rank - running) / counts[edge])
        running += counts[edge]
        if running == rank: return edge
        before = edge
    return edge


def value_series(function, argument, quantiles, members, step, n):
    """the series of one group, members: number of the step -> spans; a list of (more labels, samples)"""
    unit = 1e9 if argument in ("duration", "traceDuration", "event:timeSinceStart") else 1
    numbers = {b: [v for v in (look_up(argument, s) for s in spans) if number(v) and not (isinstance(v, float) and math.isnan(v))] for b, spans in members.items()} if argument else {}
    if function in ("rate", "count_over_time"):
        return [((), {b: len(members.get(b, [])) / (step / 1e9 if function == "rate" else 1) for b in range(n)})]
    if function in ("quantile_over_time", "histogram_over_time"):
        counts = {b: {} for b in range(n)}
        for b, values in numbers.items():
            for v in values:
                if 2 <= v < math.inf: counts[b][power_of_two(v)] = counts[b].get(power_of_two(v), 0) + 1
        edges = sorted({e for c in counts.values() for e in c})
        if function == "histogram_over_time":
            return [((("__bucket", json.dumps(e / unit)),), {b: counts[b].get(e, 0) for b in range(n)}) for e in edges]
        return [((("p", json.dumps(float(q))),), {b: quantile(counts[b], q) / unit if counts[b] else 0 for b in range(n)}) for q in quantiles] if edges else []
    samples = {}
    for b, values in numbers.items():
        if values and function[:3] in ("sum", "avg") and max(map(abs, values)) > 1e12: raise DependsOnOrder
        if values: samples[b] = {"sum": math.fsum, "avg": lambda v: math.fsum(v) / len(v), "min": min, "max": max}[function[:3]](list(map(float, values))) / unit
    return [((), samples)] if samples else []


def query_series(query, traces, start, step, n):
    _, pipeline, function, argument, quantiles, by, seconds = query
    groups = {}
    for spans in traces:
        for s in spans: forget(s)
        found = {}
        for members, _ in run_pipeline(pipeline, [(spans, [])]):
            for s in members: found[id(s)] = s
        for s in found.values():
            bucket = (s["start"] - start - 1) // step
            if 0 <= bucket < n: groups.setdefault(tuple((k, json.dumps(label(look_up(k, s)), sort_keys=True, ensure_ascii=False)) for k in by), {}).setdefault(bucket, []).append(s)
    if not by and function in ("rate", "count_over_time"): groups.setdefault((), {})
    if pipeline[0] == ("spanset", ("filter", ("literal", "false", False))): groups = {}
    result = {}
    for labels, members in groups.items():
        for more, samples in value_series(function, argument, quantiles, members, step, n): result[labels + more] = samples
    return second_stages(result, seconds)


def second_stages(series, seconds):
    order = lambda labels: [((0, v.encode()) if v[0] == '"' else (1, float(v), v) if re.fullmatch(r"-?[0-9.e+-]+", v) else (2, v)) for _, v in labels]
    for stage in seconds:
        if stage[0] in ("topk", "bottomk"):
            ranked = sorted(series, key=order)
            kept = {labels: {} for labels in series}
            for b in {b for samples in series.values() for b in samples}:
                there = [labels for labels in ranked if b in series[labels]]
                there.sort(key=lambda labels: -series[labels][b])  # stable: ties by labels
                for labels in there[:stage[1]] if stage[0] == "topk" else there[max(0, len(there) - stage[1]):]: kept[labels][b] = series[labels][b]
            series = kept
        else:
            holds = {"=": lambda v: v == stage[2], "!=": lambda v: v != stage[2], "<": lambda v: v < stage[2], "<=": lambda v: v <= stage[2], ">": lambda v: v > stage[2], ">=": lambda v: v >= stage[2]}[stage[0]]
            series = {labels: {b: v for b, v in samples.items() if holds(v)} for labels, samples in series.items()}
        series = {labels: samples for labels, samples in series.items() if samples}
    return series


def arithmetic(a, op, b):
    if op == "/": return math.nan if b == 0 else a / b
    return a + b if op == "+" else a - b if op == "-" else a * b


def metrics_series(e, traces, start, step, n):
    if e[0] == "query": return query_series(e, traces, start, step, n)
    if e[0] == "second": return second_stages(metrics_series(e[1], traces, start, step, n), e[2])
    left, right = (None if side[0] == "number" else metrics_series(side, traces, start, step, n) for side in (e[1], e[3]))
    pairs = []  # labels, left samples, right samples; None for a number
    if right is None: pairs = [(labels, samples, None) for labels, samples in left.items()]
    elif left is None: pairs = [(labels, None, samples) for labels, samples in right.items()]
    else:
        single = [list(s) == [()] for s in (left, right)]
        if single == [True, False]: pairs = [(labels, left[()], samples) for labels, samples in right.items()]
        elif single == [False, True]: pairs = [(labels, samples, right[()]) for labels, samples in left.items()]
        else: pairs = [(labels, left[labels], right[labels]) for labels in left if labels in right]
    result = {}
    for labels, a, b in pairs:
        at = set(a if b is None else b if a is None else a) & set(a if b is None else b)
        samples = {i: arithmetic(e[1][2] if a is None else a[i], e[2], e[3][2] if b is None else b[i]) for i in at}
        samples = {i: v for i, v in samples.items() if not math.isnan(v)}
        if samples: result[labels] = samples
    return result


def seconds_text(seconds):
    return "".join(" | %s(%d)" % s if s[0] in ("topk", "bottomk") else " %s %s" % (s[0], s[1]) for s in seconds)


def metrics_text(e, inner=False):
    if e[0] == "number": return e[1]
    if e[0] == "second": return "(%s)%s" % (metrics_text(e[1]), seconds_text(e[2]))
    if e[0] == "operation": text = "%s %s %s" % (metrics_text(e[1], True), e[2], metrics_text(e[3], True))
    else:
        _, pipeline, function, argument, quantiles, by, seconds = e
        text = "%s | %s(%s)%s%s" % (pipeline_text(pipeline), function, ", ".join([argument or ""] + ["%r" % q for q in quantiles]), " by (%s)" % ", ".join(by) if by else "", seconds_text(seconds))
    return "(%s)" % text if inner else text


METRICS_KEYS = ["name", "kind", "status", "statusMessage", "resource.service.name", "span.a", ".b", "resource.a", "span.absent", "rootName", "span:childCount", "nestedSetParent", "event:name", "event.a", "link:spanID", "link.a", "instrumentation:version", "instrumentation.b", "span:parentID"]


def random_seconds(rng):
    found = []
    while rng.random() < 0.25:
        bound = rng.choice([("0", 0), ("1", 1), ("0.5", 0.5), ("2", 2), ("1ms", 0.001), ("-1", -1)])
        found.append((rng.choice(["topk", "bottomk"]), rng.randint(1, 4)) if rng.random() < 0.6 else (rng.choice(COMPARISONS),) + bound)
    return found


def random_metrics_pipeline(rng):
    pipeline = random_pipeline(rng)
    return pipeline if is_open(pipeline) and rng.random() < 0.5 else [("spanset", ("filter", random_condition(rng)))]


def random_query(rng, by=None):
    function = rng.choice(FUNCTIONS + ["quantile_over_time", "quantile_over_time", "histogram_over_time"])
    argument = None if function in ("rate", "count_over_time") else rng.choice(["duration", "duration", "span.a", ".b", "name", "traceDuration", "event.a"])
    quantiles = rng.sample([0.0, 0.25, 0.5, 0.9, 0.99, 1.0], rng.randint(1, 3)) if function == "quantile_over_time" else []
    if by is None: by = rng.sample(METRICS_KEYS, rng.choice([0, 1, 1, 1, 2, 3]))
    return ("query", random_metrics_pipeline(rng), function, argument, quantiles, by, random_seconds(rng))


def random_metrics(rng, depth=2):
    r = rng.random()
    if depth == 0 or r < 0.5: return random_query(rng)
    if r < 0.6:
        query = random_query(rng)
        literal = rng.choice([("number", "2", 2), ("number", "0.5", 0.5), ("number", "10", 10), ("number", "0", 0)])
        return ("operation",) + rng.choice([(query, rng.choice("+-*/"), literal), (literal, rng.choice("+-*/"), query)])
    # what has the same labels meets
    by = rng.choice([[], ["name"], ["name"], ["kind", "status"]])
    sides = [random_query(rng, rng.choice([by, by, []])) if depth == 1 or rng.random() < 0.7 else random_metrics(rng, depth - 1) for _ in range(2)]
    whole = ("operation", sides[0], rng.choice("+-*/"), sides[1])
    return ("second", whole, random_seconds(rng)) if depth == 2 and rng.random() < 0.3 else whole


def compare_series(pipeline, selection, traces, start, step, n):
    """what compare() with any number of values shows"""
    groups = {}
    for spans in traces:
        for s in spans: forget(s)
        found = {}
        for members, _ in run_pipeline(pipeline, [(spans, [])]):
            for s in members: found[id(s)] = s
        for s in found.values():
            bucket = (s["start"] - start - 1) // step
            if not 0 <= bucket < n: continue
            values = {k: look_up(k, s) for k in ("name", "kind", "status", "statusMessage", "rootName", "rootServiceName", "span:childCount")}
            values.update({k: s[k] for k in ("instrumentation:name", "instrumentation:version")})
            for scope in ("span", "resource", "instrumentation"): values.update({"%s.%s" % (scope, k): v for k, v in s[scope].items()})
            side = "selection" if matches(selection, dict(s)) else "baseline"
            for k, v in values.items():
                for labels in ((("__meta_type", json.dumps(side)), (k, json.dumps(label(v), sort_keys=True, ensure_ascii=False))), (("__meta_type", json.dumps(side + "_total")), (k, '"nil"'))):
                    samples = groups.setdefault(labels, {b: 0 for b in range(n)})
                    samples[bucket] += 1
    return groups


def over_whole_traces(e):
    """the same question behind an aggregate that every spanset passes"""
    all_pass = ("aggregate", "count", None, ">", ("literal", "0", 0))
    if e[0] == "compare": return (e[0], e[1] + [all_pass], e[2])
    if e[0] == "query": return (e[0], e[1] + [all_pass]) + e[2:]
    return tuple(over_whole_traces(x) if isinstance(x, tuple) and x[0] in ("query", "second", "operation") else x for x in e)


def is_open(pipeline):
    """may another stage follow?  Not behind an operation between pipelines in parentheses."""
    return not (len(pipeline) == 1 and pipeline[0][0] == "spanset" and has_pipeline(pipeline[0][1]))


def has_pipeline(spanset):
    return spanset[0] == "pipeline" or spanset[0] == "operation" and (has_pipeline(spanset[1]) or has_pipeline(spanset[3]))
