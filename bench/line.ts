/**
 * F4: the CPU of one log line beside pino's, same record, both into a pipe that is read; and the heap over
 * 1,000,000 lines. Processes alternate, so that a noisy machine is noisy for both.
 *
 *   npm run bench:line -- --peer DIR [--rounds 7] [--lines 400000]
 *
 * DIR is a copy of the peer bench (`logger.mjs` with its node_modules); without it only our figures.
 */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { median } from '../testkit/statistics.ts'

const { values } = parseArgs({
  options: {
    peer: { type: 'string' },
    rounds: { type: 'string', default: '7' },
    lines: { type: 'string', default: '400000' },
  },
})
const WRITER = fileURLToPath(new URL('./line-writer.js', import.meta.url))

/** Runs it with stdout on a pipe that is read; returns its stderr. */
async function run(args: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  child.stdout.resume()
  const said = await text(child.stderr)
  if (said.trim() === '') throw new Error(`${args.join(' ')} said nothing`)
  return said
}

async function nsPerLine(args: readonly string[]): Promise<number> {
  const said = await run([...args, values.lines])
  const ns = Number(/([\d.]+) ns\/line/.exec(said)?.[1])
  if (!Number.isFinite(ns)) throw new Error(said)
  return ns
}

const ours: number[] = []
const peers: number[] = []
for (let round = 0; round < Number(values.rounds); round++) {
  ours.push(await nsPerLine([WRITER]))
  if (values.peer !== undefined) peers.push(await nsPerLine([join(values.peer, 'logger.mjs')]))
}
const spread = (figures: number[]) => `${Math.min(...figures)}–${Math.max(...figures)}`
console.log(`ours  ${median(ours)} ns of CPU a line (${spread(ours)})`)
if (peers.length > 0) {
  const ratio = median(ours.map((figure, round) => figure / (peers[round] ?? 1)))
  console.log(`pino  ${median(peers)} ns of CPU a line (${spread(peers)})`)
  console.log(`ours/pino ${ratio.toFixed(3)} (F4: at most 0.25)`)
}
console.log((await run(['--expose-gc', WRITER, '--heap'])).trim())
