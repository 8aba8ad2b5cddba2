/** Rows 9, 10, 11 and 13: single malicious requests. */

import { makeApk } from '../../../sim/apk.ts'
import { issueEnrollmentTokens } from '../../../sim/enroll.ts'
import {
  bodyOf,
  type HttpRequest,
  jsonHeaders,
  type Send,
  textOf,
} from '../../../testkit/http/client.ts'
import { ADMIN_TOKEN } from '../../../testkit/service-settings.ts'
import { allAre, type CheckRow, oddAnswers, onService } from '../check-row.ts'
import type { Criterion } from '../criterion.ts'
import type { Environment } from '../environment.ts'

const BEAT = '{"status":"ok"}'
const admin = jsonHeaders(ADMIN_TOKEN)

function beat({ phones }: Environment, path: string, more: Readonly<Record<string, string>> = {}) {
  const headers = { ...jsonHeaders(phones[0]?.token ?? ''), ...more }
  return { method: 'POST' as const, path, headers, body: BEAT }
}

const forwarded: CheckRow = {
  row: 9,
  title: 'X-Forwarded-* from a proxy on this host that nobody named',
  run: (place) =>
    onService(place, {}, async ({ send, lines }) => {
      const http = [
        { 'x-forwarded-proto': 'http' },
        { 'x-forwarded-proto': 'http', 'x-forwarded-for': '203.0.113.9' },
        { 'x-forwarded-for': '203.0.113.9' },
        { 'x-forwarded-proto': 'https, http' },
      ].map((headers) => beat(place, '/v1/heartbeat', headers))
      const odd = await oddAnswers(send, http, (status) => status === 403)
      const direct = await oddAnswers(send, [beat(place, '/v1/heartbeat')], (s) => s === 200)
      const warnings = lines.events('proxy.untrusted')
      return [
        allAre('http that a header tells of is 403', http.length, odd),
        allAre('a phone on this host, without a proxy, is served', 1, direct),
        {
          bar: 'it is said once',
          measured: `${warnings} lines proxy.untrusted`,
          isHeld: warnings === 1,
        },
      ]
    }),
}

const slashes: CheckRow = {
  row: 10,
  title: 'runs of slashes',
  run: (place) =>
    onService(place, {}, async ({ send }) => {
      const paths = ['//metrics', '///metrics', '//admin/devices', '/admin//devices']
        .concat(['//admin//devices?limit=1', '//healthz', '//readyz', '/admin///audit'])
        .map((path): HttpRequest => ({ method: 'GET', path, headers: admin }))
      const folded = ['//v1/heartbeat', '/v1//heartbeat', '///v1///heartbeat'].map((path) =>
        beat(place, path),
      )
      return [
        allAre(
          'none passes a rule of a proxy: 404',
          paths.length,
          await oddAnswers(send, paths, (status) => status === 404),
        ),
        allAre(
          'under /v1/ they count as one',
          folded.length,
          await oddAnswers(send, folded, (status) => status === 200),
        ),
      ]
    }),
}

const LISTS = [
  '/admin/devices',
  '/admin/commands',
  '/v1/enroll-tokens',
  '/admin/apk/builds',
  '/admin/audit',
]
const INSTANTS = [
  ...['2026-01-31T09:15:27.042Z', '0000-01-01T00:00:00Z', '0001-01-01T00:00:00Z'],
  ...['9999-12-31T23:59:59.999999Z', '9999-12-31T23:59:60Z', '2026-02-29T00:00:00Z'],
  ...['2026-01-31T09:15:27+15:59', '2026-01-31T09:15:27+16:00', '2026-01-31T09:15:27-23:59'],
  ...['2026-01-31t09:15:27.123456789z', '2999-12-31T23:59:59.999999999-15:59'],
  ...['2026-01-31T24:00:00Z', '2026-01-31T09:15:27+99:99', '-infinity', 'infinity', 'now', ''],
  ...['+275760-09-13T00:00:00Z', '-271821-04-20T00:00:00Z', '1970-01-01T00:00:00.0000000001Z'],
]
const IDS = [
  ...['018f0000-0000-7000-8000-000000000000', 'x', '', '\u0000', "'", 'q'.repeat(200)],
  ...['018f0000-0000-7000-8000-00000000000', '018F0000-0000-7000-8000-000000000000', '\ud800'],
]
const ODD_KEYS: readonly unknown[] = [null, 1, {}, [], [1, 2], [null, null], ['a'], 'text']

const forgedCursors: readonly string[] = [
  ...INSTANTS.flatMap((at) => IDS.slice(0, 2).map((id) => [at, id])),
  ...IDS.map((id) => [INSTANTS[0], id]),
  ...ODD_KEYS,
].map((key) => Buffer.from(JSON.stringify(key)).toString('base64url'))

/** Takes the cursor of each list's first page and flips a bit or two. */
async function damagedCursors(send: Send): Promise<readonly string[]> {
  const own: string[] = []
  for (const list of LISTS) {
    const response = await send({ method: 'GET', path: `${list}?limit=1`, headers: admin })
    const cursor = textOf(bodyOf(response), 'next_cursor')
    if (cursor === '') continue
    own.push(cursor, cursor.slice(0, -1), `${cursor}A`, cursor.toLowerCase())
    const bytes = Buffer.from(cursor, 'base64url')
    for (let at = 0; at < bytes.length; at += 8) {
      const flipped = Buffer.from(bytes)
      flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8))
      own.push(flipped.toString('base64url'))
    }
  }
  return own
}

const cursors: CheckRow = {
  row: 11,
  title: 'forged cursors',
  run: (place) =>
    onService(place, {}, async ({ send }) => {
      const forged = [...forgedCursors, ...(await damagedCursors(send))]
      const requests = LISTS.flatMap((list) =>
        forged.map(
          (cursor): HttpRequest => ({
            method: 'GET',
            path: `${list}?limit=1&cursor=${encodeURIComponent(cursor)}`,
            headers: admin,
          }),
        ),
      )
      const odd = await oddAnswers(send, requests, (status) => status < 500)
      return [allAre('no 5xx for a cursor, on any list', requests.length, odd)]
    }),
}

/** A terminal obeys the first two; the others reverse the text. */
const NASTY = '\u009b31m\u0085x\u202ey\u2066z\u200f'
const TERMINAL = /[\u0080-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u
const COMMAND = 'nasty-command'

/** Stores such strings wherever a phone or an admin can. */
async function storeNasty(send: Send, place: Environment): Promise<readonly string[]> {
  const [token = ''] = (await issueEnrollmentTokens(send, ADMIN_TOKEN, ['NASTY'])).values()
  const [phone] = place.stolen
  const own = jsonHeaders(phone?.token ?? '')
  const post = (path: string, headers: Record<string, string>, body: object): HttpRequest => ({
    ...{ method: 'POST', path, headers, body: JSON.stringify(body) },
  })
  const query = encodeURIComponent(NASTY)
  const known = { device_id: phone?.deviceId, action: 'ping' }
  const requests: readonly HttpRequest[] = [
    post('/v1/register', jsonHeaders(token), {
      ...{ alias: 'NASTY', hardware_id: NASTY, app_version: NASTY, model: NASTY },
      ...{ manufacturer: NASTY, android_version: NASTY, fcm_token: NASTY },
    }),
    post('/v1/heartbeat', own, {
      ...{ status: 'ok', network_type: NASTY, app_version: NASTY, agent_version: NASTY },
      ...{ fcm_token: NASTY },
    }),
    post('/v1/heartbeat', own, {
      ...{ network: { transport: NASTY, ssid: NASTY }, system: { android_version: NASTY } },
    }),
    post('/admin/command?wait_ms=0', admin, { ...known, request_id: COMMAND }),
    post('/admin/command?wait_ms=0', admin, { ...known, params: { a: NASTY } }),
    post('/v1/action-result', own, {
      ...{ request_id: COMMAND, outcome: 'failure', message: NASTY, output: NASTY },
    }),
    post('/v1/enroll-tokens', admin, { aliases: [null], note: NASTY }),
    post('/v1/devices/fcm-token', own, { fcm_token: NASTY }),
    {
      ...{ method: 'PUT', headers: admin, body: makeApk({ seed: 'nasty', versionName: NASTY }) },
      path: `/admin/apk/builds/nasty?build_type=nasty&ci_run_id=${query}`,
    },
  ]
  const responses: string[] = []
  for (const request of requests) {
    const { status } = await send(request)
    responses.push(`${request.path.split('?')[0]} ${status}`)
  }
  return responses
}

/** Returns the paths of strings that a terminal would obey. */
function nastyIn(value: unknown, path: string): readonly string[] {
  if (typeof value === 'string') return TERMINAL.test(value) ? [path] : []
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, each]) => [
    ...(TERMINAL.test(name) ? [`${path}.<name>`] : []),
    ...nastyIn(each, `${path}.${name}`),
  ])
}

const controls: CheckRow = {
  row: 13,
  title: 'C1 controls and bidi marks in what people read',
  run: (place) =>
    onService(place, { HEARTBEAT_DEDUP_WINDOW_S: '0' }, async ({ send }): Promise<Criterion[]> => {
      const stored = await storeNasty(send, place)
      const device = `/admin/devices/${place.stolen[0]?.deviceId}`
      const pages = [
        ...LISTS.map((list) => `${list}?limit=500`),
        device,
        `/admin/commands/${COMMAND}`,
      ]
      const found: string[] = []
      for (const path of pages) {
        const response = await send({ method: 'GET', path, headers: admin })
        found.push(...nastyIn(bodyOf(response), path.split('?')[0] ?? ''))
      }
      const failed = stored.filter((response) => / 5\d\d$/.test(response))
      return [
        allAre('none is stored as it came', stored.length, [...new Set(found)]),
        allAre('none is a fault', stored.length, failed),
      ]
    }),
}

export const REQUESTS_CHECKS: readonly CheckRow[] = [forwarded, slashes, cursors, controls]
