/** Rows 5 and 6: strangers who send requests without end, or hold silent connections. */
import type { AssaultReport } from '../attackers/assault.ts'
import type { LoadRow } from '../load-row.ts'

const MADE_UP_PER_S = 1_000
/** As in R6: above it the machine is too busy to measure. */
const MOST_NOISE = 0.15
const OPEN_FILES = 2_048
const FEW_OPEN_FILES = 1_024
/** Share of the descriptors; the service uses some itself. */
const BEYOND = 0.85
const ADDRESSES = 250

const madeUpTokens: LoadRow = {
  row: 5,
  title: `${MADE_UP_PER_S} made-up enrollment tokens a second`,
  mostRatio: 1.1,
  mostNoise: MOST_NOISE,
  begin: async (length) => ({
    async attack(stage) {
      const { port } = stage
      return {
        wave: () =>
          stage.attack({
            kind: 'requests',
            port,
            seconds: length.attackS,
            ratePerS: length.flood * MADE_UP_PER_S,
            requests: [
              { method: 'POST', path: '/v1/register', token: 'et_*', body: '{}' },
              { method: 'GET', path: '/v1/apk/download-latest', token: 'et_*' },
            ],
          }),
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

export const CLIENTS_ROWS: readonly LoadRow[] = [madeUpTokens, idle(1), idle(ADDRESSES)]
