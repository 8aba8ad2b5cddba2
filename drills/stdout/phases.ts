/** The long part of the drill: a reader that stops and goes on, beside a load that must not notice. */
import { setTimeout as wait } from 'node:timers/promises'
import type { LoadReport } from '../../sim/load/load.ts'
import { type Comparison, compare } from '../../testkit/compare.ts'
import { watchMemory } from '../../testkit/processes.ts'
import type { Figure } from '../drill.ts'
import {
  awaitReady,
  enroll,
  type HeartbeatLoad,
  type Sender,
  startHeartbeats,
} from '../shared/heartbeat-load.ts'
import { unharmedFigure } from '../shared/unharmed-figure.ts'
import { type Account, readAccount } from './account.ts'
import { type Ended, type Rig, startRig } from './rig.ts'

export interface StdoutRun {
  readonly dir: string
  readonly adminToken: string
  readonly settings: Readonly<Record<string, string>>
  /** Of the long stall, and of the time with a reader before it; a window is a tenth of it. */
  readonly stallS: number
  readonly ratePerS: number
  /** Per kind. */
  readonly windows: number
  readonly ringBytes: number
  readonly print: (line: string) => void
}

const MIB = 1024 * 1024
export const PIPE_BYTES = 64 * 1024
const MOST_MORE_BYTES = 8 * MIB
const DEVICES = 50
/** A little less than a heartbeat's: the ring must be full before a window is measured. */
const LINE_BYTES = 350

const ms = (value: number) => `${value.toFixed(2)} ms`
const mib = (bytes: number) => `${(bytes / MIB).toFixed(1)} MiB`

/** After this long without a reader, ring and pipe are full. */
export function fillMs({ ringBytes, ratePerS }: StdoutRun): number {
  return ((ringBytes + PIPE_BYTES) / (LINE_BYTES * ratePerS)) * 1_000
}

/** p99 of interleaved windows; every other pair is reversed. Ends with the reader awake. */
async function measureWindows(
  rig: Rig,
  load: HeartbeatLoad,
  options: StdoutRun,
): Promise<Comparison> {
  const { windows, stallS, print } = options
  const p99 = { running: [] as number[], stopped: [] as number[] }
  for (let index = 0; index < windows; index++) {
    const kinds = ['running', 'stopped'] as const
    for (const kind of index % 2 === 0 ? kinds : kinds.toReversed()) {
      rig.reader.kill(kind === 'stopped' ? 'SIGSTOP' : 'SIGCONT')
      await wait(fillMs(options))
      const end = load.window()
      await wait((stallS * 1_000) / 10)
      p99[kind].push(end())
    }
    print(
      `window ${index + 1}: p99 ${ms(p99.running.at(-1) ?? 0)} running, ${ms(p99.stopped.at(-1) ?? 0)} stopped`,
    )
  }
  rig.reader.kill('SIGCONT')
  return compare(p99.running, p99.stopped)
}

/** Each due request was sent and its answer was 200. */
export function servedAll({ sent, shed, failed, byStatus }: LoadReport): boolean {
  return failed === 0 && shed === 0 && byStatus['200'] === sent
}

/** Returns the figures, and the enrolled devices for the later parts. */
export async function readerStops(
  options: StdoutRun,
): Promise<{ figures: Figure[]; senders: readonly Sender[] }> {
  const { print, stallS, ringBytes } = options
  const rig = await startRig(options.dir, 'stops', options.settings)
  try {
    await awaitReady(rig.origin)
    const senders = await enroll(rig.origin, options.adminToken, DEVICES)
    const load = startHeartbeats(rig.origin, senders, options.ratePerS)
    const memory = watchMemory(rig.pid)
    print(`the reader runs for ${stallS} s`)
    await wait(stallS * 1_000)
    const before = memory.takePeak()
    print(`the reader stops for ${stallS} s`)
    rig.reader.kill('SIGSTOP')
    await wait(stallS * 1_000)
    const stalled = memory.takePeak()
    const latency = await measureWindows(rig, load, options)
    const after = memory.takePeak()
    memory.stop()
    const report = await load.stop()
    const ended = await rig.end()
    await rig.readRest()
    const account = await readAccount(rig.outputPath)
    return {
      senders,
      figures: [
        unharmedFigure('request p99', ['running', 'the reader stopped'], latency, options.windows),
        memoryFigure({ before, stalled, after }, ringBytes),
        ...accountFigures(report, account, ended),
      ],
    }
  } finally {
    await rig.destroy()
  }
}

function memoryFigure(
  peak: Readonly<Record<'before' | 'stalled' | 'after', number>>,
  ringBytes: number,
): Figure {
  const grown = peak.stalled - peak.before
  return {
    promise: `memory + at most ring (${mib(ringBytes)}) + 8 MiB`,
    measured: `resident, peaks: ${mib(peak.before)} running, then ${mib(peak.stalled)} stopped: + ${mib(grown)}; ${mib(peak.after)} over all windows after it`,
    isHeld: grown <= ringBytes + MOST_MORE_BYTES,
  }
}

function accountFigures(report: LoadReport, account: Account, ended: Ended): Figure[] {
  const { loadLines, reportedDrops, otherLines, faults } = account
  const { written = loadLines + otherLines, dropped = 0 } = ended.note ?? {}
  return [
    {
      promise: 'the service keeps answering: every request 200',
      measured: `${report.due} due, ${JSON.stringify(report.byStatus)}, ${report.failed} failed, ${report.shed} shed`,
      isHeld: servedAll(report),
    },
    {
      promise: 'lines read + lines dropped = lines emitted, exactly; every line read is whole JSON',
      measured: `${loadLines} + ${reportedDrops} = ${loadLines + reportedDrops}, one for each of ${report.sent} requests; ${faults} faulty lines`,
      isHeld: faults === 0 && reportedDrops > 0 && loadLines + reportedDrops === report.sent,
    },
    {
      promise: 'what the service says of itself at its end is the same',
      measured: `${written} written and ${dropped} dropped, ${loadLines + otherLines} read and ${reportedDrops} reported; exit code ${ended.code}`,
      isHeld: written === loadLines + otherLines && dropped === reportedDrops && ended.code === 0,
    },
  ]
}
