/** Rows 1, 2, 3, 12, 15 and 16: clients without a credential, or with one that allows downloads. */
import { type BurstsAssault, SMALLEST } from '../attackers/assault.ts'
import type { Criterion } from '../criterion.ts'
import type { Environment } from '../environment.ts'
import type { Length } from '../length.ts'
import type { LinesAccount } from '../lines-account.ts'
import type { LoadRow } from '../load-row.ts'
import type { Stage } from '../stage.ts'
import { unreadCapacity } from './unread.ts'

const CHUNKED = 'POST /v1/heartbeat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
const CHUNK = '1\r\nx\r\n'
const EXPECTING = 'GET / HTTP/1.1\r\nHost: a\r\nExpect: a\r\n\r\n'
const HEALTH = 'GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n'
/** Margin over the system's buffers: headers differ in length, buffers grow. */
const SPARE = 1.25
const NO_LIMIT = '100000'
export const UNLIMITED_DOWNLOADS = {
  RATE_LIMIT_APK_PER_TOKEN_PER_MIN: NO_LIMIT,
  RATE_LIMIT_APK_PER_SUBNET_PER_MIN: NO_LIMIT,
}
export const PER_SUBNET = 64
const JUNK_SOCKETS = 100
const FAST_SOCKETS = 10
const UNREAD_SOCKETS = 1_000
const UNREAD_BYTES = 300_000
const BURST_SOCKETS = 100
const BURST_BYTES = 64 * 1024
const BURST_PAUSE_MS = 1_000
/** Each sends one request at a time: pipelining is slowed down before it is refused. */
const LINE_SOCKETS = 100
const LINE_PAUSE_MS = 20
/** Bound on lines about anonymous refusals with one code. */
const MOST_LINES_PER_S = 50

const junkSockets = ({ share }: Length) => ({
  sockets: Math.ceil(share * JUNK_SOCKETS),
  fast: Math.ceil(share * FAST_SOCKETS),
})

/** Sends GET /healthz and reads nothing until a response sticks. */
export async function stickingHealth(stage: Stage, length: Length) {
  const { headers, bytes } = await stage.send({ method: 'GET', path: '/healthz' })
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const answerBytes = `HTTP/1.1 200 OK\r\n${lines.join('')}\r\n`.length + bytes.length
  const repeats = Math.ceil((SPARE * (await unreadCapacity(answerBytes))) / answerBytes)
  return { firsts: [HEALTH], repeats, ...junkSockets(length) }
}

const junkBehindHealth: LoadRow = {
  row: 1,
  title: 'no HTTP behind unread answers of /healthz',
  begin: async (length) => ({
    async attack(stage) {
      const sticking = await stickingHealth(stage, length)
      const { port } = stage
      return {
        wave: () => stage.attack({ kind: 'junk', port, seconds: length.junkS, ...sticking }),
      }
    },
  }),
}

export const stickingDownloads = (place: Environment, length: Length) => ({
  firsts: place.stolen.map(
    ({ token }) =>
      `GET /v1/apk/download-latest HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  ),
  repeats: 1,
  ...junkSockets(length),
})

const junkBehindDownloads: LoadRow = {
  row: 1,
  title: 'no HTTP behind slow downloads',
  downloads: PER_SUBNET,
  begin: async (length, place) => ({
    options: { settings: UNLIMITED_DOWNLOADS },
    async attack(stage) {
      const { port } = stage
      const sticking = stickingDownloads(place, length)
      return {
        wave: () => stage.attack({ kind: 'junk', port, seconds: length.junkS, ...sticking }),
      }
    },
  }),
}

export const unreadBursts = (length: Length) => ({
  kind: 'bursts' as const,
  sockets: Math.ceil(length.share * UNREAD_SOCKETS),
  piece: SMALLEST,
  burstBytes: UNREAD_BYTES,
  reads: false,
  pauseMs: 0,
})

export const readBursts = (length: Length) => ({
  kind: 'bursts' as const,
  sockets: length.flood * BURST_SOCKETS,
  piece: SMALLEST,
  burstBytes: BURST_BYTES,
  reads: true,
  pauseMs: BURST_PAUSE_MS,
})

const unread: LoadRow = {
  row: 2,
  title: '300 KB of requests on each of many sockets, nothing read',
  begin: async (length) => ({
    async attack(stage) {
      const { port } = stage
      return {
        wave: () => stage.attack({ ...unreadBursts(length), port, seconds: length.attackS }),
      }
    },
  }),
}

type Burst = Pick<BurstsAssault, 'piece' | 'head'>

const burstsOf = (row: number, title: string, burst?: Burst): LoadRow => ({
  row,
  title: `bursts of 64 KiB on 100 connections, answers read${title}`,
  begin: async (length) => ({
    async attack(stage) {
      const seconds = length.attackS
      const assault = { ...readBursts(length), ...burst, port: stage.port, seconds }
      return { wave: () => stage.attack(assault) }
    },
  }),
})

const bursts = burstsOf(3, '')
const tinyChunks = burstsOf(15, ': chunks of one byte', { piece: CHUNK, head: CHUNKED })
const expectations = burstsOf(16, ': an unknown Expect', { piece: EXPECTING })

const lines: LoadRow = {
  row: 12,
  title: 'small requests that are refused, up to 5,000 a second',
  begin: async (length) => ({
    async attack(stage) {
      const { port } = stage
      return {
        wave: () =>
          stage.attack({
            kind: 'bursts',
            port,
            seconds: length.attackS,
            sockets: length.flood * LINE_SOCKETS,
            piece: SMALLEST,
            burstBytes: SMALLEST.length,
            reads: true,
            pauseMs: LINE_PAUSE_MS,
          }),
        judgeLines: (reports, account) =>
          logCriteria(
            reports.reduce((sum, { answers: responses = 0 }) => sum + responses, 0),
            account,
          ),
      }
    },
  }),
}

function logCriteria(responses: number, { anonymous }: LinesAccount): readonly Criterion[] {
  const { lines, bytes, suppressed, mostPerS } = anonymous
  const ratio = bytes / ((lines + suppressed) * SMALLEST.length)
  return [
    {
      bar: `at most ${MOST_LINES_PER_S} lines a second of one code`,
      measured: `in one second of the clock at most ${mostPerS}; ${ratio.toFixed(2)} bytes of log for each byte of a request`,
      // A second of the limit may overlap two of the clock.
      isHeld: mostPerS <= 2 * MOST_LINES_PER_S,
    },
    {
      bar: 'each refusal has its line, or is counted into one',
      measured: `${lines} lines count ${suppressed} more, for ${responses} answers that were read`,
      isHeld: lines + suppressed >= responses,
    },
  ]
}

export const BYTES_ROWS: readonly LoadRow[] = [
  junkBehindHealth,
  junkBehindDownloads,
  unread,
  bursts,
  lines,
  tinyChunks,
  expectations,
]
