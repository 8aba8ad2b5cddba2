/** Counters that a service must have after a simulation: each non-zero series, exactly. */
import type { Summary } from './summary.ts'

/** Values by `name{label="value",…}`, with sorted labels. */
export type Series = ReadonlyMap<string, number>

/** Metrics whose series a simulation knows completely. */
export const KNOWN_FAMILIES: ReadonlySet<string> = new Set([
  'http_requests_total',
  'http_request_latency_ms_count',
  'heartbeats_ingested_total',
  'heartbeats_dedup_hits_total',
  'fcm_dispatch_latency_ms_count',
  'apk_download_total',
])
/** Requested by others, or before the simulation counts. */
const NOT_SIMULATED = /route="(\/metrics|\/readyz|\/admin\/apk\/builds\/\{build_id\})"/
const BUILD_TYPE = 'debug'
const STORED_HEARTBEATS: readonly string[] = [
  'heartbeats_ingested_total{}',
  'heartbeats_dedup_hits_total{}',
]
const HEARTBEAT_REFUSED = 'POST /v1/heartbeat 503'

/** Skips requests without a response, which no service counts. */
export function expectedSeries({
  answers: responses,
  heartbeats,
  downloads,
  fcm,
}: Summary): Series {
  const series = new Map<string, number>()
  const add = (name: string, labels: Readonly<Record<string, string>>, count: number) => {
    const key = keyOf(name, labels)
    if (count > 0) series.set(key, (series.get(key) ?? 0) + count)
  }
  for (const [name, count] of Object.entries(responses)) {
    const [method = '', route = '', status = ''] = name.split(' ')
    const coarse = status.startsWith('2') ? '200' : `${status.slice(0, 1)}xx`
    add('http_requests_total', { route, method, status_code: coarse }, count)
    add('http_request_latency_ms_count', { route }, count)
  }
  add('heartbeats_ingested_total', {}, heartbeats.stored)
  add('heartbeats_dedup_hits_total', {}, heartbeats.deduped)
  for (const [action, count] of Object.entries(fcm?.by_action ?? {})) {
    add('fcm_dispatch_latency_ms_count', { action }, count)
  }
  for (const source of ['enrollment', 'ota'] as const) {
    add('apk_download_total', { build_type: BUILD_TYPE, source }, downloads[source])
  }
  return series
}

export function seriesOfPage(page: string): Series {
  return seriesOf(
    page.split('\n').flatMap((line) => {
      const [, name, labels = '', value] = /^([a-z]\w*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
      if (name === undefined) return []
      const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)]
      return [
        {
          name,
          labels: Object.fromEntries(pairs.map(([, label = '', text = '']) => [label, text])),
          value: Number(value),
        },
      ]
    }),
  )
}

export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** The subset that a simulation knows. */
export function seriesOf(samples: readonly Sample[]): Series {
  return new Map(
    samples
      .filter(({ name, value }) => KNOWN_FAMILIES.has(name) && value !== 0)
      .map(({ name, labels, value }) => [keyOf(name, labels), value] as const)
      .filter(([key]) => !NOT_SIMULATED.test(key)),
  )
}

/**
 * Formats each difference as `key: expected 3, found 2`. A heartbeat that is refused with 503 may have been stored before,
 * and is counted then: up to so many more are right.
 */
export function differences(summary: Summary, found: Series): readonly string[] {
  const expected = expectedSeries(summary)
  const surplusOf = (key: string) => (found.get(key) ?? 0) - (expected.get(key) ?? 0)
  const surpluses = STORED_HEARTBEATS.map(surplusOf)
  const isExplained =
    surpluses.every((surplus) => surplus >= 0) &&
    surpluses.reduce((sum, surplus) => sum + surplus, 0) <=
      (summary.answers[HEARTBEAT_REFUSED] ?? 0)
  return [...new Set([...expected.keys(), ...found.keys()])]
    .filter((key) => surplusOf(key) !== 0 && !(isExplained && STORED_HEARTBEATS.includes(key)))
    .map((key) => `${key}: expected ${expected.get(key) ?? 0}, found ${found.get(key) ?? 0}`)
}

function keyOf(name: string, labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))
  return `${name}{${pairs.map(([label, value]) => `${label}="${value}"`).join(',')}}`
}
