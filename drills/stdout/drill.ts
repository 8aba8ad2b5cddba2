/**
 * `npm run drill -- R7`: the service with an embedded PostgreSQL under a steady load, and a reader of its stdout that
 * stops, goes on, and is killed. Linux.
 */
import { randomBytes } from 'node:crypto'
import { defineDrill } from '../drill.ts'
import { endStalled, readerKilled } from './ends.ts'
import { readerStops, type StdoutRun } from './phases.ts'

const MIB = 1024 * 1024

export const stdoutDrill = defineDrill({
  name: 'R7',
  promise:
    'a reader of stdout that stops, goes on, dies: the service serves, every line is accounted for, it ends by itself',
  options: {
    seconds: { standard: 60, what: 'the reader runs, and then stops; a window is a tenth of it' },
    rate: { standard: 2_000, what: 'heartbeats, and so lines, a second' },
    windows: { standard: 9, what: 'interleaved windows of each kind, for p99' },
    'ring-mib': { standard: 4, what: 'LOG_BUFFER_BYTES of the service, MiB' },
  },
  async run({ seconds, rate, windows, 'ring-mib': ringMib }, { dir, dataDir, print }) {
    const adminToken = randomBytes(32).toString('base64url')
    const options: StdoutRun = {
      dir,
      adminToken,
      settings: {
        DATA_DIR: dataDir,
        ADMIN_TOKENS: `drill=${adminToken}`,
        HMAC_SECRET: randomBytes(32).toString('base64url'),
        HEARTBEAT_DEDUP_WINDOW_S: '0',
        LOG_BUFFER_BYTES: String(ringMib * MIB),
      },
      stallS: seconds,
      ratePerS: rate,
      windows,
      ringBytes: ringMib * MIB,
      print,
    }
    const { figures, senders } = await readerStops(options)
    const killed = await readerKilled(options, senders)
    const stalled = await endStalled(options, senders)
    return [...figures, ...killed, ...stalled]
  },
})
