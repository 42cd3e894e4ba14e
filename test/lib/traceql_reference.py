"""TraceQL's spanset filters, evaluated span by span: slow, and as close to the words of the rules as can be.

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
def look_up(name, span):
    if name == "duration": return Duration(max(0, span["duration"]))
    if name in ("name", "status", "kind", "statusMessage"): return span[name]
    scope, _, key = name.partition(".")
    if key == "service.name" and scope != "span":
        missing = span["resource"].get(key, "")
        return missing if scope == "resource" else span["span"].get(key, missing)
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


def evaluate(e, span):
    kind = e[0]
    if kind == "literal": return e[2]
    if kind == "attribute": return look_up(e[1], span)
    if kind == "nil": return (look_up(e[1], span) is None) == (e[2] == "=")
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
    return compare(a, op, b) if op in ("=", "!=", "<", "<=", ">", ">=") else calculate(a, op, b)


def matches(e, span):
    try: return evaluate(e, span) is True
    except DivisionByZero: return False


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
    if rng.random() < 0.8:
        service = rng.choice(["svc", "x", ""])
        resource["service.name"] = service
        resource_json = '{"service.name": %s%s%s' % (json.dumps(service), ", " if len(resource_json) > 2 else "", resource_json[1:])
    return {"trace": trace, "id": n, "span": span, "span_json": span_json, "resource": resource, "resource_json": resource_json, "name": rng.choice(["op", "x", "svc", ""]), "statusMessage": rng.choice(["", "x"]),
            "kind": Word(rng.choice(KINDS)), "status": Word(rng.choice(STATUSES)), "start": start, "duration": rng.choice([0, 1, 5, 7, 10**7, 10**9, -3])}
