// What the test expects: spans of the SDK as OTLP/JSON, and the ways to bring
// every answer of the server to one comparable form.

const bytesToBase64 = (b) => Buffer.from(b).toString('base64')

export function anyValue(v) {
  if (v === null || v === undefined) return {}
  if (typeof v === 'string') return { stringValue: v }
  if (typeof v === 'boolean') return { boolValue: v }
  if (typeof v === 'number') {
    if (Number.isInteger(v)) return { intValue: String(v) }
    return { doubleValue: Number.isFinite(v) ? v : String(v) }
  }
  if (v instanceof Uint8Array) return { bytesValue: bytesToBase64(v) }
  if (Array.isArray(v)) return { arrayValue: { values: v.map(anyValue) } }
  return { kvlistValue: { values: keyValues(v) } }
}

export const keyValues = (o = {}) => Object.entries(o).map(([key, v]) => ({ key, value: anyValue(v) }))

const nanos = ([s, ns]) => String(BigInt(s) * 1000000000n + BigInt(ns))
const flags = (context, remote) => (context.traceFlags & 0xff) | 0x100 | (remote ? 0x200 : 0)

// expected: one flat record per span of the SDK
export function expected(span) {
  const context = span.spanContext()
  return canonical({
    resource: { attributes: keyValues(span.resource.attributes) },
    scope: { name: span.instrumentationScope.name, version: span.instrumentationScope.version, schemaUrl: span.instrumentationScope.schemaUrl },
    span: {
      traceId: context.traceId, spanId: context.spanId, parentSpanId: span.parentSpanContext?.spanId, traceState: context.traceState?.serialize(),
      flags: flags(context, span.parentSpanContext?.isRemote), name: span.name, kind: span.kind + 1,
      startTimeUnixNano: nanos(span.startTime), endTimeUnixNano: nanos(span.endTime),
      attributes: keyValues(span.attributes), droppedAttributesCount: span.droppedAttributesCount,
      events: span.events.map((e) => ({ timeUnixNano: nanos(e.time), name: e.name, attributes: keyValues(e.attributes), droppedAttributesCount: e.droppedAttributesCount })),
      droppedEventsCount: span.droppedEventsCount,
      links: span.links.map((l) => ({ traceId: l.context.traceId, spanId: l.context.spanId, traceState: l.context.traceState?.serialize(), attributes: keyValues(l.attributes),
        droppedAttributesCount: l.droppedAttributesCount, flags: flags(l.context, l.context.isRemote) })),
      droppedLinksCount: span.droppedLinksCount, status: { code: span.status.code, message: span.status.message }
    }
  })
}

// flatten: the records of an OTLP/JSON trace; ids may be hex or base64
export function flatten(resourceSpans) {
  const records = []
  for (const rs of resourceSpans)
    for (const ss of rs.scopeSpans)
      for (const span of ss.spans)
        records.push(canonical({ resource: rs.resource, resourceSchemaUrl: rs.schemaUrl, scope: { ...ss.scope, schemaUrl: ss.schemaUrl }, span }))
  return records
}

const KINDS = ['UNSPECIFIED', 'INTERNAL', 'SERVER', 'CLIENT', 'PRODUCER', 'CONSUMER'].map((k) => 'SPAN_KIND_' + k)
const CODES = ['UNSET', 'OK', 'ERROR'].map((k) => 'STATUS_CODE_' + k)
const IDS = { traceId: 32, spanId: 16, parentSpanId: 16 }

// canonical: no defaults, ids in hex, enums as numbers, attributes by key
export function canonical(x, key = '') {
  if (Array.isArray(x)) {
    const list = x.map((v) => canonical(v))
    return key === 'attributes' ? list.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)) : list
  }
  if (typeof x === 'object' && x !== null) {
    const out = {}
    for (const k of Object.keys(x).sort()) {
      let v = x[k]
      if (k in IDS && typeof v === 'string' && v.length !== IDS[k]) v = Buffer.from(v, 'base64').toString('hex')
      if (k === 'kind' && typeof v === 'string') v = KINDS.indexOf(v)
      if (k === 'code' && typeof v === 'string') v = CODES.indexOf(v)
      if (k === 'intValue') v = String(v)
      if (k === 'key' || k.endsWith('Value')) { out[k] = canonical(v, k); continue }
      v = canonical(v, k)
      const empty = v === undefined || v === null || v === '' || v === 0 || (Array.isArray(v) && v.length === 0) || (typeof v === 'object' && Object.keys(v).length === 0 && k !== 'value')
      if (!empty) out[k] = v
    }
    return out
  }
  return x
}

// jsonb: a value as tempo.spans shows it
export function jsonb(v) {
  if (v === null || v === undefined) return { $otlp: {} }
  if (v instanceof Uint8Array) return { $otlp: { bytesValue: bytesToBase64(v) } }
  if (typeof v === 'number' && !Number.isFinite(v)) return { $otlp: { doubleValue: String(v) } }
  if (Array.isArray(v)) return v.map(jsonb)
  if (typeof v === 'object') return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, jsonb(x)]))
  return v
}

// ------------------------------------------------------------------ protobuf
// field number -> [name, type, repeated]; types: s text, b bytes, v varint,
// i signed varint, f fixed64, w fixed32, d double, o bool, or a message
const AnyValue = {}
const KeyValue = { 1: ['key', 's'], 2: ['value', AnyValue] }
const ArrayValue = { 1: ['values', AnyValue, true] }
const KeyValueList = { 1: ['values', KeyValue, true] }
Object.assign(AnyValue, { 1: ['stringValue', 's'], 2: ['boolValue', 'o'], 3: ['intValue', 'i'], 4: ['doubleValue', 'd'], 5: ['arrayValue', ArrayValue], 6: ['kvlistValue', KeyValueList], 7: ['bytesValue', 'b'] })
const Event = { 1: ['timeUnixNano', 'f'], 2: ['name', 's'], 3: ['attributes', KeyValue, true], 4: ['droppedAttributesCount', 'v'] }
const Link = { 1: ['traceId', 'b'], 2: ['spanId', 'b'], 3: ['traceState', 's'], 4: ['attributes', KeyValue, true], 5: ['droppedAttributesCount', 'v'], 6: ['flags', 'w'] }
const Status = { 2: ['message', 's'], 3: ['code', 'v'] }
const Span = { 1: ['traceId', 'b'], 2: ['spanId', 'b'], 3: ['traceState', 's'], 4: ['parentSpanId', 'b'], 5: ['name', 's'], 6: ['kind', 'v'], 7: ['startTimeUnixNano', 'f'], 8: ['endTimeUnixNano', 'f'],
  9: ['attributes', KeyValue, true], 10: ['droppedAttributesCount', 'v'], 11: ['events', Event, true], 12: ['droppedEventsCount', 'v'], 13: ['links', Link, true], 14: ['droppedLinksCount', 'v'], 15: ['status', Status], 16: ['flags', 'w'] }
const Scope = { 1: ['name', 's'], 2: ['version', 's'], 3: ['attributes', KeyValue, true], 4: ['droppedAttributesCount', 'v'] }
const ScopeSpans = { 1: ['scope', Scope], 2: ['spans', Span, true], 3: ['schemaUrl', 's'] }
const Resource = { 1: ['attributes', KeyValue, true], 2: ['droppedAttributesCount', 'v'] }
const ResourceSpans = { 1: ['resource', Resource], 2: ['scopeSpans', ScopeSpans, true], 3: ['schemaUrl', 's'] }
export const Trace = { 1: ['resourceSpans', ResourceSpans, true] }
export const TraceByIDResponse = { 1: ['trace', Trace] }

export function decode(buffer, message) {
  const out = {}
  for (const [name, , repeated] of Object.values(message)) if (repeated) out[name] = []
  let at = 0
  const varint = () => {
    let n = 0n
    for (let shift = 0n; ; shift += 7n) {
      const b = buffer[at++]
      n |= BigInt(b & 127) << shift
      if (b < 128) return n
    }
  }
  while (at < buffer.length) {
    const tag = Number(varint())
    const [name, type, repeated] = message[tag >> 3] ?? []
    let raw
    switch (tag & 7) {
      case 0: raw = varint(); break
      case 1: raw = buffer.subarray(at, at += 8); break
      case 2: { const n = Number(varint()); raw = buffer.subarray(at, at += n); break }
      case 5: raw = buffer.subarray(at, at += 4); break
      default: throw new Error('wire type ' + (tag & 7))
    }
    if (!name) continue
    const v = typeof type === 'object' ? decode(raw, type)
      : { s: () => raw.toString('utf8'), b: () => raw.toString('base64'), v: () => Number(raw), i: () => String(BigInt.asIntN(64, raw)), f: () => String(raw.readBigUInt64LE()), w: () => raw.readUInt32LE(),
          o: () => raw !== 0n, d: () => { const d = raw.readDoubleLE(); return Number.isFinite(d) ? d : String(d) } }[type]()
    if (repeated) out[name].push(v); else out[name] = v
  }
  return out
}
