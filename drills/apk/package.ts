/** `npm run drill -- packages`: reads mutated files, lets apksigner judge some that were accepted, and reads one large file. */
import { open, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { missingTools, startApkSigner } from '../../sim/apk/reference-tools.ts'
import { makeSignedApk } from '../../sim/apk/signed-apk.ts'
import { createVariantKeys, type VariantKeys } from '../../sim/apk/variant.ts'
import { readApkPackage } from '../../src/apk/package/read-package.ts'
import { fileSource } from '../../src/apk/package/source.ts'
import type { ApkSource } from '../../src/domain/apk-source.ts'
import { Dice } from '../../testkit/dice.ts'
import { memorySource } from '../../testkit/memory-source.ts'
import { type DrillEnvironment, defineDrill, type Figure, type Values } from '../drill.ts'
import { createMutator, type Mutated } from './package-mutations.ts'

const OPTIONS = {
  count: { standard: 1_000_000, what: 'mutated files' },
  seed: { standard: 1, what: 'of the mutations' },
  sample: { standard: 500, what: 'accepted ones that apksigner judges, if it is installed' },
  mib: { standard: 200, what: 'of the large file' },
  entries: { standard: 65_000, what: 'of a file that scheme v1 signs' },
} as const

export type PackagesRun = DrillEnvironment & Values<typeof OPTIONS>

const MAX_STALL_MS = 100
const MAX_HOLD_MS = 20
const MAX_LARGE_MS = 2_000
const MAX_HELD_BYTES = 1024 * 1024
const MAX_GROWTH_BYTES = 64 * 1024 * 1024
const WARM_UP = 2_000
const PRINT_EVERY = 50_000

export const packagesDrill = defineDrill({
  name: 'packages',
  promise:
    'no mutated APK crashes or stalls the reader, or is accepted where apksigner refuses it; 200 MiB take 2 s',
  options: OPTIONS,
  run: (options, environment) => runPackages({ ...options, ...environment }),
})

export async function runPackages(run: PackagesRun): Promise<readonly Figure[]> {
  const keys = createVariantKeys()
  const accepted: Mutated[] = []
  const figures = [...(await readMutated(run, keys, accepted))]
  figures.push(await judgeAccepted(run, accepted))
  if (run.mib > 0) figures.push(...(await readLarge(run, keys)))
  return figures
}

async function readMutated(
  { count, seed, sample, print }: PackagesRun,
  keys: VariantKeys,
  accepted: Mutated[],
): Promise<readonly Figure[]> {
  const mutate = createMutator(keys)
  const crashes: string[] = []
  const outcomes = { invalid: 0, unsigned: 0, broken: 0, verified: 0 }
  let longestMs = 0
  let longest = ''
  let warmBytes = 0
  for (let n = 0; n < count; n++) {
    if (n === Math.min(WARM_UP, count - 1)) warmBytes = process.memoryUsage.rss()
    const mutated = mutate(new Dice(seed * 1_000_003 + n))
    const startedAt = performance.now()
    try {
      const verdict = await readApkPackage(memorySource(mutated.bytes))
      const kind = verdict.kind === 'invalid' ? 'invalid' : verdict.signing.kind
      outcomes[kind]++
      if (kind === 'verified' && accepted.length < sample) accepted.push(mutated)
    } catch (error) {
      crashes.push(`${n} (${mutated.from}): ${error instanceof Error ? error.stack : error}`)
    }
    const tookMs = performance.now() - startedAt
    if (tookMs > longestMs && n > WARM_UP) {
      // Whatever else the machine does is not the file's: read again, the least counts.
      const leastMs = tookMs > MAX_STALL_MS ? await leastOf(mutated.bytes) : tookMs
      if (leastMs > longestMs) longest = `${n} (${mutated.from})`
      longestMs = Math.max(longestMs, leastMs)
    }
    if (n % PRINT_EVERY === PRINT_EVERY - 1) print(`${n + 1}: ${JSON.stringify(outcomes)}`)
  }
  const growth = process.memoryUsage.rss() - warmBytes
  return [
    {
      promise: `${count} mutated files, from seed ${seed}: none crashes the reader`,
      measured: crashes.slice(0, 5).join('\n') || JSON.stringify(outcomes),
      isHeld: crashes.length === 0,
    },
    {
      promise: `none takes longer than ${MAX_STALL_MS} ms`,
      measured: `${longestMs.toFixed(1)} ms: ${longest}`,
      isHeld: longestMs <= MAX_STALL_MS,
      isTimed: true,
    },
    {
      promise: `the process does not grow by more than ${mib(MAX_GROWTH_BYTES)}`,
      measured: mib(growth),
      isHeld: growth <= MAX_GROWTH_BYTES,
      isTimed: true,
    },
  ]
}

async function leastOf(bytes: Buffer): Promise<number> {
  let leastMs = Infinity
  for (let left = 3; left > 0; left--) {
    const startedAt = performance.now()
    await readApkPackage(memorySource(bytes)).catch(() => {}) // counted as a crash already
    leastMs = Math.min(leastMs, performance.now() - startedAt)
  }
  return leastMs
}

async function judgeAccepted({ dir }: PackagesRun, accepted: readonly Mutated[]): Promise<Figure> {
  const promise = 'none of those that were accepted is refused by apksigner'
  const missing = missingTools()
  if (missing.length > 0) {
    return { promise, measured: `not asked: needs ${missing.join(', ')}`, isHeld: true }
  }
  const apksigner = startApkSigner()
  const wrong: string[] = []
  const path = join(dir, 'mutated.apk')
  for (const { from, bytes } of accepted) {
    await writeFile(path, bytes)
    const verdict = await apksigner.verify(path)
    if (verdict.kind !== 'refused') continue
    const kept = join(tmpdir(), `fleetloop-refused-${process.pid}-${wrong.length}.apk`)
    await writeFile(kept, bytes) // its keys are those of this run
    wrong.push(`${from}, kept as ${kept}: ${verdict.reason}`)
  }
  await apksigner.close()
  const measured = `${accepted.length} asked, ${wrong.length} refused`
  return {
    promise,
    measured: [measured, ...wrong.slice(0, 5)].join('\n'),
    isHeld: wrong.length === 0,
  }
}

/** Two files: one is large, the other has as many entries as a zip can have, each of which scheme v1 signs. */
async function readLarge(run: PackagesRun, { a, ec }: VariantKeys): Promise<readonly Figure[]> {
  const large = Array.from({ length: 8 }, (_, n) => ({
    name: `assets/${n}`,
    bytes: Buffer.alloc((run.mib * 1024 * 1024) / 8, `${n} of eight`),
  }))
  const many = Array.from({ length: run.entries }, (_, n) => ({
    name: `res/drawable/picture_of_number_${n}.xml`,
    bytes: Buffer.alloc(600, `${n} of many`),
    isDeflated: true,
  }))
  const v1 = { keys: [ec] }
  const block = { v2: [{ key: a }] }
  const largeApk = () => makeSignedApk({ manifest: { minSdk: 24 }, entries: large, block })
  const manyApk = () => makeSignedApk({ manifest: { minSdk: 18 }, entries: many, v1 })
  return [
    ...(await readFile(run.dir, `${run.mib} MiB`, largeApk())),
    ...(await readFile(run.dir, `${run.entries} entries`, manyApk())),
  ]
}

async function readFile(dir: string, what: string, apk: Buffer): Promise<readonly Figure[]> {
  const path = join(dir, 'large.apk')
  await writeFile(path, apk)
  const file = await open(path)
  try {
    const source = fileSource(file, apk.length)
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    const startedAt = performance.now()
    const verdict = await readApkPackage(source)
    const tookMs = performance.now() - startedAt
    await sleep(5)
    delay.disable()
    const heldBytes = await measureMemory(source)
    const isVerified = verdict.kind === 'package' && verdict.signing.kind === 'verified'
    return [
      {
        promise: `${what} are judged within ${MAX_LARGE_MS} ms`,
        measured: `${tookMs.toFixed(0)} ms, ${isVerified ? 'verified' : 'refused'}`,
        isHeld: tookMs <= MAX_LARGE_MS && isVerified,
        isTimed: true,
      },
      {
        promise: `${what}: the event loop is never held longer than ${MAX_HOLD_MS} ms`,
        measured: `${(delay.max / 1e6).toFixed(1)} ms`,
        isHeld: delay.max / 1e6 <= MAX_HOLD_MS,
        isTimed: true,
      },
      {
        promise: `${what}: reading holds at most ${mib(MAX_HELD_BYTES)} at any time`,
        measured: mib(heldBytes),
        isHeld: heldBytes <= MAX_HELD_BYTES,
        isTimed: true,
      },
    ]
  } finally {
    await file.close()
  }
}

/** Returns the peak of live memory during a read, after a collection, beyond that before it. */
async function measureMemory(source: ApkSource): Promise<number> {
  setFlagsFromString('--expose-gc')
  const collect: () => void = runInNewContext('gc')
  const alive = () => {
    collect()
    collect() // counts the buffers as freed that the first one has found
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    return heapUsed + arrayBuffers
  }
  // Several collections are needed to free the buffers that made the file.
  for (let left = 3; left > 0; left--) await sleep(1).then(collect)
  const before = alive()
  let most = 0
  let reads = 0
  await readApkPackage({
    sizeBytes: source.sizeBytes,
    async read(buffer, offset) {
      if (reads++ % 20 === 0) most = Math.max(most, alive())
      return await source.read(buffer, offset)
    },
  })
  return most - Math.min(before, alive())
}

function mib(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(2)} MiB`
}
