/** The scrape after a fuzz: every label was known at startup, and the counters include the responses. */
import type { RouteShape } from '../../src/http/route.ts'

export interface SeriesFacts {
  readonly series: number
  readonly rssBytes: number
  /** http_requests_total. */
  readonly requests: number
  readonly requests5xx: number
  readonly faults: readonly string[]
}

const MAX_BUILD_TYPES = 32
const SAMPLE = /^([a-z0-9_]+)(?:\{((?:\w+="[^"\\\n]*",?)+)\})? (\S+)$/

/** `text`: the page of /metrics. */
export function readSeries(
  text: string,
  routes: readonly RouteShape[],
  actions: readonly string[],
): SeriesFacts {
  const known: Readonly<Record<string, ReadonlySet<string>>> = {
    route: new Set([...routes.map(({ path }) => path), 'unmatched']),
    method: new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'OTHER']),
    status_code: new Set(['200', '3xx', '4xx', '5xx']),
    action: new Set([...actions, 'OTHER']),
    source: new Set(['enrollment', 'ota', 'manual']),
  }
  const faults: string[] = []
  const buildTypes = new Set<string>()
  let [series, rssBytes, requests, requests5xx] = [0, 0, 0, 0]
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue
    const [, name, labels = '', value = ''] = SAMPLE.exec(line) ?? []
    series += 1
    if (name === undefined) faults.push(`no sample: ${line}`)
    if (name === 'process_resident_memory_bytes') rssBytes = Number(value)
    if (name === 'http_requests_total') {
      requests += Number(value)
      if (labels.includes('status_code="5xx"')) requests5xx += Number(value)
    }
    for (const [, label = '', given = ''] of labels.matchAll(/(\w+)="([^"]*)"/g)) {
      if (label === 'build_type') buildTypes.add(given)
      if (known[label]?.has(given) === false) faults.push(`${label}="${given}"`)
    }
  }
  if (buildTypes.size > MAX_BUILD_TYPES + 1) faults.push(`${buildTypes.size} build types`)
  return { series, rssBytes, requests, requests5xx, faults }
}
