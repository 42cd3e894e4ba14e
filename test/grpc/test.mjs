// tempopb.StreamingQuerier as grpc-js sees it, with clients generated from our
// own proto files.  What a stream carries is compared with what HTTP answers.
import { execFileSync, spawn } from 'node:child_process'
import { isDeepStrictEqual } from 'node:util'
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import grpc from '@grpc/grpc-js'
import { loadSync, loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader'

import { dashboards } from './dashboards.mjs'
import { grafana } from './grafana.mjs'

const api = process.env.TEMPO_URL ?? 'http://127.0.0.1:3200'
const psql = process.env.PSQL ?? 'psql'
const proto = fileURLToPath(new URL('../../proto', import.meta.url))
const load = (file, ...folders) => grpc.loadPackageDefinition(loadSync(file, { includeDirs: folders, keepCase: true, longs: String, enums: String, defaults: false }))
const { StreamingQuerier } = load('tempo_query.proto', proto).tempopb
const { Health } = load('grpc/health/v1/health.proto', proto + '/client').grpc.health.v1
const address = new URL(api).host
const querier = new StreamingQuerier(address, grpc.credentials.createInsecure())
const health = new Health(address, grpc.credentials.createInsecure())

let passed = 0
let failed = 0
function equal(got, want, name) {
  if (isDeepStrictEqual(got, want)) { passed++; return console.log(`ok ${passed + failed} - ${name}`) }
  failed++
  console.log(`not ok ${passed + failed} - ${name}`)
  for (const [word, v] of [['got ', got], ['want', want]]) console.log(`#   ${word} ${JSON.stringify(v, null, 1)?.slice(0, 3000).replaceAll('\n', '\n#   ')}`)
}

const sql = (text) => execFileSync(psql, ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', '-'], { input: text, encoding: 'utf8', maxBuffer: 1 << 28 }).trim()
async function poll(what, condition, seconds = 300) {
  for (const end = Date.now() + seconds * 1000; ;) {
    const got = await condition()
    if (got) return got
    if (Date.now() > end) throw new Error(`waited ${seconds} s for: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
}
// buffers as text, so that what is compared can be read
const text = (v) => Buffer.isBuffer(v) ? v.toString() : Array.isArray(v) ? v.map(text) : v && typeof v === 'object' ? Object.fromEntries(Object.entries(v).map(([k, x]) => [k, text(x)])) : v
// (but digits are a 64-bit number)
const bytes = (o) => Object.fromEntries(Object.entries(o).map(([k, v]) => [k, typeof v === 'string' && !/^\d+$/.test(v) ? Buffer.from(v) : v]))
const metadata = (o = {}) => { const m = new grpc.Metadata(); for (const [k, v] of Object.entries(o)) m.set(k, v); return m }

// stream: all messages, then the status
const drain = (stream) => new Promise((resolve) => {
  const messages = []
  stream.on('data', (m) => messages.push(text(m)))
  stream.on('error', () => {})
  stream.on('status', (s) => resolve({ code: s.code, details: s.details, messages }))
})
const call = (method, request, { headers, ...options } = {}) => drain(querier[method](bytes(request), metadata(headers), options))

const fetchApi = async (path, headers = {}) => { const r = await fetch(api + path, { headers }); return { status: r.status, body: Buffer.from(await r.arrayBuffer()) } }
const viaHttp = async (method, path, headers = {}) => {
  const r = await fetchApi(path, { accept: 'application/protobuf', ...headers })
  return r.status === 200 ? text(querier[method].responseDeserialize(r.body)) : { status: r.status, body: r.body.toString() }
}
const metric = async (name) => Number((await fetchApi('/metrics')).body.toString().split('\n').find((l) => l.startsWith(name + ' '))?.split(' ')[1])
const blocked = () => sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg query' AND wait_event = 'MessageQueueSend'") === '1'
const active = () => Number(sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg query' AND state = 'active'"))

// one message out of several; every one of them needs its metrics
function merge(messages) {
  const whole = {}
  for (const m of messages) for (const [k, v] of Object.entries(m)) whole[k] = Array.isArray(v) && whole[k] ? [...whole[k], ...v] : v
  return whole
}
const haveMetrics = (r) => r.messages.length > 0 && r.messages.every((m) => m.metrics)

const run = 'grpc-' + randomBytes(6).toString('hex')
const now = Math.floor(Date.now() / 1000)
const range = { start: now - 3600, end: now + 60 }
const inRange = `start=${range.start}&end=${range.end}`

// n traces of two spans, a second apart
function insert(tenant, n, name) {
  sql(`INSERT INTO tempo.spans (tenant, trace_id, span_id, parent_span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes)
    SELECT '${tenant}', (lpad(to_hex(i), 8, '0') || md5('${run}${name}'))::varchar(32)::tempo.trace_id, lpad(to_hex(2 * i + child), 16, '0')::tempo.span_id,
      CASE child WHEN 1 THEN lpad(to_hex(2 * i), 16, '0')::tempo.span_id END, '${name} ' || child, 'server', CASE child WHEN 1 THEN 'error' ELSE 'ok' END,
      ${now - 1800}::bigint * 1000000000 + i * 10000000::bigint, 1000000, jsonb_build_object('run', '${run}', 'i', i, 'slash/ "key"', 'a=b&c'), '{"service.name": "${run}"}'
    FROM generate_series(1, ${n}) AS i, generate_series(0, 1) AS child`)
}

// holds tempo.spans against everybody until the promise of "body" is done
const locked = (body) => holding('LOCK tempo.spans IN ACCESS EXCLUSIVE MODE', "relation = 'tempo.spans'::regclass AND mode = 'AccessExclusiveLock'", body)

async function holding(statement, lock, body) {
  const child = spawn(psql, ['-XqAt', '-f', '-'], { stdio: ['pipe', 'ignore', 'inherit'] })
  const over = new Promise((resolve) => child.on('exit', resolve))
  child.stdin.write(`BEGIN; ${statement};\n`)
  try {
    await poll('the lock', () => sql(`SELECT count(*) FROM pg_locks WHERE ${lock} AND granted`) === '1')
    await body(async () => { child.stdin.end('COMMIT;\n'); await over })
  } finally {
    child.stdin.end('COMMIT;\n')
    await over
  }
}

async function withSettings(settings, ready, body) {
  for (const [k, v] of Object.entries(settings)) sql(`ALTER SYSTEM SET ${k} = '${v}'`)
  sql('SELECT pg_reload_conf()')
  try {
    await poll('the settings', ready)
    await body()
  } finally {
    for (const k of Object.keys(settings)) sql(`ALTER SYSTEM RESET ${k}`)
    sql('SELECT pg_reload_conf()')
    await poll('the settings as they were', async () => !(await ready()))
  }
}

async function healthService() {
  const check = (service) => new Promise((resolve) => health.Check({ service }, (error, answer) => resolve(error ? error.code : answer.status)))
  equal(await check(''), 'SERVING', 'the server is healthy')
  equal(await check('tempopb.StreamingQuerier'), 'SERVING', 'and so is its service')
  equal(await check('x'), grpc.status.NOT_FOUND, 'another is not known')
  const watch = health.Watch({ service: '' })
  const first = await new Promise((resolve) => { watch.on('data', resolve); watch.on('error', () => {}) })
  equal(first, { status: 'SERVING' }, 'health can be watched')
  watch.cancel()
}

// as tools do that know nothing but the address: one call, a question at a time
async function reflection(version) {
  const { ServerReflection } = load(`grpc/reflection/${version}/reflection.proto`, proto + '/client').grpc.reflection[version]
  const client = new ServerReflection(address, grpc.credentials.createInsecure())
  const stream = client.ServerReflectionInfo()
  const answers = []
  let wake = () => {}
  stream.on('data', (m) => { answers.push(m); wake() })
  stream.on('error', () => {})
  const over = new Promise((resolve) => stream.on('status', resolve))
  const ask = async (question) => { const next = new Promise((resolve) => { wake = resolve }); stream.write(question); await next; return answers.at(-1) }

  const list = await ask({ host: 'h', list_services: '' })
  equal(list.list_services_response.service.map((s) => s.name).sort(), ['grpc.health.v1.Health', 'grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection', 'tempopb.StreamingQuerier'], `reflection ${version} lists the services`)
  equal([list.valid_host, list.original_request.host], ['h', 'h'], 'and repeats what it was asked')
  const found = await ask({ file_containing_symbol: 'tempopb.StreamingQuerier' })
  const files = found.file_descriptor_response.file_descriptor_proto
  equal(files.length, 3, 'a file comes with those that it needs')
  for (const symbol of ['tempopb.StreamingQuerier.Search', 'tempopb.SearchRequest', 'tempopb.PartialStatus']) {
    equal((await ask({ file_containing_symbol: symbol })).file_descriptor_response?.file_descriptor_proto[0].equals(files[0]), true, `${symbol} is in the same file`)
  }
  equal((await ask({ file_containing_symbol: 'tempopb.trace.v1.Span.SpanKind' })).file_descriptor_response?.file_descriptor_proto[0].includes('tempopb/trace.proto'), true, 'what is defined in a message is found')
  equal((await ask({ file_by_filename: 'tempopb/tempo.proto' })).file_descriptor_response?.file_descriptor_proto[0].equals(files[0]), true, 'and a file by its name')
  for (const question of [{ file_containing_symbol: 'tempopb.Nothing' }, { file_containing_symbol: 'tempopb' }, { file_containing_symbol: 'tempopb.' }, { file_by_filename: 'x.proto' }, { file_containing_extension: { containing_type: 'tempopb.Span', extension_number: 1 } }, { all_extension_numbers_of_type: 'tempopb.Span' }]) {
    equal((await ask(question)).error_response?.error_code, grpc.status.NOT_FOUND, `there is no ${JSON.stringify(question)}`)
  }
  equal((await ask({})).error_response?.error_code, grpc.status.INVALID_ARGUMENT, 'a question that is none')
  stream.end()
  equal((await over).code, 0, 'the call ends when the client ends it')

  // length-delimited field 1 of a FileDescriptorSet, each
  const varint = (n) => n < 128 ? [n] : [n & 127 | 128, ...varint(n >> 7)]
  const set = Buffer.concat(files.flatMap((f) => [Buffer.from([10, ...varint(f.length)]), f]))
  const { StreamingQuerier: Learned } = grpc.loadPackageDefinition(loadFileDescriptorSetFromBuffer(set, { keepCase: true, longs: String, enums: String })).tempopb
  const learned = new Learned(address, grpc.credentials.createInsecure())
  const got = await drain(learned.Search({ Query: `{ span.run = "${run}" && name =~ "few.*" }`, ...range, Limit: 2 }))
  equal([got.code, got.messages.at(-1)?.traces?.length, got.messages.at(-1)?.traces?.[0].spanSet?.matched], [0, 2, 2], 'a client made of what it told can search')
  const empty = client.ServerReflectionInfo()
  const end = drain(empty)
  empty.end()
  equal(await end.then((r) => [r.code, r.messages.length]), [0, 0], 'a call without a question')
  client.close()
  learned.close()
}

async function search() {
  const q = `{ span.run = "${run}" && name =~ "few.*" }`
  const query = { query: q, ...range }
  const got = await call('Search', query)
  const want = await viaHttp('Search', `/api/search?q=${encodeURIComponent(q)}&${inRange}`)
  equal([got.code, got.details, haveMetrics(got)], [0, '', true], 'a search ends well and has metrics')
  equal(merge(got.messages), want, 'a search finds what it finds over HTTP')
  equal(want.traces.length, 20, 'which is 20 traces if not said otherwise')
  const some = await call('Search', { ...query, limit: 3, spans_per_span_set: 1 })
  equal(merge(some.messages).traces.map((t) => [t.traceID, t.span_set.spans.length, t.span_set.matched]), want.traces.slice(0, 3).map((t) => [t.traceID, 1, 2]), 'limit and spans per spanset')
  const tags = await call('Search', { tags: [{ key: Buffer.from('run'), value: Buffer.from(run) }, { key: Buffer.from('name'), value: Buffer.from('few 1') }], min_duration_ms: 1, limit: 50, ...range })
  equal([tags.code, merge(tags.messages).traces?.length], [0, 25], 'a search by tags')
  const quoted = await call('Search', { tags: [{ key: Buffer.from('run'), value: Buffer.from('a "b" \\ c=d\n') }], ...range })
  equal([quoted.code, quoted.messages.length, haveMetrics(quoted), merge(quoted.messages).traces], [0, 1, true, undefined], 'by a tag that nothing has, hard to quote; what finds nothing has one message with metrics')
  equal((await call('Search', {})).code, 0, 'an empty request is a search for everything')
}

async function tags() {
  const q = `{ resource.service.name = "${run}" }`
  const value = encodeURIComponent('span."slash/ \\"key\\""')
  for (const [method, request, path] of [
    ['SearchTags', { ...range }, `/api/search/tags?${inRange}`],
    ['SearchTags', { scope: 'resource', ...range }, `/api/search/tags?scope=resource&${inRange}`],
    ['SearchTagsV2', { query: q, ...range }, `/api/v2/search/tags?q=${encodeURIComponent(q)}&${inRange}`],
    ['SearchTagsV2', { scope: 'span', max_tags_per_scope: 1, ...range }, `/api/v2/search/tags?scope=span&limit=1&${inRange}`],
    ['SearchTagValues', { tag_name: 'service.name', ...range }, `/api/search/tag/service.name/values?${inRange}`],
    ['SearchTagValuesV2', { tag_name: 'span.run', ...range }, `/api/v2/search/tag/span.run/values?${inRange}`],
    ['SearchTagValuesV2', { tag_name: 'span."slash/ \\"key\\""', query: q, ...range }, `/api/v2/search/tag/${value}/values?q=${encodeURIComponent(q)}&${inRange}`],
    ['SearchTagValuesV2', { tag_name: 'span.i', query: q, max_tag_values: 2, ...range }, `/api/v2/search/tag/span.i/values?limit=2&q=${encodeURIComponent(q)}&${inRange}`],
    ['SearchTagValuesV2', { tag_name: 'status' }, '/api/v2/search/tag/status/values']
  ]) {
    const got = await call(method, request)
    equal([got.code, haveMetrics(got), merge(got.messages)], [0, true, await viaHttp(method, path)], `${method} ${JSON.stringify(request)}`)
  }
}

async function metrics() {
  const nanos = { start: String(BigInt(now - 3600) * 1000000000n), end: String(BigInt(now) * 1000000000n) }
  const q = `{ resource.service.name = "${run}" } | count_over_time() by (name)`
  for (const [method, path, more] of [['MetricsQueryRange', 'query_range', { step: String(600n * 1000000000n) }], ['MetricsQueryInstant', 'query', {}]]) {
    const got = await call(method, { query: q, ...nanos, ...more })
    const http = await fetchApi(`/api/metrics/${path}?q=${encodeURIComponent(q)}&start=${now - 3600}&end=${now}&step=600`)
    if (http.status === 200) {
      const names = (series) => (series ?? []).map((s) => (s.labels ?? []).map((l) => [l.key, l.value?.string_value ?? l.value?.stringValue]))
      equal([got.code, haveMetrics(got), names(merge(got.messages).series)], [0, true, names(JSON.parse(http.body).series)], `${method} has the series that HTTP has`)
      const examples = (series) => (series ?? []).flatMap((s) => (s.exemplars ?? []).map((e) => [e.value, String(e.timestamp_ms ?? e.timestampMs), names([e])]))
      equal([examples(merge(got.messages).series).length > 0, examples(merge(got.messages).series)], [method === 'MetricsQueryRange', examples(JSON.parse(http.body).series)], `${method} has the exemplars that HTTP has`)
    } else equal([http.status, got.code], [501, grpc.status.UNIMPLEMENTED], `${method} is not supported where HTTP does not`)
    equal((await call(method, { query: '{}', ...nanos })).details, 'not a metrics query', `${method} refuses what is no metrics query`)
  }
  const late = await call('MetricsQueryRange', { query: '{} | rate()', start: 5, end: 4 })
  equal([late.code, late.details], [grpc.status.INVALID_ARGUMENT, 'end must be greater than start'], 'times are nanoseconds, however small')
}

async function errors() {
  const outcome = async (...args) => { const r = await call(...args); return [r.code, r.details, r.messages.length] }
  equal(await outcome('Search', { query: '{ .a = }' }), [3, 'invalid TraceQL query: parse error at line 1, col 8: syntax error: unexpected }', 0], 'a query that is wrong')
  equal(await outcome('Search', { query: '{}', limit: 300000 }), [3, 'limit 300000 exceeds max limit 262144', 0], 'a limit too large')
  equal(await outcome('Search', { start: 5 }), [3, 'http parameter start must be before end. received start=5 end=0', 0], 'half a range')
  equal((await outcome('Search', { query: '{}', tags: [{ key: Buffer.from('a'), value: Buffer.from('b') }] }))[0], 3, 'a query and tags')
  equal((await outcome('Search', { tags: [{ key: Buffer.from('a b'), value: Buffer.from('c"') }, { key: Buffer.from('a'), value: Buffer.alloc(3, 255) }] }))[0], 3, 'tags that are none')
  equal((await outcome('SearchTagValuesV2', { tag_name: 'foo.bar' }))[0], 3, 'a tag name that is none')
  equal(await outcome('SearchTagValues', {}), [3, 'please provide a tagName', 0], 'no tag name')
  equal(await outcome('SearchTags', { scope: 'foo' }), [3, 'invalid scope: foo', 0], 'a scope that is none')
  equal((await outcome('Search', { query: 'x'.repeat(131073) }))[0], 3, 'a query too long')
  const raw = async (path, body) => { const r = await drain(querier.makeServerStreamRequest(path, (x) => x, (x) => x, body, metadata(), {})); return [r.code, r.details] }
  equal(await raw('/tempopb.StreamingQuerier/Nothing', Buffer.alloc(0)), [12, 'unknown method Nothing for service tempopb.StreamingQuerier'], 'an unknown method')
  equal(await raw('/tempopb.Nothing/Search', Buffer.alloc(0)), [12, 'unknown service tempopb.Nothing'], 'an unknown service')
  equal((await raw('/tempopb.StreamingQuerier/Search', Buffer.from([0x42, 0x7f, 1])))[0], 13, 'a message that is none')
  equal((await raw('/tempopb.StreamingQuerier/Search', Buffer.from([0x52, 0x02, 0x08, 0x01, 0xfa, 0x07, 0x01, 0x00])))[0], 0, 'fields we do not know are skipped')
}

async function packets() {
  const q = `{ span.run = "${run}" && name =~ "few.*" }`
  const want = await viaHttp('Search', `/api/search?limit=100&q=${encodeURIComponent(q)}&${inRange}`)
  const split = () => call('Search', { query: q, limit: 100, ...range })
  await withSettings({ 'tempo_pg.stream_packet_bytes': 1024 }, async () => (await split()).messages.length > 1, async () => {
    const got = await split()
    equal([haveMetrics(got), merge(got.messages)], [true, want], 'a large answer comes in several messages with metrics each')
  })
  equal((await split()).messages.length, 1, 'and a small one in one')
  await withSettings({ 'tempo_pg.http_api_prefix': '/tempo' }, async () => (await fetchApi('/tempo/api/echo')).status === 200, async () => {
    equal(merge((await split()).messages), want, 'methods are at the root whatever the prefix of the HTTP paths')
  })
}

async function tenants() {
  insert(run + 'A', 2, 'one')
  insert(run + 'B', 3, 'two')
  const count = async (tenant) => { const r = await call('Search', { query: `{ span.run = "${run}" }`, ...range }, tenant ? { headers: { 'x-scope-orgid': tenant } } : {}); return r.code ? [r.code, r.details] : merge(r.messages).traces?.length ?? 0 }
  await withSettings({ 'tempo_pg.multitenancy': 'on' }, async () => (await fetchApi('/api/search?q={}')).status === 401, async () => {
    equal(await count(), [3, 'no org id'], 'a tenant is needed')
    equal(await count(run + 'A'), 2, 'a tenant sees its own')
    equal(await count(`${run}B|${run}A`), 5, 'two at once')
    equal(await count('nobody'), 0, 'an unknown one has nothing')
    equal(await count('x#y'), [3, "tenant ID 'x#y' contains unsupported character '#'"], 'and what is none is told so')
    equal(await new Promise((resolve) => health.Check({}, (e, a) => resolve(a?.status))), 'SERVING', 'health needs none')
  })
}

// Spans older than an hour cannot be read while a lock is held, newer ones can:
// what is known of the newer ones arrives before the query has ended.
// (They stay in different segments, since nothing is merged meanwhile.)
async function increments() {
  const lock = randomBytes(3).readUIntBE(0, 3)
  const tenant = 'single-tenant'
  for (const [i, age, seconds] of [[1, 'new', 60], [2, 'old', 10800]]) {
    sql(`INSERT INTO tempo.spans (tenant, trace_id, span_id, name, kind, status, start_time_unix_nano, duration_nano, attributes, resource_attributes)
      VALUES ('${tenant}', ('0000000${i}' || md5('${run}age'))::varchar(32)::tempo.trace_id, '000000000000000${i}', 'age', 'server', 'ok',
        ${now - seconds}::bigint * 1000000000, 1000000, '{"age": "${age}", "run": "${run}"}', '{"service.name": "age"}')`)
  }
  sql(`CREATE FUNCTION public.gate() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(${lock}); RETURN true; END';
    GRANT EXECUTE ON FUNCTION public.gate() TO tempo_reader;
    CREATE POLICY gate ON tempo.spans FOR SELECT TO tempo_reader USING (CASE WHEN start_time_unix_nano >= ${now - 9000}::bigint * 1000000000 THEN true ELSE public.gate() END);
    ALTER TABLE tempo.spans ENABLE ROW LEVEL SECURITY`)
  const seconds = { start: now - 14400, end: now }
  const nanos = { start: String(BigInt(now - 14400) * 1000000000n), end: String(BigInt(now) * 1000000000n), step: String(60n * 1000000000n) }
  const q = `{ span.run = "${run}" && name = "age" }`
  const traces = (m) => (m.traces ?? []).map((t) => t.span_set.spans[0].attributes.find((a) => a.key === 'run') && t.traceID.replace(/^0+/, '')[0]).sort()
  const values = (m) => (m.tag_values ?? []).map((v) => v.value ?? v)
  const value = (m) => m.series?.[0]?.value
  const total = (m) => (m.series ?? []).flatMap((s) => s.samples).reduce((n, s) => n + (s.value ?? 0), 0)
  try {
    for (const [method, request, what, first, last] of [
      ['SearchTagValuesV2', { tag_name: 'span.age', query: `{ span.run = "${run}" }`, ...seconds }, values, ['new'], ['new', 'old']],
      ['SearchTagValues', { tag_name: 'age', ...seconds }, values, ['new'], ['new', 'old']],
      ['SearchTagsV2', { scope: 'span', query: q, ...seconds }, (m) => m.scopes?.[0].tags, ['age', 'run'], ['age', 'run']],
      ['MetricsQueryRange', { query: `${q} | count_over_time()`, ...nanos }, total, 1, 2],
      // so far, of the whole range
      ['MetricsQueryInstant', { query: `${q} | count_over_time()`, start: nanos.start, end: nanos.end }, value, 1, 2],
      ['MetricsQueryInstant', { query: `(${q} | rate()) * 14400`, start: nanos.start, end: nanos.end }, (m) => Math.round(value(m)), 1, 2],
      ['MetricsQueryInstant', { query: `${q} | compare({ span.age = "old" })`, start: nanos.start, end: nanos.end },
        (m) => m.series.flatMap((s) => s.labels).filter((l) => l.key === 'span.age').map((l) => l.value.string_value).sort(), ['new', 'nil'], ['new', 'nil', 'nil', 'old']]
    ]) {
      await holding(`SELECT pg_advisory_lock(${lock})`, `locktype = 'advisory' AND objid = ${lock} AND mode = 'ExclusiveLock'`, async (release) => {
        const stream = querier[method](bytes(request), metadata())
        const arrived = []
        stream.on('data', (m) => arrived.push(text(m)))
        const over = drain(stream)
        // a message may come before anything is known
        const known = (m) => isDeepStrictEqual(what(m), first)
        const message = await Promise.race([poll('the newest results', () => arrived.find(known)).catch(() => arrived.at(-1)), over.then(() => arrived.at(-1))])
        equal(message && what(message), first, `${method}: the newest results arrive`)
        equal([!!message?.metrics, active() === 1], [true, true], `${method}: with metrics, while the query still runs`)
        if (method === 'SearchTagValuesV2') {
          const left = querier[method](bytes(request), metadata())
          const end = drain(left)
          await new Promise((resolve) => left.once('data', resolve))
          left.cancel()
          equal((await end).code, grpc.status.CANCELLED, 'a client leaves in the middle of a stream')
          await poll('the end of its query', () => active() === 1)
        }
        await poll('the query to wait', () => sql(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = ${lock} AND NOT granted`) === '1')
        await release()
        const all = await over
        equal([all.code, what(all.messages.at(-1)), haveMetrics(all)], [0, last, true], `${method}: the last message has everything`)
      })
    }
    sql('ALTER TABLE tempo.spans DISABLE ROW LEVEL SECURITY')
    await withSettings({ 'tempo_pg.stream_interval': 0 }, async () => (await call('Search', { query: q, ...seconds })).messages.length > 1, async () => {
      const all = await call('Search', { query: q, ...seconds })
      equal([all.code, haveMetrics(all), all.messages.map((m) => [m.metrics.completed_jobs, traces(m)])], [0, true, [[undefined, ['1']], [undefined, []], [1, ['1', '2']]]], 'a search sends the newest traces first, each once, and at last everything')
    })
    sql('ALTER TABLE tempo.spans ENABLE ROW LEVEL SECURITY')
    const late = await call('Search', { query: q, limit: 1, ...seconds })
    equal([late.code, late.messages.length, traces(late.messages[0])], [0, 1, ['1']], 'a search whose limit the newest part reaches does not look at the rest')
    await holding(`SELECT pg_advisory_lock(${lock})`, `locktype = 'advisory' AND objid = ${lock} AND mode = 'ExclusiveLock'`, async () => {
      const stream = querier.SearchTagValuesV2(bytes({ tag_name: 'span.age', query: `{ span.run = "${run}" }`, ...seconds }), metadata())
      const over = drain(stream)
      await new Promise((resolve) => stream.once('data', resolve))
      sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tempo_pg query' AND state = 'active'")
      const end = await over
      equal([end.code !== 0, end.messages.length > 0], [true, true], 'a query that fails in the middle ends its stream with an error')
    })
  } finally {
    sql('DROP POLICY gate ON tempo.spans; ALTER TABLE tempo.spans DISABLE ROW LEVEL SECURITY; DROP FUNCTION public.gate()')
  }
}

async function patience() {
  await locked(async () => {
    const before = await metric('tempo_pg_requests_cancelled_total')
    const stream = querier.Search(bytes({ query: '{}', ...range }), metadata())
    const over = drain(stream)
    await poll('the query', () => active() === 1)
    stream.cancel()
    equal((await over).code, grpc.status.CANCELLED, 'a client leaves')
    await poll('the cancellation', () => active() === 0)
    equal(await metric('tempo_pg_requests_cancelled_total') > before, true, 'its query is cancelled')

    const late = await call('Search', { query: '{}', ...range }, { deadline: Date.now() + 500 })
    equal(late.code, grpc.status.DEADLINE_EXCEEDED, 'the deadline of a client')
    await poll('the end of that query', () => active() === 0)

    const lost = call('Search', { query: '{}', ...range })
    await poll('the query', () => active() === 1)
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'tempo_pg query' AND state = 'active'")
    equal((await lost).code, grpc.status.INTERNAL, 'a query whose worker dies')
  })
  equal((await call('Search', { query: '{}', ...range })).code, 0, 'the next one has another worker')
}

async function crowd() {
  const query = bytes({ query: `{ span.run = "${run}" && name =~ "few.*" }`, ...range })
  const codes = await Promise.all(Array.from({ length: 300 }, (_, i) => {
    const stream = querier.Search(query, metadata())
    const over = drain(stream)
    if (i % 3 === 0) stream.cancel()
    if (i % 3 === 1) setTimeout(() => stream.cancel(), i % 50)
    return over.then((r) => i % 3 === 2 ? [r.code, merge(r.messages).traces?.length] : [r.code === grpc.status.CANCELLED || r.code === 0])
  }))
  equal(codes.filter((c) => !isDeepStrictEqual(c, [true]) && !isDeepStrictEqual(c, [0, 20])), [], 'of many calls those that stay are answered while others leave')
  await poll('idle workers', () => active() === 0)
  equal(await poll('nothing to wait', async () => (await metric('tempo_pg_requests_waiting')) === 0), true, 'and nothing is left behind')
}

async function slowReader() {
  // long names make a large answer of few traces: each has its name three times
  const n = 1500
  insert('single-tenant', n, 'many' + 'x'.repeat(2000))
  const query = { query: `{ span.run = "${run}" && name =~ "many.*0" }`, limit: n, ...range }
  const few = { query: `{ span.run = "${run}" && name =~ "few.*" }`, ...range }

  // grpc-js reads up to 16 messages ahead of a reader that has paused, so they must be small
  await withSettings({ 'tempo_pg.stream_packet_bytes': 16384 }, async () => (await call('Search', { ...query, limit: 100 })).messages.length > 16, async () => {
    const slow = () => { const s = querier.Search(bytes(query), metadata()); s.once('data', () => s.pause()); return s }
    const stream = slow()
    const got = drain(stream)
    await poll('the worker of a client that does not read', blocked)
    equal((await call('Search', few)).code, 0, 'others are served meanwhile')
    stream.resume()
    const all = await got
    const ids = new Set(merge(all.messages).traces.map((t) => t.traceID))
    equal([all.code, ids.size, all.messages.length > 4, haveMetrics(all)], [0, n, true, true], 'it gets everything once it reads')
    const left = slow()
    left.on('error', () => {})
    await poll('the worker of another', blocked)
    left.cancel()
    await poll('its end when the client leaves', () => active() === 0)
    equal((await call('Search', few)).code, 0, 'and then the worker serves others')
  })
}

// with clients made of proto/client, messages left as they are
async function replay() {
  const { StreamingQuerier: Client } = load('tempopb/tempo.proto', proto + '/client').tempopb
  const client = new Client(address, grpc.credentials.createInsecure())
  const rawCall = (method, request) => new Promise((resolve) => {
    const d = Client.service[method]
    const stream = client.makeServerStreamRequest(d.path, d.requestSerialize, (x) => x, request, metadata(), {})
    const messages = []
    stream.on('data', (m) => messages.push(m))
    stream.on('error', () => {})
    stream.on('status', (s) => resolve({ code: s.code, messages }))
  })
  await grafana({ equal, fetchApi, rawCall, run, now })
  await dashboards({ equal, fetchApi, run, now })
  client.close()
}

// the same port with TLS: what it streams is what it streams without
async function overTls() {
  const request = bytes({ query: `{ span.run = "${run}" }`, start: now - 3600, end: now + 3600, limit: 100 })
  const plain = await drain(querier.Search(request, metadata(), {}))
  sql(`COPY (SELECT 1) TO PROGRAM 'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout grpc-test.key -out grpc-test.crt 2>/dev/null && chmod 600 grpc-test.key'`)
  const ca = Buffer.from(sql("SELECT pg_read_file('grpc-test.crt')") + '\n')
  const client = new StreamingQuerier(address, grpc.credentials.createSsl(ca))
  const ids = (answer) => ({ code: answer.code, traces: answer.messages.flatMap((m) => m.traces ?? []).map((t) => t.traceID).sort() })
  const refused = await drain(client.Search(request, metadata(), {}))
  equal(refused.code, grpc.status.UNAVAILABLE, 'TLS to a port without is refused')
  for (const [name, value] of [['tls_cert_file', 'grpc-test.crt'], ['tls_key_file', 'grpc-test.key'], ['tls', 'api']]) sql(`ALTER SYSTEM SET tempo_pg.${name} = '${value}'`)
  try {
    sql('SELECT pg_reload_conf()')
    const got = await poll('an answer over TLS', async () => { const a = await drain(client.Search(request, metadata(), {})); return a.code === 0 && a })
    equal([ids(plain).traces.length > 0, ids(got)], [true, ids(plain)], 'Search over TLS')
    const other = new StreamingQuerier(address, grpc.credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 })
    const told = await drain(other.Search(request, metadata(), {}))
    equal(told.code, grpc.status.UNAVAILABLE, 'plain text to a port with TLS is refused')
    other.close()
  } finally {
    client.close()
    for (const name of ['tls', 'tls_cert_file', 'tls_key_file']) sql(`ALTER SYSTEM RESET tempo_pg.${name}`)
    sql('SELECT pg_reload_conf()')
    await poll('an answer without TLS', () => fetchApi('/ready').then((r) => r.status === 200, () => false))
  }
}

// Answers tell how much was looked at, which merging changes.
const withoutCompaction = (body) => withSettings({ 'tempo_pg.compaction': 'off' },
  () => sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'tempo_pg compaction' AND datname IS NOT NULL") === '0', body)

try {
  await withoutCompaction(async () => {
    insert('single-tenant', 25, 'few')
    for (const test of [healthService, () => reflection('v1'), () => reflection('v1alpha'), search, replay, tags, metrics, errors, packets, tenants, increments, patience, crowd, slowReader, overTls]) {
      try { await test() } catch (error) { failed++; console.log(`not ok ${passed + failed} - ${test.name}: ${error.stack}`) }
    }
  })
} catch (error) { failed++; console.log(`not ok ${passed + failed} - ${error.stack}`) }
querier.close()
health.close()
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed ? 1 : 0)
