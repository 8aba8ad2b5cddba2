/** The short parts of the drill, under load: the reader is killed; SIGTERM while the reader is stopped. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Figure } from '../drill.ts'
import { awaitReady, type Sender, startHeartbeats } from '../shared/heartbeat-load.ts'
import { readAccount } from './account.ts'
import { fillMs, PIPE_BYTES, type StdoutRun, servedAll } from './phases.ts'
import { startRig } from './rig.ts'

const MOST_EXIT_MS = 5_000
/** service.stop, which a dead reader misses. */
const LAST_LINES = 1

export async function readerKilled(
  options: StdoutRun,
  senders: readonly Sender[],
): Promise<Figure[]> {
  const rig = await startRig(options.dir, 'killed', options.settings)
  try {
    await awaitReady(rig.origin)
    const load = startHeartbeats(rig.origin, senders, options.ratePerS)
    const halfMs = (options.stallS * 1_000) / 12
    await wait(halfMs)
    options.print('the reader is killed')
    rig.reader.kill('SIGKILL')
    await wait(halfMs)
    const report = await load.stop()
    const { code, note } = await rig.end()
    const { loadLines, otherLines, meanLineBytes, faults } = await readAccount(rig.outputPath, true)
    const { written, dropped } = note ?? { written: 0, dropped: 0 }
    const unread = written - loadLines - otherLines
    const unreadBytes = Math.round(unread * meanLineBytes)
    const emitted = report.sent + otherLines + LAST_LINES
    return [
      {
        promise: 'reader killed: 0 crashes, every request 200',
        measured: `${report.due} due, ${JSON.stringify(report.byStatus)}, ${report.failed} failed; exit code ${code} on SIGTERM`,
        isHeld: code === 0 && servedAll(report),
      },
      {
        promise: 'reader killed: at most 64 KiB in the pipe unaccounted',
        measured: `${written} written + ${dropped} dropped of ${emitted}; ${unread} of them not read, about ${unreadBytes} bytes`,
        isHeld:
          faults === 0 && dropped > 0 && written + dropped === emitted && unreadBytes <= PIPE_BYTES,
      },
    ]
  } finally {
    await rig.destroy()
  }
}

export async function endStalled(
  options: StdoutRun,
  senders: readonly Sender[],
): Promise<Figure[]> {
  const rig = await startRig(options.dir, 'stalled', options.settings)
  try {
    await awaitReady(rig.origin)
    rig.reader.kill('SIGSTOP')
    const load = startHeartbeats(rig.origin, senders, options.ratePerS)
    await wait(fillMs(options))
    options.print('SIGTERM, with the reader stopped and requests coming')
    const ended = await rig.end()
    await load.stop()
    await rig.readRest()
    const { loadLines, otherLines, faults } = await readAccount(rig.outputPath, true)
    const read = loadLines + otherLines
    return [
      {
        promise: 'SIGTERM while stalled: exit by itself within 5 s',
        measured: `exit code ${ended.code} after ${(ended.tookMs / 1_000).toFixed(2)} s`,
        isHeld: ended.code === 0 && ended.tookMs <= MOST_EXIT_MS,
      },
      {
        promise: 'SIGTERM while stalled: what it says that it wrote can be read afterwards',
        measured: `${ended.note?.written} written, ${read} read; ${ended.note?.dropped} dropped`,
        isHeld: ended.note?.written === read && faults === 0,
      },
    ]
  } finally {
    await rig.destroy()
  }
}
