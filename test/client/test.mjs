// The OpenTelemetry JS SDK exports over gRPC, HTTP/protobuf and HTTP/JSON; the
// traces must come back equal through SQL, traceql() and the Tempo API.
import { execFileSync } from 'node:child_process'
import { isDeepStrictEqual } from 'node:util'
import { randomBytes } from 'node:crypto'
import { connect } from 'node:tls'
import { credentials } from '@grpc/grpc-js'
import { createTraceState, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, TraceFlags } from '@opentelemetry/api'
import { OTLPTraceExporter as GrpcExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { BasicTracerProvider, BatchSpanProcessor, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { canonical, decode, expected, flatten, jsonb, Trace, TraceByIDResponse } from './otlp.mjs'

const api = process.env.TEMPO_URL ?? 'http://127.0.0.1:3200'
const grpc = process.env.OTLP_GRPC_URL ?? 'http://127.0.0.1:4317'
const http = (process.env.OTLP_HTTP_URL ?? 'http://127.0.0.1:4318') + '/v1/traces'
const psql = process.env.PSQL ?? 'psql'

let passed = 0
let failed = 0
function equal(got, want, name) {
  if (isDeepStrictEqual(got, want)) { passed++; return console.log(`ok ${passed + failed} - ${name}`) }
  failed++
  console.log(`not ok ${passed + failed} - ${name}`)
  for (const [word, v] of [['got ', got], ['want', want]]) console.log(`#   ${word} ${JSON.stringify(v, null, 1)?.slice(0, 4000).replaceAll('\n', '\n#   ')}`)
}

const sql = (text) => execFileSync(psql, ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', '-'], { input: text, encoding: 'utf8', maxBuffer: 1 << 28 }).trim()
const get = async (path, headers = {}) => { const r = await fetch(api + path, { headers }); return { status: r.status, type: r.headers.get('content-type'), body: Buffer.from(await r.arrayBuffer()) } }
const getJson = async (path) => {
  const r = await get(path)
  if (r.status !== 200) return { status: r.status, body: r.body.toString() }
  try { return JSON.parse(r.body) } catch (error) { throw new Error(`${path} answers ${r.body.length} bytes that are no JSON: ${r.body.subarray(0, 2000).toString('latin1')}`) }
}
const byId = (records) => records.sort((a, b) => (a.span.spanId < b.span.spanId ? -1 : 1))

// every type of attribute; the SDK's own check lets the plain ones through, the
// others are set as the exporters take them
const plain = { 'a.string': 'grüße "x" \\ \n 😀', 'a.empty': '', 'a.true': true, 'a.false': false, 'a.int': 42, 'a.negative': -7, 'a.big': Number.MAX_SAFE_INTEGER, 'a.double': 0.1, 'a.small': 5e-324,
  'a.strings': ['x', 'y'], 'a.ints': [1, 2, 3], 'a.doubles': [0.5, 1.25], 'a.bools': [true, false], 'a.none': [], 'http.route': '/a/{id}', 'http.response.status_code': 200 }
const special = { 'a.bytes': new Uint8Array([0, 255, 16]), 'a.map': { k: 'v', n: 1, deep: { list: [1, 'two', true, 2.5] } }, 'a.mixed': ['x', 1, true, 1.5, new Uint8Array([7])], 'a.null': null }

// make: two traces; returns the SDK's spans
async function make(exporter, run, numbers) {
  const memory = new InMemorySpanExporter()
  const batch = new BatchSpanProcessor(exporter, { exportTimeoutMillis: 120000 })
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': 'js-' + run, 'service.version': '1.2.3', 'host.cores': 8, 'host.load': 0.75, 'process.command_args': ['node', 'x.mjs'], 'is.test': true }),
    spanProcessors: [new SimpleSpanProcessor(memory), batch]
  })
  const tracer = provider.getTracer('client-test', '0.1', { schemaUrl: 'https://opentelemetry.io/schemas/1.30.0' })
  const other = provider.getTracer('other-scope')

  const root = tracer.startSpan('GET /a/{id}', { kind: SpanKind.SERVER, attributes: plain }, ROOT_CONTEXT)
  Object.assign(root.attributes, special, numbers)
  root.setAttribute('run', run)
  const inRoot = trace.setSpan(ROOT_CONTEXT, root)
  const client = tracer.startSpan('SELECT things', { kind: SpanKind.CLIENT, attributes: { run, 'db.system.name': 'postgresql', rows: 3 } }, inRoot)
  client.addEvent('first', { 'e.string': 'x', 'e.int': 1, 'e.double': 1.5, 'e.bool': true, 'e.list': ['a', 'b'] })
  client.addEvent('second')
  client.recordException(new TypeError('no such thing'))
  client.setStatus({ code: SpanStatusCode.ERROR, message: 'no such thing' })
  client.end()
  const link = { traceId: randomBytes(16).toString('hex'), spanId: randomBytes(8).toString('hex'), traceFlags: TraceFlags.SAMPLED, isRemote: true, traceState: createTraceState('l=1') }
  const producer = other.startSpan('things publish', { kind: SpanKind.PRODUCER, attributes: { run }, links: [{ context: link, attributes: { 'l.string': 'y', 'l.int': 2 } }, { context: client.spanContext() }] }, inRoot)
  producer.setStatus({ code: SpanStatusCode.OK })
  producer.end()
  const internal = other.startSpan('work', { attributes: { run } }, trace.setSpan(ROOT_CONTEXT, producer))
  internal.end()
  root.end()

  // a trace whose root is elsewhere
  const remote = { traceId: randomBytes(16).toString('hex'), spanId: randomBytes(8).toString('hex'), traceFlags: TraceFlags.SAMPLED, isRemote: true, traceState: createTraceState('vendor=a,other=b') }
  const consumer = tracer.startSpan('things process', { kind: SpanKind.CONSUMER, attributes: { run } }, trace.setSpanContext(ROOT_CONTEXT, remote))
  consumer.end()

  await provider.forceFlush()
  const spans = memory.getFinishedSpans()
  await batch.shutdown()
  return spans
}

async function check(name, exporter, numbers) {
  const run = name.replaceAll(/[^a-z]+/g, '-') + '-' + randomBytes(4).toString('hex')
  let error
  // the batch processor reports failures to the global error handler only: ask the exporter itself
  const send = exporter.export.bind(exporter)
  exporter.export = (spans, done) => send(spans, (r) => { if (r.code !== 0) error = r.error ?? r; done(r) })
  const spans = await make(exporter, run, numbers)
  equal(error && String(error), undefined, `${name}: the exporter succeeds`)
  const root = spans.find((s) => s.name === 'GET /a/{id}')
  const traces = [root.spanContext().traceId, spans.find((s) => s.name === 'things process').spanContext().traceId]

  for (const [i, id] of traces.entries()) {
    const which = `${name}, trace ${i + 1}`
    const mine = spans.filter((s) => s.spanContext().traceId === id)
    const want = byId(mine.map(expected))
    equal(byId(flatten(JSON.parse(sql(`SELECT tempo.trace_json('${id}')`)).resourceSpans)), want, `${which}: tempo.trace_json`)
    equal(byId(flatten((await getJson(`/api/traces/${id}`)).batches ?? [])), want, `${which}: /api/traces as JSON`)
    equal(byId(flatten((await getJson(`/api/v2/traces/${id}`)).trace?.resourceSpans ?? [])), want, `${which}: /api/v2/traces as JSON`)
    const v1 = await get(`/api/traces/${id}`, { Accept: 'application/protobuf' })
    equal(v1.type, 'application/protobuf', `${which}: /api/traces answers protobuf when asked`)
    equal(byId(flatten(decode(v1.body, Trace).resourceSpans)), want, `${which}: /api/traces as protobuf`)
    const v2 = await get(`/api/v2/traces/${id}`, { Accept: 'application/protobuf' })
    equal(byId(flatten(decode(v2.body, TraceByIDResponse).trace?.resourceSpans ?? [])), want, `${which}: /api/v2/traces as protobuf`)
    checkRows(which, id, mine)
  }

  // traceql() and /api/search
  const query = `{ span.run = "${run}" && kind = server && .a.double = 0.1 && resource.host.cores = 8 }`
  const [s, ns] = root.startTime
  const start = String(BigInt(s) * 1000000000n + BigInt(ns))
  const [id, service, rootName, startGot, spansets] = JSON.parse(sql(`SELECT json_build_array(trace_id, root_service_name, root_trace_name, start_time_unix_nano::text, spansets) FROM traceql('${query}')`) || '[]')
  equal([id, service, rootName, startGot], [traces[0], 'js-' + run, 'GET /a/{id}', start], `${name}: traceql() finds the trace`)
  equal(spansets?.map((x) => [x.matched, x.spans.map((y) => y.spanID)]), [[1, [root.spanContext().spanId]]], `${name}: traceql() finds its span`)
  const search = await getJson('/api/search?' + new URLSearchParams({ q: query }))
  const found = search.traces?.[0] ?? search
  equal([search.traces?.length, found.traceID, found.rootServiceName, found.rootTraceName, found.startTimeUnixNano, found.spanSets?.[0]?.spans?.[0]?.spanID],
    [1, traces[0].replace(/^0+/, ''), 'js-' + run, 'GET /a/{id}', start, root.spanContext().spanId], `${name}: /api/search finds the trace`)
  equal(found.serviceStats, { ['js-' + run]: { spanCount: 4, errorCount: 1 } }, `${name}: with its service statistics`)
  const both = await getJson('/api/search?' + new URLSearchParams({ q: `{ span.run = "${run}" }` }))
  equal((both.traces ?? []).map((t) => [t.rootServiceName, t.rootTraceName]).sort(), [['<root span not yet received>', undefined], ['js-' + run, 'GET /a/{id}']].sort(), `${name}: a missing root is told`)
  for (const [q, n] of [[`{ span.run = "${run}" && status = error }`, 1], [`{ span.run = "${run}" && name =~ "things.*" }`, 2], [`{ span.run = "${run}" && kind = consumer }`, 1], [`{ span.run = "${run}x" }`, 0],
    [`{ span.run = "${run}" && span.a.strings = "y" }`, 1], [`{ span.run = "${run}" && span.a.big = ${Number.MAX_SAFE_INTEGER} }`, 1], [`{ span.run = "${run}" && statusMessage = "no such thing" }`, 1]])
    equal(((await getJson('/api/search?' + new URLSearchParams({ q }))).traces ?? []).length, n, `${name}: ${q.replaceAll(run, 'RUN')}`)

  // tags
  const tags = await getJson('/api/v2/search/tags?' + new URLSearchParams({ q: `{ span.run = "${run}" }` }))
  const scopes = Object.fromEntries((tags.scopes ?? []).map((x) => [x.name, x.tags]))
  equal([['a.string', 'run', 'http.route'].every((t) => scopes.span?.includes(t)), ['service.name', 'host.cores'].every((t) => scopes.resource?.includes(t))], [true, true], `${name}: /api/v2/search/tags has the names`)
  const values = await getJson('/api/v2/search/tag/span.run/values')
  equal((values.tagValues ?? []).filter((v) => v.value === run), [{ type: 'string', value: run }], `${name}: /api/v2/search/tag/span.run/values has the value`)
}

// checkRows: tempo.spans column by column
function checkRows(which, id, spans) {
  const rows = JSON.parse(sql(`SELECT coalesce(json_agg(to_jsonb(s)), '[]') FROM tempo.spans s WHERE trace_id = '${id}'`))
  const columns = (r) => ({ span_id: r.span_id, parent_span_id: r.parent_span_id, name: r.name, kind: r.kind, status: r.status, status_message: r.status_message, service_name: r.service_name, trace_state: r.trace_state,
    scope_name: r.scope_name, scope_version: r.scope_version, scope_schema_url: r.scope_schema_url, attributes: r.attributes, resource_attributes: r.resource_attributes,
    events: r.events.map((e) => [e.name, e.attributes ?? {}]), links: r.links.map((l) => [l.trace_id ?? l.traceId, l.span_id ?? l.spanId, l.attributes ?? {}]) })
  const want = (s) => ({ span_id: s.spanContext().spanId, parent_span_id: s.parentSpanContext?.spanId ?? null, name: s.name, kind: ['internal', 'server', 'client', 'producer', 'consumer'][s.kind],
    status: ['unset', 'ok', 'error'][s.status.code], status_message: s.status.message ?? '', service_name: s.resource.attributes['service.name'], trace_state: s.spanContext().traceState?.serialize() ?? '',
    scope_name: s.instrumentationScope.name, scope_version: s.instrumentationScope.version ?? '', scope_schema_url: s.instrumentationScope.schemaUrl ?? '',
    attributes: jsonb(s.attributes), resource_attributes: jsonb(s.resource.attributes), events: s.events.map((e) => [e.name, jsonb(e.attributes ?? {})]),
    links: s.links.map((l) => [l.context.traceId, l.context.spanId, jsonb(l.attributes ?? {})]) })
  const sort = (list) => canonical(list.sort((a, b) => (a.span_id < b.span_id ? -1 : 1)))
  equal(sort(rows.map(columns)), sort(spans.map(want)), `${which}: rows of tempo.spans`)
}

// overTls: the receivers speak TLS meanwhile
async function overTls(use) {
  sql(`COPY (SELECT 1) TO PROGRAM 'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout client-test.key -out client-test.crt 2>/dev/null && chmod 600 client-test.key'`)
  const ca = Buffer.from(sql("SELECT pg_read_file('client-test.crt')") + '\n')
  const speaks = (url) => new Promise((resolve) => {
    const { hostname: host, port } = new URL(url)
    const socket = connect({ host, port, ca, ALPNProtocols: ['h2', 'http/1.1'] }, () => { socket.destroy(); resolve(true) })
    socket.on('error', () => resolve(false))
  })
  const all = async (want) => {
    for (let good = 0, end = Date.now() + 300000; good < 40;) {
      if (Date.now() > end) throw new Error(`waited for receivers that ${want ? '' : 'do not '}speak TLS`)
      good = (await speaks(good % 2 ? grpc : http)) === want ? good + 1 : 0
    }
  }
  sql(`ALTER SYSTEM SET tempo_pg.tls_cert_file = 'client-test.crt'`)
  sql(`ALTER SYSTEM SET tempo_pg.tls_key_file = 'client-test.key'`)
  sql(`ALTER SYSTEM SET tempo_pg.tls = 'otlp_grpc, otlp_http'`)
  try {
    sql('SELECT pg_reload_conf()')
    // every receiver process: who of them gets a connection is up to the kernel
    await all(true)
    await use(ca)
  } finally {
    for (const name of ['tls', 'tls_cert_file', 'tls_key_file']) sql(`ALTER SYSTEM RESET tempo_pg.${name}`)
    sql('SELECT pg_reload_conf()')
    await all(false)
  }
}

// for machines that do nothing for seconds
const timeoutMillis = 120000
const odd = { 'a.nan': NaN, 'a.infinity': Infinity, 'a.minus': -Infinity }
try {
  await check('gRPC', new GrpcExporter({ timeoutMillis, url: grpc }), odd)
  await check('gRPC gzip', new GrpcExporter({ timeoutMillis, url: grpc, compression: 'gzip' }), odd)
  await check('HTTP protobuf', new ProtobufExporter({ timeoutMillis, url: http }), odd)
  await check('HTTP protobuf gzip', new ProtobufExporter({ timeoutMillis, url: http, compression: 'gzip' }), odd)
  // (JSON.stringify makes null of the odd numbers)
  await check('HTTP JSON', new JsonExporter({ timeoutMillis, url: http }), {})
  await check('HTTP JSON gzip', new JsonExporter({ timeoutMillis, url: http, compression: 'gzip' }), {})
  await overTls(async (ca) => {
    const [grpcs, https] = [grpc, http].map((url) => url.replace('http:', 'https:'))
    await check('gRPC over TLS', new GrpcExporter({ timeoutMillis, url: grpcs, credentials: credentials.createSsl(ca) }), odd)
    await check('HTTP protobuf over TLS', new ProtobufExporter({ timeoutMillis, url: https, httpAgentOptions: { ca } }), odd)
    await check('HTTP JSON over TLS', new JsonExporter({ timeoutMillis, url: https, httpAgentOptions: { ca } }), {})
  })
} catch (error) {
  failed++
  console.log(`not ok ${passed + failed} - ${error.stack}`)
}
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed ? 1 : 0)
