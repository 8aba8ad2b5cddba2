/**
 * Writes the record of a heartbeat's line on stdout, as the service does, and says on stderr what it cost:
 * `N ns/line` of CPU for as many lines as asked for, or with --heap the heap over 1,000,000 lines.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { createLogger } from '../src/telemetry/log/logger.ts'

const BATCH = 1000
const BUFFER_BYTES = 4 << 20
const logger = createLogger({ level: 'INFO', bufferBytes: BUFFER_BYTES, fd: 1 })

function writeOne(index: number): void {
  logger.write(
    {
      event: 'heartbeat.ingest',
      fields: {
        status: 'ok',
        battery_pct: index % 100,
        network_type: 'wifi',
        uptime_s: index,
        ignored: null,
      },
    },
    {
      requestId: '0190f2c4-7a1b-7c3d-8e4f-0123456789ab',
      route: '/v1/heartbeat',
      ip: '10.0.0.12',
      userAgent: 'okhttp/4.11.0',
      deviceId: '3f1c1c1e-1111-4222-8333-944445555666',
      alias: 'D01',
    },
    { statusCode: 200, latencyMs: 1.25 + (index % 7) },
  )
}

async function write(lines: number): Promise<void> {
  for (let start = 0; start < lines; start += BATCH) {
    for (let index = start; index < start + BATCH; index++) writeOne(index)
    do await turn()
    while (logger.stats().fillBytes > BUFFER_BYTES / 2)
  }
}

await write(20_000)
if (process.argv[2] === '--heap') {
  const heaps: number[] = []
  for (let part = 0; part <= 10; part++) {
    if (part > 0) await write(100_000)
    globalThis.gc?.()
    heaps.push(process.memoryUsage().heapUsed)
  }
  const growth = ((heaps.at(-1) ?? 0) - (heaps[0] ?? 0)) / 1024
  const mib = heaps.map((bytes) => (bytes / 2 ** 20).toFixed(2)).join(' ')
  console.error(
    `heap after each of 10 × 100,000 lines, MiB: ${mib}; growth ${growth.toFixed(0)} KiB`,
  )
} else {
  const lines = Number(process.argv[2])
  const before = process.cpuUsage()
  await write(lines)
  const { user, system } = process.cpuUsage(before)
  console.error(`${Math.round(((user + system) * 1000) / lines)} ns/line`)
}
const { dropped } = await logger.close(5_000)
if (dropped > 0) throw new Error(`${dropped} lines were dropped: the figure is of no use`)
