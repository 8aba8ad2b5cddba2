/**
 * How the fuzzer's requests are sent: in how many writes, read or unread, with junk behind them; and floods of small
 * ones.
 */
import { Dice } from '../../testkit/dice.ts'

export interface FuzzManner {
  /** Pipelined requests: mostly one, sometimes a few, rarely more than may be open. */
  readonly pipelined: number
  /** Each write in its own turn of the event loop. */
  readonly writes: 'one' | 'two' | 'many'
  /** Reads nothing before all is sent. */
  readonly isUnread: boolean
  /** Sent behind the last request; not HTTP. */
  readonly junk: Buffer | null
}

export const PLAIN: FuzzManner = {
  pipelined: 1,
  writes: 'one',
  isUnread: false,
  junk: null,
}

/** With more open requests the service may close the connection (src/http). */
export const MOST_OPEN = 3
/** None of them begins a request, and none is an empty line, which parsers skip. */
const JUNK: readonly string[] = [
  ...[
    '\0',
    '\x01',
    '\xff\xfe',
    'GET\0',
    ' / HTTP/1.1\r\n\r\n',
    ':\r\n\r\n',
    '{"a":1}',
    '0\r\n\r\n',
  ],
  ...[
    'GET / HTTP/9.9\r\n\r\n',
    'HTTP/1.1 200 OK\r\n\r\n',
    '\x16\x03\x01\x02\x00\x01',
    '\x7f'.repeat(9_000),
  ],
]

/** A separate seed: requests stay the same when a manner is added. */
const MANNERS = 999_983
const FLOODS = 999_979

export function fuzzManner(seed: number, index: number): FuzzManner {
  const dice = new Dice(seed * MANNERS + index)
  const kind = dice.random()
  const isPipeline = dice.chance(0.12)
  const isDeep = isPipeline && dice.chance(0.05)
  return {
    pipelined: isDeep ? 4 + dice.below(24) : isPipeline ? 3 : 1,
    writes: kind < 0.8 ? 'one' : kind < 0.95 ? 'two' : 'many',
    isUnread: dice.chance(0.05),
    junk: dice.chance(0.03) ? Buffer.from(dice.pick(JUNK), 'latin1') : null,
  }
}

/** A client that only sends floods. */
export interface FuzzFlood {
  readonly requests: Buffer
  /** Small writes after the requests. */
  readonly junk: readonly Buffer[]
  readonly isHead: boolean
  readonly isRead: boolean
  readonly ends: 'reset' | 'end'
}

/** Requests per flood: as many as may be open, few, many, or enough that their responses stick in the socket. */
const MOST_REQUESTS = [5, 40, 1_500, 12_000] as const
const MOST_JUNK_WRITES = 300
const SMALL: readonly string[] = [
  'GET / HTTP/1.1\r\nHost: a\r\n\r\n',
  'GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n',
  'HEAD /readyz HTTP/1.1\r\nHost: a\r\n\r\n',
  'POST /v1/heartbeat HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}',
  'PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
]

/** Requests behind which nothing may be served, or Node detaches the socket. */
const LAST: readonly string[] = [
  'GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n',
  'CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n',
  'GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
  'POST /v1/register HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}',
  `PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(300)}0\r\n\r\n`,
]
const MOST_LAST = 3

export function fuzzFlood(seed: number, index: number): FuzzFlood {
  const dice = new Dice(seed * FLOODS + index)
  const small = Buffer.from(dice.pick(SMALL))
  const [fewest, few, many, most] = MOST_REQUESTS
  const kind = dice.random()
  const limit = kind < 0.3 ? fewest : kind < 0.6 ? few : kind < 0.97 ? many : most
  const count = 1 + dice.below(limit)
  const isHead = small.subarray(0, 4).toString() === 'HEAD'
  const repeated = (times: number) => new Array<Buffer>(times).fill(small)
  const last = isHead
    ? []
    : Array.from({ length: dice.below(MOST_LAST) }, () => Buffer.from(dice.pick(LAST)))
  const junk = Buffer.from(dice.pick(JUNK), 'latin1')
  return {
    requests: Buffer.concat([...repeated(count), ...last, ...repeated(dice.below(MOST_LAST))]),
    junk: Array.from({ length: dice.below(MOST_JUNK_WRITES) }, (_, at) =>
      junk.subarray(at % junk.length, (at % junk.length) + 1),
    ),
    isHead,
    isRead: dice.chance(0.3),
    ends: dice.chance(0.5) ? 'reset' : 'end',
  }
}
