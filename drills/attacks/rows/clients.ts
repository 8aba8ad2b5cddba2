/** Rows 5 and 6: strangers, or one dead token, who send requests without end, or hold silent connections. */
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
  madeUpTokens,
  refusedBodies,
  idle(1),
  idle(ADDRESSES),
]
