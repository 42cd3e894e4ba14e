// grafana/: the structure that Grafana wants of a dashboard, and each query of
// each panel asked as Grafana would.
import { readFileSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { jsonProblems } from './strict.mjs'

const folder = fileURLToPath(new URL('../../grafana/', import.meta.url))

// what an object must have: a type, a list of what is in it, or a function
const check = (want, value, path) => {
  if (typeof want === 'string') return (want === 'list' ? Array.isArray(value) : typeof value === want) ? [] : [`${path}: no ${want}`]
  if (typeof want === 'function') return want(value) ? [] : [`${path}: ${JSON.stringify(value)?.slice(0, 80)}`]
  if (Array.isArray(want)) return Array.isArray(value) ? value.flatMap((v, i) => check(want[0], v, `${path}[${i}]`)) : [`${path}: no list`]
  if (value === null || typeof value !== 'object') return [`${path}: no object`]
  return Object.entries(want).flatMap(([k, w]) => check(w, value[k], `${path}.${k}`))
}
const source = { type: (v) => v === 'tempo', uid: (v) => v === '${datasource}' }
const dashboard = {
  uid: (v) => /^[a-zA-Z0-9_-]{1,40}$/.test(v), title: 'string', tags: ['string'], schemaVersion: (v) => v >= 36, version: 'number', editable: 'boolean',
  time: { from: 'string', to: 'string' }, refresh: 'string', timezone: 'string', annotations: { list: 'list' }, links: 'list',
  templating: { list: [{ name: (v) => /^\w+$/.test(v), type: (v) => ['datasource', 'query', 'textbox'].includes(v) }] },
  panels: [{
    id: 'number', title: 'string', type: (v) => ['stat', 'timeseries', 'heatmap', 'table', 'traces'].includes(v), datasource: source,
    gridPos: { x: (v) => v >= 0 && v < 24, y: 'number', w: (v) => v > 0 && v <= 24, h: (v) => v > 0 },
    targets: [{ refId: (v) => /^[A-Z]$/.test(v), datasource: source, queryType: (v) => v === 'traceql', query: 'string' }],
    fieldConfig: { defaults: 'object', overrides: 'list' }, options: 'object'
  }]
}
const overlap = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h

export async function dashboards({ equal, fetchApi, run, now }) {
  const files = readdirSync(folder + 'dashboards').filter((f) => f.endsWith('.json'))
  const all = files.map((f) => JSON.parse(readFileSync(`${folder}dashboards/${f}`)))
  equal([files.length >= 2, new Set(all.map((d) => d.uid)).size], [true, files.length], 'the dashboards have ids of their own')
  const yaml = (f) => readFileSync(`${folder}provisioning/${f}`, 'utf8')
  equal(/^apiVersion: 1$[^]*^ {2}- name: tempo_pg$[^]*type: file$[^]*path: \//m.test(yaml('dashboards/tempo_pg.yaml')), true, 'their provisioning')
  equal(/uid: tempo_pg$/m.test(yaml('datasources/tempo_pg.yaml')), true, 'and that of the data source, whose id is their default')

  const get = async (path, parameters) => { const r = await fetchApi(`${path}?${new URLSearchParams(parameters)}`, { accept: 'application/json' }); return [r.status, r.status === 200 ? JSON.parse(r.body) : r.body.toString()] }
  const range = { start: now - 3600, end: now + 60 }
  const [, found] = await get('/api/search', { q: `{ resource.service.name = "${run}" }`, ...range })
  for (const d of all) {
    equal(check(dashboard, d, d.title), [], `${d.title} has what a dashboard has`)
    equal(d.panels.flatMap((a, i) => d.panels.slice(i + 1).filter((b) => a.id === b.id || overlap(a.gridPos, b.gridPos)).map((b) => [a.title, b.title])), [], `the panels of ${d.title} lie beside each other`)
    const known = new Set([...d.templating.list.map((v) => v.name), '__url_time_range', '__value'])
    const used = [...JSON.stringify(d).matchAll(/\$\{(\w+)/g)].map((m) => m[1])
    equal(used.filter((v) => !known.has(v)), [], `and use its variables`)
    for (const p of d.panels) for (const t of p.targets) {
      const q = t.query.replace('${service:pipe}', run).replace('${filter}', 'true').replace('${trace}', found.traces[0].traceID)
      equal(/\$/.test(q), false, `the query of ${p.title} is complete`)
      const metrics = /\|\s*(rate|count_over_time|avg_over_time|sum_over_time|max_over_time|min_over_time|quantile_over_time|histogram_over_time|compare)\s*\(/.test(q)
      const [message, path, parameters] = /^[0-9A-Fa-f]+$/.test(q) ? ['tempopb.TraceByIDResponse', `/api/v2/traces/${q}`, {}]
        : !metrics ? ['tempopb.SearchResponse', '/api/search', { q, ...range, limit: t.limit, spss: t.spss }]
        : t.metricsQueryType === 'instant' ? ['tempopb.QueryInstantResponse', '/api/metrics/query', { q, ...range }]
        : ['tempopb.QueryRangeResponse', '/api/metrics/query_range', { q, ...range }]
      const [status, body] = await get(path, parameters)
      equal([status, typeof body === 'object' ? jsonProblems(message, body) : body], [200, []], `${d.title}: ${p.title}`)
      equal((body.series ?? body.traces ?? body.trace.resourceSpans).length > 0, true, `${p.title} shows something`)
    }
  }
}
