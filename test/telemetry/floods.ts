/** A process that writes a flood of lines to any kind of stdout, and what a reader of it got. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { FloodOrders, FloodReport } from './fixtures/flood.ts'

export const FLOOD = fileURLToPath(new URL('./fixtures/flood.js', import.meta.url))
export const ORDERS: FloodOrders = { lines: 20_000, bufferBytes: 1 << 20, deadlineMs: 20_000 }
/** Far below the deadline of ORDERS: who ends in it did not wait for the deadline. */
export const TIMELY_MS = 15_000

export interface Flood {
  readonly child: ChildProcess
  /** Settles when it says that it holds. */
  readonly holds: Promise<void>
  /** Its report; fails when it ended otherwise than with 0. */
  readonly report: Promise<FloodReport>
}

/** Starts the fixture with `stdout`, a descriptor or 'pipe', or through the shell line `shell`, where "$@" is it. */
export function flood(
  t: { teardown(end: () => void): void },
  orders: FloodOrders,
  stdout: number | 'pipe',
  shell?: string,
): Flood {
  const program = [process.execPath, FLOOD, JSON.stringify(orders)] as const
  const [command, args] =
    shell === undefined
      ? [program[0], program.slice(1)]
      : ['/bin/sh', ['-c', shell, 'sh', ...program]]
  const child = spawn(command, args, { stdio: ['pipe', stdout, 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  const { stderr } = child
  if (stderr === null) throw new Error('no stderr')
  const holds = new Promise<void>((resolve) => {
    stderr.on('data', (chunk: Buffer) => {
      if (chunk.includes('holds')) resolve()
    })
  })
  const ended = new Promise<number | null>((resolve) => {
    child.once('close', resolve)
  })
  const report = Promise.all([text(stderr), ended]).then(([said, code]) => {
    if (code !== 0) throw new Error(`exit ${code}: ${said}`)
    const last: FloodReport = JSON.parse(said.trim().split('\n').at(-1) ?? '')
    return last
  })
  return { child, holds, report }
}

/** A pipe of which we hold the reading end and decide when to read. */
export function pipe(t: { testdir(): string; teardown(end: () => void): void }) {
  const path = join(t.testdir(), 'pipe')
  execFileSync('mkfifo', [path])
  const readFd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const writeFd = openSync(path, constants.O_WRONLY)
  t.teardown(() => closeSync(readFd))
  return {
    writeFd,
    /** Until all writers are gone, which has happened already. */
    readAll(): string {
      const parts: Buffer[] = []
      const buffer = Buffer.alloc(1 << 20)
      for (;;) {
        const bytes = readSync(readFd, buffer)
        if (bytes === 0) return Buffer.concat(parts).toString()
        parts.push(Buffer.from(buffer.subarray(0, bytes)))
      }
    },
  }
}

/** What a reader got: whole lines, each valid JSON; what the reports among them say. */
export function readLines(output: string) {
  const lines = output.split('\n')
  const torn = lines.pop()
  const records = lines.map((line): Record<string, unknown> => JSON.parse(line))
  const reports = records.filter((record) => record['event'] === 'log.dropped')
  return {
    torn,
    lines: records.length - reports.length,
    reported: reports.reduce((sum, report) => sum + Number(report['dropped']), 0),
    reportedAnonymous: reports.reduce((sum, report) => sum + Number(report['anonymous']), 0),
    suppressed: records.reduce((sum, record) => sum + Number(record['suppressed'] ?? 0), 0),
    byLevel: (level: string) =>
      records.filter((record) => record['level'] === level && !reports.includes(record)).length,
  }
}
