"""Every query in doc/recipes.md, over traces of a shop."""
import os, re
import cluster, tap

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))

# trace n of 20, a minute apart: frontend's server span of n * 10 ms, its client span, cart's server span, and below
# that, for every even n, a query (six in trace 4); every fifth fails in cart; each links to the trace before
DATA = """
CREATE TABLE customers (id text, name text, plan text, monthly numeric);
INSERT INTO customers VALUES ('c0', 'Ada', 'free', 0), ('c1', 'Bob', 'gold', 100), ('c2', 'Cy', 'gold', 50);
CREATE FUNCTION pg_temp.span(trace int, n int, parent int, service text, name text, kind text, ms int, status text, attributes jsonb, links jsonb DEFAULT '[]') RETURNS void LANGUAGE sql AS $$
    INSERT INTO tempo.spans (trace_id, span_id, parent_span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes, links)
    VALUES (lpad(to_hex(trace), 32, '0')::tempo.trace_id, lpad(to_hex(trace * 100 + n), 16, '0')::tempo.span_id, lpad(to_hex(trace * 100 + parent), 16, '0')::tempo.span_id, name, kind, status,
        (extract(epoch FROM now() - interval '30 min') * 1000000)::bigint * 1000 + trace * 60000000000 + n * 1000000, ms * 1000000::bigint, attributes, jsonb_build_object('service.name', service), links) $$;
SELECT pg_temp.span(i, 1, NULL, 'frontend', 'GET /cart', 'server', i * 10, CASE WHEN i % 5 = 0 THEN 'error' ELSE 'ok' END,
        jsonb_build_object('customer.id', 'c' || i % 3, 'tags', jsonb_build_array('web', CASE WHEN i % 2 = 0 THEN 'vip' END)),
        CASE WHEN i > 1 THEN jsonb_build_array(jsonb_build_object('trace_id', lpad(to_hex(i - 1), 32, '0'), 'span_id', lpad(to_hex((i - 1) * 100 + 1), 16, '0'))) ELSE '[]' END),
    pg_temp.span(i, 2, 1, 'frontend', 'cart.get', 'client', i * 8, 'unset', '{}'),
    pg_temp.span(i, 3, 2, 'cart', 'cart.get', 'server', i * 7, CASE WHEN i % 5 = 0 THEN 'error' ELSE 'ok' END, '{}')
FROM generate_series(1, 20) AS i;
SELECT pg_temp.span(i, 3 + j, 3, 'cart', 'SELECT', 'client', i, 'unset', '{"db.system": "postgresql"}')
FROM generate_series(2, 20, 2) AS i, generate_series(1, CASE WHEN i = 4 THEN 6 ELSE 1 END) AS j;
"""

trace = lambda n: "%032x" % n
WANT = {
    "The slowest traces": ["%s|frontend|GET /cart|00:00:00.%s" % (trace(n), d) for n, d in ((20, "2"), (19, "19"), (18, "18"))],
    "The slowest traces, 2": ["%s|%016x|00:00:00.%s" % (trace(n), n * 100 + 3, d) for n, d in ((20, "14"), (19, "133"), (18, "126"))],
    "Exact percentiles": ["cart|cart.get|20|{00:00:00.07,00:00:00.126,00:00:00.14}", "frontend|GET /cart|20|{00:00:00.1,00:00:00.18,00:00:00.2}"],
    "Distinct values": ["3|4"],
    "Traces without a span": [trace(n) for n in (1, 3, 5)],
    "Traces without a span, 2": ["%s|GET /cart" % trace(n) for n in (1, 3, 5)],
    "Following span links": ["%s|%d" % (trace(15 - n), n) for n in range(4)],
    "Attributes that contain something": ['%s|["web", "vip"]' % trace(n) for n in (4, 10)],
    "Joining with tables of your own": ["Cy|2|100", "Ada|1|", "Bob|1|100"],
    "Service graph": ["frontend|cart|20|4|00:00:00.144"],
    "Error budget": ["cart|20|4|2000.0", "frontend|20|4|2000.0"],
    "Critical path": ["1|frontend|GET /cart|40.0000000000000000", "2|frontend|cart.get|32.0000000000000000", "3|cart|cart.get|28.0000000000000000", "4|cart|SELECT|4.0000000000000000"],
    "Time of its own": ["cart|cart.get|20|1340", "frontend|GET /cart|20|420", "frontend|cart.get|20|210"],
    "The same call again and again": ["%s|SELECT|6" % trace(4)],
    "A view for a dashboard": None,
    "Series, joined and compared with yesterday": ["cart|20|0", "frontend|20|0"],
}


def test():
    node = cluster.Cluster("recipes", **{"tempo_pg.enabled": "off"})
    node.start()
    node.sql("CREATE EXTENSION tempo_pg")
    node.sql(DATA)
    text = open(os.path.join(TOP, "doc", "recipes.md")).read()
    found = []
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        title = section.split("\n")[0]
        for n, query in enumerate(re.findall(r"```sql\n(.*?)```", section, re.S)):
            name = title if n == 0 else "%s, %d" % (title, n + 1)
            found.append(name)
            if name not in WANT:
                tap.ok(False, "the test knows the recipe: " + name)
                continue
            got = node.sql(query).splitlines()
            if WANT[name] is None: tap.equal(sorted(node.sql("SELECT customer, duration FROM failed_checkouts").splitlines()), ["c0|00:00:00.15", "c1|00:00:00.1", "c2|00:00:00.05", "c2|00:00:00.2"], name)
            else: tap.equal(got, WANT[name], name)
    tap.equal(sorted(found), sorted(WANT), "every recipe is there")


tap.main(test)
