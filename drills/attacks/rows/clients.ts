/**
 * Rows 5 and 6: strangers, or one dead token, who send requests without end, or hold silent connections. And of row 3 what needs
 * tokens: bodies that take long to parse.
 */
import type { AssaultReport, RequestsAssault } from '../attackers/assault.ts'
import type { Environment } from '../environment.ts'
import type { LoadRow } from '../load-row.ts'
import { startRefusingServer } from '../refusing-server.ts'

const MADE_UP_PER_S = 1_000
/** As in R6: above it the machine is too busy to measure. */
const MOST_NOISE = 0.15
const OPEN_FILES = 2_048
const FEW_OPEN_FILES = 1_024
/** Share of the descriptors; the service uses some itself. */
const BEYOND = 0.85
const ADDRESSES = 250

const enrollment = (
  title: string,
  requestsIn: (place: Environment) => RequestsAssault['requests'],
): LoadRow => ({
  row: 5,
  title: `${MADE_UP_PER_S} ${title} a second`,
  mostRatio: 1.1,
  mostNoise: MOST_NOISE,
  async begin(length, place) {
    const elsewhere = await startRefusingServer()
    return {
      async attack(stage) {
        const flood = (port: number, seconds: number) =>
          stage.attack({
            kind: 'requests',
            port,
            seconds,
            ratePerS: length.flood * MADE_UP_PER_S,
            requests: requestsIn(place),
          })
        return {
          wave: () => flood(stage.port, length.attackS),
          elsewhere: () => flood(elsewhere.port, length.quietS),
        }
      },
      end: async () => elsewhere.close(),
    }
  },
})

const madeUpTokens = enrollment('made-up enrollment tokens', () => [
  { method: 'POST', path: '/v1/register', token: 'et_*', body: '{}' },
  { method: 'GET', path: '/v1/apk/download-latest', token: 'et_*' },
])
const refusedBodies = enrollment('refused bodies of one enrollment token', (place) => [
  {
    method: 'POST',
    path: '/v1/register',
    token: place.usedEnrollmentToken,
    body: '{"sdk_int":-1}',
  },
])

const THIEVES = 25
const COMPLEX_BODIES_PER_S = 100
const NESTED_BYTES = 65_500
const NAMES_OF_THIEF = 100_000

/** JSON.parse takes longest for objects within objects, each with a name of its own: 9 to 14 ms, and 1.8 MiB. */
function nestedBody(thief: number): string {
  let opened = ''
  let depth = 0
  while (opened.length + depth < NESTED_BYTES) {
    depth += 1
    opened += `{"${(NAMES_OF_THIEF * thief + depth).toString(36)}":`
  }
  return `${opened}0${'}'.repeat(depth)}`
}

const nestedBodies: LoadRow = {
  row: 3,
  title: `${COMPLEX_BODIES_PER_S} nested bodies of 64 KiB a second with ${THIEVES} device tokens`,
  begin: async (length, { stolen }) => ({
    async attack(stage) {
      const requests = stolen.slice(0, THIEVES).map(({ token }, index) => ({
        method: 'POST' as const,
        path: '/v1/heartbeat',
        token,
        body: nestedBody(1 + index),
      }))
      const ratePerS = length.flood * COMPLEX_BODIES_PER_S
      const { port } = stage
      return {
        wave: () =>
          stage.attack({ kind: 'requests', port, seconds: length.attackS, ratePerS, requests }),
      }
    },
  }),
}

const idle = (addresses: number): LoadRow => ({
  row: 6,
  title: `idle connections up to the bound, from ${addresses} ${addresses === 1 ? 'address' : 'addresses'}`,
  async begin(length) {
    const maxOpenFiles = length.share < 1 ? FEW_OPEN_FILES : OPEN_FILES
    return {
      options: { maxOpenFiles },
      async attack(stage) {
        const { port } = stage
        return {
          wave: () =>
            stage.attack({
              kind: 'idle',
              port,
              seconds: length.attackS,
              sockets: Math.ceil(BEYOND * maxOpenFiles),
              addresses,
            }),
          judge: async (reports) => [
            {
              bar: 'the bound was met',
              measured: `${total(reports, 'closed by the service')} idle connections closed by the service`,
              isHeld: total(reports, 'closed by the service') > 0,
            },
          ],
        }
      },
    }
  },
})

const total = (reports: readonly AssaultReport[], what: string) =>
  reports.reduce((sum, report) => sum + (report[what] ?? 0), 0)

export const CLIENTS_ROWS: readonly LoadRow[] = [
  nestedBodies,
  madeUpTokens,
  refusedBodies,
  idle(1),
  idle(ADDRESSES),
]
