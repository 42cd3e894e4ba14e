// Decoding as strictly as Grafana's plugin does: what the definitions in
// proto/client do not have is an error, and so is a value in another form.
import { fileURLToPath } from 'node:url'
import protobuf from 'protobufjs'

const folder = fileURLToPath(new URL('../../proto/client/', import.meta.url))
const root = new protobuf.Root()
root.resolvePath = (origin, target) => folder + target
root.loadSync(['tempopb/tempo.proto'], { keepCase: true })
root.resolveAll()

const type = (name) => root.lookupType(name)
const camel = (name) => name.replace(/_([a-z0-9])/g, (_, c) => c.toUpperCase())

// a sub-message that Grafana reads without looking whether it is there
const required = {
  '.tempopb.SearchResponse': ['metrics'], '.tempopb.SearchTagsResponse': ['metrics'], '.tempopb.SearchTagsV2Response': ['metrics'],
  '.tempopb.SearchTagValuesResponse': ['metrics'], '.tempopb.SearchTagValuesV2Response': ['metrics'], '.tempopb.QueryRangeResponse': ['metrics'],
  '.tempopb.QueryInstantResponse': ['metrics'], '.tempopb.TraceByIDResponse': ['trace', 'metrics'],
  '.tempopb.trace.v1.ResourceSpans': ['resource'], '.tempopb.trace.v1.ScopeSpans': ['scope'], '.tempopb.trace.v1.Span': ['status']
}

function jsonScalar(field, value, path, problems) {
  const bad = (want) => problems.push(`${path}: ${JSON.stringify(value)?.slice(0, 60)} is no ${want}`)
  switch (field.type) {
    case 'string': return typeof value === 'string' || bad('string')
    case 'bool': return typeof value === 'boolean' || bad('boolean')
    case 'bytes': return (typeof value === 'string' && Buffer.from(value, 'base64').toString('base64') === value) || bad('base64')
    case 'double': return typeof value === 'number' || ['NaN', 'Infinity', '-Infinity'].includes(value) || bad('double')
    case 'int64': case 'uint64': case 'fixed64': return (typeof value === 'string' && /^-?[0-9]+$/.test(value)) || bad('64-bit number in quotes')
    case 'int32': case 'uint32': case 'fixed32': return Number.isInteger(value) || bad('32-bit number')
  }
  if (field.resolvedType instanceof protobuf.Enum) return (typeof value === 'string' && value in field.resolvedType.values) || bad(`name in ${field.type}`)
  return jsonMessage(field.resolvedType, value, path, problems)
}

function jsonMessage(t, object, path, problems) {
  if (object === null || typeof object !== 'object' || Array.isArray(object)) return problems.push(`${path}: no object`)
  const fields = new Map(t.fieldsArray.map((f) => [camel(f.name), f]))
  for (const [key, value] of Object.entries(object)) {
    const field = fields.get(key)
    const at = `${path}.${key}`
    if (!field) problems.push(`${at}: unknown field`)
    else if (field.map) {
      if (value === null || typeof value !== 'object' || Array.isArray(value)) problems.push(`${at}: no object`)
      else for (const [k, v] of Object.entries(value)) jsonScalar(field, v, `${at}[${k}]`, problems)
    } else if (field.repeated) {
      if (!Array.isArray(value)) problems.push(`${at}: no list`)
      else value.forEach((v, i) => jsonScalar(field, v, `${at}[${i}]`, problems))
    } else jsonScalar(field, value, at, problems)
  }
  for (const name of required[t.fullName] ?? []) if (!(name in object)) problems.push(`${path}.${name}: missing`)
}

// what is wrong with a JSON answer
export function jsonProblems(name, object) {
  const problems = []
  jsonMessage(type(name), object, name, problems)
  return problems
}

const wire = { double: 1, fixed64: 1, fixed32: 5, string: 2, bytes: 2 }
function wireMessage(t, reader, end, path, problems) {
  const seen = new Set()
  while (reader.pos < end) {
    const tag = reader.uint32()
    const field = t.fieldsById[tag >>> 3]
    if (!field) return problems.push(`${path}: unknown field ${tag >>> 3}`)
    seen.add(field.name)
    const at = `${path}.${field.name}`
    const message = field.map || field.resolvedType instanceof protobuf.Type
    const want = message ? 2 : field.resolvedType ? 0 : wire[field.type] ?? 0
    if ((tag & 7) !== want) return problems.push(`${at}: wire type ${tag & 7}`)
    if (!message) reader.skipType(tag & 7)
    else {
      const stop = reader.uint32() + reader.pos
      if (stop > end) return problems.push(`${at}: beyond the end`)
      if (field.map || !field.resolvedType) reader.pos = stop
      else wireMessage(field.resolvedType, reader, stop, at, problems)
      if (reader.pos !== stop) return problems.push(`${at}: wrong length`)
    }
  }
  for (const name of required[t.fullName] ?? []) if (!seen.has(name)) problems.push(`${path}.${name}: missing`)
}

// what is wrong with a protobuf answer
export function wireProblems(name, bytes) {
  const problems = []
  const reader = protobuf.Reader.create(bytes)
  try { wireMessage(type(name), reader, bytes.length, name, problems) } catch (error) { problems.push(String(error)) }
  return problems
}

export const decode = (name, bytes) => type(name).toObject(type(name).decode(bytes), { longs: String, enums: String })
