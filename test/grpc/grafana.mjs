// Each request that Grafana's Tempo data source and Traces Drilldown make, over
// HTTP and gRPC, its answer decoded strictly.
import { isDeepStrictEqual } from 'node:util'
import { decode, jsonProblems, wireProblems } from './strict.mjs'

const user = { 'user-agent': 'Grafana/13.1.0', 'x-grafana-org-id': '1', 'x-datasource-uid': 'tempo_pg', traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' }

// t: { equal, fetchApi, call raw messages of a method, run, now }
export async function grafana({ equal, fetchApi, rawCall, run, now }) {
  const seconds = { start: now - 3600, end: now + 60 }
  const get = (path, accept) => fetchApi(path, { ...user, accept })
  const form = (o) => Object.keys(o).sort().map((k) => `${k}=${encodeURIComponent(o[k]).replaceAll('%20', '+')}`).join('&')
  const json = async (message, path, parameters, name) => {
    const r = await get(`${path}?${form(parameters)}`, 'application/json')
    let body
    try { body = JSON.parse(r.body) } catch { body = r.body.toString() }
    equal([r.status, typeof body === 'object' ? jsonProblems(message, body) : body], [200, []], name)
    return body
  }
  const protobuf = async (message, path, name) => {
    const r = await get(path, 'application/protobuf')
    equal([r.status, r.status === 200 ? wireProblems(message, r.body) : r.body.toString()], [200, []], name)
    return decode(message, r.body)
  }
  const stream = async (method, request, message, name) => {
    const r = await rawCall(method, request)
    equal([r.code, r.messages.length > 0, r.messages.flatMap((m) => wireProblems(message, m))], [0, true, []], name)
    return r.messages.map((m) => decode(message, m))
  }

  // Save & test, initialisation
  const echo = await get('/api/echo', 'application/json')
  equal([echo.status, echo.body.toString()], [200, 'echo\n'], 'Save & test')
  await stream('Search', { Query: '{}', start: now - 900, end: now, Limit: 1 }, 'tempopb.SearchResponse', 'Save & test, streaming')
  const build = JSON.parse((await get('/api/status/buildinfo')).body)
  equal([Object.keys(build).sort(), Object.values(build).every((v) => typeof v === 'string'), /^\d+\.\d+\.\d+/.test(build.version)], [['branch', 'buildDate', 'buildUser', 'goVersion', 'revision', 'version'], true, true], 'version')

  // search: table, spans, raw
  const q = `{resource.service.name="${run}" && name=~"few.*" && status=error}`
  const table = await json('tempopb.SearchResponse', '/api/search', { q, ...seconds, limit: 20, spss: 3 }, 'search, table')
  equal([table.traces.length, table.traces.every((t) => isDeepStrictEqual(t.spanSet, t.spanSets[0]) && t.spanSet.spans.length > 0 && t.spanSet.matched >= t.spanSet.spans.length)], [20, true], 'each trace has its spanset in both forms')
  await json('tempopb.SearchResponse', '/api/search', { q: `{resource.service.name="${run}"} | select(status, span.i)`, ...seconds, limit: 200, spss: 20 }, 'search, spans and raw')
  await json('tempopb.SearchResponse', '/api/search', { q: '{ resource.service.name = "nothing has this" }', ...seconds, limit: 20 }, 'search that finds nothing')
  equal((await json('tempopb.SearchResponse', '/api/search', { tags: `run=${run}`, ...seconds }, 'search by tags')).traces.every((t) => !t.spanSet && !t.spanSets && !t.serviceStats), true, 'which has no spansets')
  const streamed = await stream('Search', { Query: q, ...seconds, Limit: 20, SpansPerSpanSet: 3 }, 'tempopb.SearchResponse', 'search, streaming')
  equal(streamed.at(-1).traces.map((t) => t.traceID), table.traces.map((t) => t.traceID), 'which ends with the same traces')
  for (const [bad, words] of [[{ q: '{ .a = }', ...seconds }, 'invalid TraceQL query'], [{ q, start: now - 700000, end: now }, 'range specified by start and end exceeds']]) {
    const r = await get('/api/search?' + form(bad), 'application/json')
    equal([r.status, r.body.toString().includes(words), r.body.includes('<')], [400, true, false], `error: ${words}`)
  }

  // trace view
  const id = table.traces[0].traceID
  const trace = await protobuf('tempopb.TraceByIDResponse', `/api/v2/traces/${id}`, 'trace view')
  const spans = trace.trace.resourceSpans.flatMap((r) => r.scope_spans ?? r.scopeSpans).flatMap((s) => s.spans)
  equal([spans.length, spans.every((s) => s.trace_id.length === 16 && s.span_id.length === 8), spans.filter((s) => !s.parent_span_id).length], [2, true, 1], 'with ids as bytes, the root without a parent')
  equal(trace.trace.resourceSpans.every((r) => r.resource.attributes.some((a) => a.key === 'service.name')), true, 'and services')
  const absent = await get('/api/v2/traces/123456789abcdef', 'application/protobuf')
  equal([absent.status, absent.body.toString('hex')], [200, '0a001200'], 'a trace that there is not is an empty one')
  await protobuf('tempopb.Trace', `/api/traces/${id}?start=${now - 3600}&end=${now}`, 'trace view of an older Grafana')
  equal((await get('/api/traces/123456789abcdef', 'application/protobuf')).status, 404, 'to which one that there is not is 404')
  const v2 = JSON.parse((await get(`/api/v2/traces/${id}`, 'application/json')).body)
  equal(jsonProblems('tempopb.TraceByIDResponse', v2), [], 'a trace as JSON')

  // autocompletion
  const scopes = (await json('tempopb.SearchTagsV2Response', '/api/v2/search/tags', { limit: 5000, ...seconds }, 'attribute names')).scopes
  equal(['intrinsic', 'resource', 'span'].every((n) => scopes.some((s) => s.name === n && s.tags.length > 0)), true, 'in each scope')
  await json('tempopb.SearchTagsV2Response', '/api/v2/search/tags', { limit: 5000 }, 'attribute names of all time')
  for (const tag of ['resource.service.name', 'span.run', '.run', 'name', 'status', 'kind', 'span."slash/ \\"key\\""', 'span.no/such']) {
    const path = tag.replaceAll(' ', '%20').replaceAll('"', '%22').replaceAll('\\', '%5C')
    const values = await json('tempopb.SearchTagValuesV2Response', `/api/v2/search/tag/${path}/values`, { limit: 5000, tag, q: `{resource.service.name="${run}"}`, ...seconds }, `values of ${tag}`)
    equal([Array.isArray(values.tagValues), values.tagValues.length > 0 || tag === 'span.no/such', values.tagValues.every((v) => v.type)], [true, true, true], `values of ${tag} have types`)
  }
  await json('tempopb.SearchTagValuesV2Response', '/api/v2/search/tag/span.run/values', { q: '{ span.x = ', limit: 5000, tag: 'span.run' }, 'a query half typed')
  await json('tempopb.SearchTagsResponse', '/api/search/tags', seconds, 'attribute names of an older Grafana')
  await json('tempopb.SearchTagValuesResponse', '/api/search/tag/run/values', seconds, 'values of an older Grafana')

  // metrics panels
  const series = (message, path, query, more, name) => json(message, path, { q: query, ...seconds, ...more }, name)
  for (const f of ['rate()', 'count_over_time() by (name)', 'avg_over_time(duration)', 'sum_over_time(span.i)', 'max_over_time(duration)', 'min_over_time(duration)', 'quantile_over_time(duration, .5, .9) by (kind)', 'histogram_over_time(duration)', 'compare({status=error})', 'rate() by (span.i) | topk(3)']) {
    const query = `{resource.service.name="${run}"} | ${f}`
    const range = await series('tempopb.QueryRangeResponse', '/api/metrics/query_range', query, { step: '60s', exemplars: 10 }, `panel: ${f}`)
    equal([range.series.length > 0, range.series.every((s) => s.labels.length > 0 && s.samples.length > 0)], [true, true], `panel: ${f} has series`)
    if (!f.startsWith('compare')) await series('tempopb.QueryInstantResponse', '/api/metrics/query', query, { step: '60s' }, `instant: ${f}`)
    const nanos = { query, start: `${seconds.start}000000000`, end: `${now}000000000` }
    await stream('MetricsQueryRange', { ...nanos, step: '60000000000', exemplars: 10 }, 'tempopb.QueryRangeResponse', `streaming panel: ${f}`)
    if (!f.startsWith('compare')) await stream('MetricsQueryInstant', nanos, 'tempopb.QueryInstantResponse', `streaming instant: ${f}`)
  }
  const exemplars = (await series('tempopb.QueryRangeResponse', '/api/metrics/query_range', `{resource.service.name="${run}"} | avg_over_time(duration)`, { exemplars: 10 }, 'exemplars')).series.flatMap((s) => s.exemplars ?? [])
  equal([exemplars.length > 0, exemplars.every((e) => e.value && Number(e.timestampMs) > 0 && e.labels.some((l) => l.key === 'trace:id' && l.value.stringValue))], [true, true], 'each exemplar links to its trace')
  await series('tempopb.QueryInstantResponse', '/api/metrics/query', '{ name = "nothing has this" } | rate() by (name)', {}, 'instant without series')
  const long = await get('/api/metrics/query_range?' + form({ q: '{} | rate()', start: now - 200000, end: now }), 'application/json')
  equal([long.status, /exceeds the maximum allowed duration of/.test(long.body)], [400, true], 'error: a range too long')

  // Traces Drilldown
  for (const signal of ['nestedSetParent<0', 'true', 'kind=server', 'kind=consumer', 'span.db.system.name!=""']) {
    const s = `${signal} && true && resource.service.name="${run}"`
    const found = !/consumer|db/.test(signal)
    await series('tempopb.QueryRangeResponse', '/api/metrics/query_range', `{${s}} | rate() with(sample=true)`, { step: '72s' }, `Drilldown ${signal}: rate`)
    await series('tempopb.QueryRangeResponse', '/api/metrics/query_range', `{${s} && resource.service.name != nil} | rate() by(resource.service.name)`, { step: '30s' }, `Drilldown ${signal}: rate by attribute`)
    await series('tempopb.QueryRangeResponse', '/api/metrics/query_range', `{${s} && status=error} | rate() by(name)`, { step: '72s' }, `Drilldown ${signal}: errors`)
    const heat = await series('tempopb.QueryRangeResponse', '/api/metrics/query_range', `{${s}} | histogram_over_time(duration) with(sample=true)`, { step: '72s' }, `Drilldown ${signal}: heat map`)
    equal([heat.series.length > 0, heat.series.every((x) => isDeepStrictEqual(x.labels.map((l) => l.key), ['__bucket']))], [found, true], 'whose series have the bucket only')
    await series('tempopb.QueryRangeResponse', '/api/metrics/query_range', `{${s}} | quantile_over_time(duration, 0.9) by(name)`, { step: '72s' }, `Drilldown ${signal}: percentiles`)
    const compared = await series('tempopb.QueryRangeResponse', '/api/metrics/query_range', `{${s}} | compare({status = error}, 10)`, { step: '3660s' }, `Drilldown ${signal}: comparison`)
    equal(compared.series.every((x) => x.labels.length === 2 && x.labels.some((l) => l.key === '__meta_type')), true, 'whose series have two labels')
    const list = await series('tempopb.SearchResponse', '/api/search', `{${s}} | select(status, resource.service.name, name, nestedSetParent, span.i)`, { limit: 200, spss: 10 }, `Drilldown ${signal}: list`)
    equal(list.traces.length > 0, found, 'of traces')
    await series('tempopb.SearchResponse', '/api/search', `{${s} && status = error} | select(resource.service.name, event.exception.message, event.exception.stacktrace, event.exception.type) with(most_recent=true)`, { limit: 400, spss: 10 }, `Drilldown ${signal}: exceptions`)
    for (const other of ['kind = server', 'status = error', 'duration > 1ms']) {
      const structure = await series('tempopb.SearchResponse', '/api/search', `({${s}} &>> { ${other} }) || ({${s}}) | select(status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)`, { limit: 200, spss: 20 }, `Drilldown ${signal}: structure, ${other}`)
      const attributes = (x) => Object.fromEntries((x.attributes ?? []).map((a) => [a.key, a.value]))
      equal(structure.traces.every((t) => t.spanSets.length === 1 && t.spanSets[0].spans.every((x) => x.name && x.durationNanos && ['nestedSetLeft', 'nestedSetRight', 'nestedSetParent'].every((k) => attributes(x)[k]?.intValue) && attributes(x)['service.name']?.stringValue && attributes(x).status?.stringValue)), true, 'with one spanset and all of what it reads')
    }
  }
  await json('tempopb.QueryRangeResponse', '/api/metrics/query_range', { q: '{} | rate()', start: now - 60, end: now }, 'Drilldown: is there anything')
}
