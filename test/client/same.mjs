// Clients of every kind export the same trace; it must be stored equal.
//
// What a protocol cannot carry is left out of the comparison: Zipkin has only
// text for attributes, no attributes for events, and its client writes names in
// lower case; clients for Jaeger write
// every number as a double; neither has a scope (a later one tells it in tags).
//
// Clients in other languages are programs that get a service name and grpc or
// http: SAME_CLIENTS is a JSON object of name -> command.
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { isDeepStrictEqual } from 'node:util'
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { OTLPTraceExporter as GrpcExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { OTLPTraceExporter as ProtobufExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { resourceFromAttributes } from '@opentelemetry/resources'
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base'

const require = createRequire(import.meta.url)
const psql = process.env.PSQL ?? 'psql'
const sql = (text) => execFileSync(psql, ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', '-'], { input: text, encoding: 'utf8' }).trim()
const run = randomBytes(4).toString('hex')

let passed = 0
let failed = 0
function equal(got, want, name) {
  if (isDeepStrictEqual(got, want)) { passed++; return console.log(`ok ${passed + failed} - ${name}`) }
  failed++
  console.log(`not ok ${passed + failed} - ${name}`)
  for (const [word, v] of [['got ', got], ['want', want]]) console.log(`#   ${word} ${JSON.stringify(v)}`)
}

const want = [
  { name: 'GET /things', kind: 'server', status: 'unset', message: '', parent: null, attributes: { cached: true, 'http.route': '/things', ratio: 0.5, size: 200 }, events: [{ name: 'cache miss', attributes: { cold: true, key: 'k' } }], scope: 'same 1' },
  { name: 'SELECT things', kind: 'client', status: 'error', message: 'no such thing', parent: 'GET /things', attributes: { 'db.system': 'postgresql' }, events: [], scope: 'same 1' }
]

// stored: the spans of a service, once both are there; without what clients add of their own accord
async function stored(service) {
  for (const end = Date.now() + 300000; ;) {
    const spans = JSON.parse(sql(`SELECT coalesce(json_agg(json_build_object('name', s.name, 'kind', s.kind, 'status', s.status, 'message', s.status_message, 'parent', p.name,
        'attributes', s.attributes, 'events', s.events, 'scope', s.scope_name || ' ' || s.scope_version) ORDER BY s.name), '[]')
      FROM tempo.spans s LEFT JOIN tempo.spans p ON p.trace_id = s.trace_id AND p.span_id = s.parent_span_id WHERE s.service_name = '${service}'`))
    if (spans.length >= want.length || Date.now() > end) return spans.map((s) => ({ ...s, events: s.events.map((e) => ({ name: e.name, attributes: e.attributes ?? {} })) }))
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function opentelemetry(service, exporter) {
  const provider = new BasicTracerProvider({ resource: resourceFromAttributes({ 'service.name': service }), spanProcessors: [new BatchSpanProcessor(exporter, { exportTimeoutMillis: 120000 })] })
  const tracer = provider.getTracer('same', '1')
  const root = tracer.startSpan('GET /things', { kind: SpanKind.SERVER, attributes: { 'http.route': '/things', size: 200, cached: true, ratio: 0.5 } }, ROOT_CONTEXT)
  root.addEvent('cache miss', { key: 'k', cold: true })
  const child = tracer.startSpan('SELECT things', { kind: SpanKind.CLIENT, attributes: { 'db.system': 'postgresql' } }, trace.setSpan(ROOT_CONTEXT, root))
  child.setStatus({ code: SpanStatusCode.ERROR, message: 'no such thing' })
  child.end()
  root.end()
  await provider.shutdown()
}

async function jaeger(service, reporter) {
  const { initTracer } = require('jaeger-client')
  const tracer = initTracer({ serviceName: service, sampler: { type: 'const', param: 1 }, reporter: { ...reporter, flushIntervalMs: 100 } }, { logger: { info() {}, error(m) { console.log('# ' + m) } } })
  const root = tracer.startSpan('GET /things', { tags: { 'span.kind': 'server', 'http.route': '/things', size: 200, cached: true, ratio: 0.5 } })
  root.log({ event: 'cache miss', key: 'k', cold: true })
  const child = tracer.startSpan('SELECT things', { childOf: root.context(), tags: { 'span.kind': 'client', 'db.system': 'postgresql', error: true, 'otel.status_description': 'no such thing' } })
  child.finish()
  root.finish()
  await new Promise((resolve) => tracer.close(resolve))
}

async function zipkin(service, url, version) {
  const { BatchRecorder, jsonEncoder, Tracer, ExplicitContext, Annotation } = require('zipkin')
  const { HttpLogger } = require('zipkin-transport-http')
  const logger = new HttpLogger({ endpoint: `${url}/api/v${version}/spans`, jsonEncoder: jsonEncoder[`JSON_V${version}`], httpInterval: 100 })
  const sent = new Promise((resolve) => logger.on('success', resolve))
  const tracer = new Tracer({ ctxImpl: new ExplicitContext(), recorder: new BatchRecorder({ logger }), localServiceName: service })
  tracer.scoped(() => {
    const root = tracer.createRootId()
    tracer.setId(root)
    tracer.recordServiceName(service)
    tracer.recordRpc('GET /things')
    tracer.recordAnnotation(new Annotation.ServerRecv())
    for (const [k, v] of Object.entries(want[0].attributes)) tracer.recordBinary(k, String(v))
    tracer.recordMessage('cache miss')
    tracer.scoped(() => {
      tracer.setId(tracer.createChildId(root))
      tracer.recordServiceName(service)
      tracer.recordRpc('SELECT things')
      tracer.recordAnnotation(new Annotation.ClientSend())
      tracer.recordBinary('db.system', 'postgresql')
      tracer.recordBinary('otel.status_code', 'ERROR')
      tracer.recordBinary('otel.status_description', 'no such thing')
      tracer.recordAnnotation(new Annotation.ClientRecv())
    })
    tracer.setId(root)
    tracer.recordAnnotation(new Annotation.ServerSend())
  })
  // the logger's timer does not keep node alive
  const alive = setInterval(() => {}, 100)
  await sent
  clearInterval(alive)
}

const texts = (o) => Object.fromEntries(Object.entries(o).map(([k, v]) => [k, String(v)]))
const withoutScope = (spans) => spans.map((s) => ({ ...s, scope: ' ' }))
const asZipkin = (spans) => withoutScope(spans).map((s) => ({ ...s, name: s.name.toLowerCase(), parent: s.parent?.toLowerCase() ?? null, attributes: texts(s.attributes), events: s.events.map((e) => ({ name: e.name, attributes: {} })) }))

// the client for Node tells its sampler at the root
const stripped = (spans) => spans.map((s) => { const { 'sampler.type': type, 'sampler.param': param, 'internal.span.format': format, ...attributes } = s.attributes; return { ...s, attributes } })

const grpc = process.env.OTLP_GRPC_URL
const http = process.env.OTLP_HTTP_URL + '/v1/traces'
// for machines that do nothing for seconds
const timeoutMillis = 120000
const ways = {
  'js-grpc': [(s) => opentelemetry(s, new GrpcExporter({ url: grpc, compression: 'gzip', timeoutMillis })), want],
  'js-protobuf': [(s) => opentelemetry(s, new ProtobufExporter({ url: http, compression: 'gzip', timeoutMillis })), want],
  'js-json': [(s) => opentelemetry(s, new JsonExporter({ url: http, timeoutMillis })), want]
}
if (process.env.ZIPKIN_URL)
  for (const version of [1, 2]) ways[`zipkin-js-v${version}`] = [(s) => zipkin(s, process.env.ZIPKIN_URL, version), asZipkin(want)]
if (process.env.JAEGER_HTTP_URL) ways['jaeger-client-http'] = [(s) => jaeger(s, { collectorEndpoint: process.env.JAEGER_HTTP_URL + '/api/traces' }), withoutScope(want)]
if (process.env.JAEGER_BINARY_PORT) ways['jaeger-client-udp'] = [(s) => jaeger(s, { agentHost: '127.0.0.1', agentPort: Number(process.env.JAEGER_BINARY_PORT) }), withoutScope(want)]
// a Collector in between, which passes on over gRPC what comes in at its first port, over HTTP what comes in at the second
for (const [i, protocol] of ['grpc', 'http'].entries()) {
  const port = process.env[`COLLECTOR_PORT_${i + 1}`]
  if (port) ways[`collector-${protocol}`] = [(s) => opentelemetry(s, new GrpcExporter({ url: `http://127.0.0.1:${port}` })), want]
}
for (const [name, command] of Object.entries(JSON.parse(process.env.SAME_CLIENTS ?? '{}'))) {
  const run = (protocol) => (s) => execFileSync(command[0], [...command.slice(1), s, protocol], { stdio: ['ignore', 'inherit', 'inherit'] })
  for (const protocol of ['grpc', 'http']) ways[`${name}-${protocol}`] = [run(protocol), want]
  if (name !== 'go') continue
  // what only Go has: Jaeger's compact Thrift over UDP, and the client generated from Jaeger's own definitions of gRPC
  if (process.env.JAEGER_COMPACT_PORT) ways['go-jaeger-compact'] = [run('jaeger-compact'), withoutScope(want).map((s) => ({ ...s, attributes: { ...s.attributes, 'otel.library.name': 'same', 'otel.library.version': '1' } }))]
  if (process.env.JAEGER_GRPC_PORT) ways['go-jaeger-grpc'] = [run('jaeger-grpc'), withoutScope(want)]
}

for (const [name, [send, expected]] of Object.entries(ways)) {
  const service = `same-${name}-${run}`
  await send(service)
  equal(stripped(await stored(service)), expected, `${name}: the trace is stored as from all clients`)
}
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed ? 1 : 0)
