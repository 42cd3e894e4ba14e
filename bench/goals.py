"""The table of goals: what was measured beside what must be and what is aimed at, and beside the limit of the hardware.

Goals and limits are those that the project set itself for a machine of 2 cores, for one million spans of the data set's demo profile (about 400 bytes of OTLP each).
Limits are first principles: what one core can decode, scan or send, measured with loops that do nothing else; entropy for bytes.
"""
import statistics

# key, what, unit, smaller is better, must, goal, limit (None = no figure for it)
GOALS = [
    ("ack_rate", "spans acknowledged per second, loader beside the server", "1/s", False, 150e3, 400e3, 1.0e6),
    ("cpu_ack", "server CPU to the acknowledgement, per span", "us", True, 5, 2, 0.9),
    ("cpu_all", "the same, compaction included", "us", True, 7, 3, 1.2),
    ("ack_p50", "time to the acknowledgement at full rate, p50", "ms", True, 50, 20, None),
    ("ack_p99", "p99", "ms", True, 200, 60, None),
    ("ack_max", "longest", "ms", True, 1000, 250, None),
    ("bytes", "bytes per span in segments, footers and indexes included", "B", True, 30, 24, 21),
    ("wal", "WAL per span over its life", "B", True, 100, 60, None),
    ("memory", "server's memory beyond shared_buffers after load and queries", "MB", True, 1024, 512, None),
    ("search_median", "searches q01-q15, limit 20: median", "ms", True, 8, 3, None),
    ("search_worst", "worst", "ms", True, 40, 15, None),
    ("n5", "structural search without a match", "ms", True, 100, 25, None),
    ("metrics_median", "metrics m1-m6: median", "ms", True, 40, 8, None),
    ("metrics_worst", "worst", "ms", True, 80, 20, None),
    ("compare", "compare()", "ms", True, 1000, 200, None),
    ("byid_p50", "trace by id over HTTP, p50", "ms", True, 1.5, 1.0, 0.35),
    ("byid_p95", "p95 (must and goal: p99)", "ms", True, 8, 3, None),
    ("byid_sql", "trace by id in SQL, tempo.trace(), p50", "ms", True, 0.5, None, 0.25),
    ("byid_where", "the same, tempo.spans WHERE trace_id = ..., p50", "ms", True, 0.5, None, 0.25),
    ("absent", "absent trace id over HTTP, p50", "ms", True, 1.5, 0.5, None),
    ("largest", "trace of 20,000 spans, p50", "ms", True, 100, 40, None),
    ("tag_names", "tag names, p50", "ms", True, 10, 2, None),
    ("tag_values", "values of user.id, p50", "ms", True, 20, 5, None),
    ("scan_filter", "filter on service and duration, one core", "M spans/s", False, 50, 200, 1300),
    ("scan_rate", "rate by service, one core", "M spans/s", False, 40, 150, 900),
    ("scan_attribute", "count by a span attribute, one core", "M spans/s", False, 15, 60, 750),
    ("scan_histogram", "log2 histogram of durations by service, one core", "M spans/s", False, None, 100, 600),
]


def by_id(rows): return {r["id"]: r["p50_ms"] for r in rows if "p50_ms" in r}


def figures(facts):
    """the figures of one run of bench/run under the keys of GOALS; what was not measured is missing"""
    n, report = facts["spans"], facts["report"]
    queries, ids, tags = by_id(facts["queries"]), by_id(facts["byid"]), by_id(facts["tags"])
    hot = next((r for r in facts["byid"] if r["id"] == "hot"), {})
    search = [v for k, v in queries.items() if k.startswith("q")]
    metrics = [v for k, v in queries.items() if k.startswith("m")]
    found = {
        "ack_rate": report["acked_spans_per_s"],
        "cpu_ack": facts["load"]["cpu"] / n * 1e6,
        "cpu_all": (facts["load"]["cpu"] + facts["compact"]["cpu"]) / n * 1e6,
        "ack_p50": report["ack_ms"]["p50"], "ack_p99": report["ack_ms"]["p99"], "ack_max": report["ack_ms"]["max"],
        "bytes": facts["bytes"] / n,
        "wal": (facts["load"]["wal"] + facts["compact"]["wal"] + facts["settle"]["wal"]) / n,
        "memory": facts["memory_mb"],
        "search_median": statistics.median(search) if search else None, "search_worst": max(search, default=None), "n5": queries.get("n5"),
        "metrics_median": statistics.median(metrics) if metrics else None, "metrics_worst": max(metrics, default=None), "compare": queries.get("s1"),
        "byid_p50": ids.get("hot"), "byid_p95": hot.get("p95_ms"), "absent": ids.get("absent"), "largest": ids.get("largest"),
        "tag_names": tags.get("t1"), "tag_values": tags.get("v3"),
    }
    found.update(facts["sql"])
    return {k: v for k, v in found.items() if v is not None}


def number(value): return "%.0f" % value if value >= 100 else "%.1f" % value if value >= 10 else "%.2g" % value


def verdict(value, smaller, must, goal):
    reached = lambda bound: bound is not None and (value <= bound if smaller else value >= bound)
    return "goal" if reached(goal) else "must" if reached(must) else "**short**" if must is not None else "short of the goal"


def table(facts):
    """lines of Markdown"""
    found = figures(facts)
    lines = ["| | here | must | goal | reached | of the limit |", "|---|---|---|---|---|---|"]
    for key, what, unit, smaller, must, goal, limit in GOALS:
        if key not in found: continue
        value = found[key]
        share = "" if limit is None else "%.0f %%" % (100 * (limit / value if smaller else value / limit))
        bound = lambda b: "" if b is None else number(b if unit != "1/s" else b)
        lines.append("| %s, %s | %s | %s | %s | %s | %s |" % (what, unit, number(value), bound(must), bound(goal), verdict(value, smaller, must, goal), share))
    return lines
