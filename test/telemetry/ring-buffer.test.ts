/** The ring's promises: bounded in bytes, reserves by level, and no line unaccounted for. */
import t from 'tap'
import { LEVELS, RANK } from '../../src/telemetry/log/levels.ts'
import {
  CHUNK_BYTES,
  type Drops,
  REPORT_RANK,
  type RingBuffer,
} from '../../src/telemetry/log/ring-buffer.ts'
import { append, createRing } from './fixtures/ring.ts'

const line = (bytes: number, text = 'x') => `${text.padEnd(bytes - 1, '.')}\n`

/** Takes everything out, in steps of at most `step` bytes. */
function drain(ring: RingBuffer, step = Number.POSITIVE_INFINITY): string {
  const parts: Buffer[] = []
  while (ring.fillBytes > 0) {
    const oldest = ring.oldest()
    const part = Buffer.from(oldest.subarray(0, Math.min(step, oldest.length)))
    parts.push(part)
    ring.release(part.length)
  }
  return Buffer.concat(parts).toString()
}

t.test('a full ring drops the newest, INFO first, then WARN, then ERROR', async (t) => {
  const ring = createRing(1000, 400)
  const fits = (level: keyof typeof RANK) => {
    let lines = 0
    while (append(ring, line(100), RANK[level])) lines++
    return lines
  }
  t.equal(fits('INFO'), 6, 'INFO leaves the reserve alone')
  t.equal(fits('DEBUG'), 0)
  t.equal(fits('WARN'), 2, 'WARN takes half of the reserve')
  t.equal(fits('ERROR'), 2, 'ERROR takes the rest')
  t.equal(ring.fillBytes, 1000)
  t.same(ring.linesDropped, { DEBUG: 1, INFO: 1, WARN: 1, ERROR: 1 })
  t.equal(drain(ring), line(100).repeat(10))
  t.equal(ring.linesWritten, 10)
})

t.test('the reserve is a quarter of a small ring, and 256 KiB of a large one', async (t) => {
  for (const [capacityBytes, reserveBytes] of [
    [1_006, 251],
    [1_048_575, 262_143],
    [1_048_576, 262_144],
    [2_097_152, 262_144],
  ] as const) {
    const ring = createRing(capacityBytes)
    /** Fills the ring to `bytes`; one byte more is refused. */
    const fill = (bytes: number, rank: number) => {
      while (bytes - ring.fillBytes > CHUNK_BYTES && ring.append(CHUNK_BYTES, rank));
      t.ok(ring.append(bytes - ring.fillBytes, rank), `${bytes} of ${capacityBytes}`)
      t.notOk(ring.append(1, rank), `${bytes} and one of ${capacityBytes}`)
    }
    fill(capacityBytes - reserveBytes, RANK.INFO)
    fill(capacityBytes - Math.floor(reserveBytes / 2), RANK.WARN)
    fill(capacityBytes, RANK.ERROR)
  }
})

t.test('a flood of anonymous lines fills a quarter, and takes nothing of the rest', async (t) => {
  const cause = { isAnonymous: true, suppressed: 0 }
  const ring = createRing(4000, 1000)
  const fill = (level: keyof typeof RANK, isAnonymous = false) => {
    let lines = 0
    while (append(ring, line(100), RANK[level], isAnonymous ? cause : undefined)) lines++
    return lines
  }
  for (const level of LEVELS) {
    t.equal(fill(level, true), level === 'DEBUG' ? 10 : 0, `anonymous, ${level}`)
  }
  t.same([fill('INFO'), fill('WARN'), fill('ERROR')], [20, 5, 5], 'the rest, and the whole reserve')
  t.same(ring.linesDropped, { DEBUG: 1, INFO: 2, WARN: 2, ERROR: 2 })

  ring.release(450)
  t.equal(fill('WARN', true), 0, 'not where others are above the reserve')
  drain(ring)
  t.equal(fill('ERROR', true), 10, 'what has left makes room again')
  ring.release(250)
  t.equal(fill('WARN', true), 2, 'a line that is half gone still counts')
  drain(ring)
  t.equal(fill('INFO'), 30)
  t.equal(fill('ERROR', true), 0, 'never the reserve')
})

t.test('a line of exactly the free bytes fits, one byte more does not', async (t) => {
  for (const text of ['a', 'ä', '€', '😀']) {
    const exact = `${text.repeat(100)}\n`
    const bytes = Buffer.byteLength(exact)
    const ring = createRing(bytes, 0)
    t.notOk(append(ring, `${exact}.`, RANK.INFO), `${bytes + 1} bytes`)
    t.ok(append(ring, exact, RANK.INFO), `${bytes} bytes`)
    t.equal(drain(ring), exact)
  }
})

t.test(
  'a ring holds as many lines as fit with 64 bytes each, however short they are',
  async (t) => {
    for (const bytes of [64, 63]) {
      const ring = createRing(64 * 65, 0)
      for (let n = 0; n < 65; n++) t.ok(append(ring, line(bytes, `${n}`), RANK.INFO))
      t.notOk(append(ring, line(bytes), RANK.INFO), `the 66th of ${bytes} bytes`)
      const text = drain(ring)
      t.equal(text, Array.from({ length: 65 }, (_, n) => line(bytes, `${n}`)).join(''))
    }
  },
)

t.test('lines go round the end of the memory unbroken', async (t) => {
  const ring = createRing(700, 0)
  let sent = ''
  let received = ''
  for (let n = 0; n < 500; n++) {
    const text = line(64 + (n % 37), `${n} ä€😀`)
    sent += text
    t.ok(append(ring, text, RANK.INFO))
    if (n % 3 === 2) received += drain(ring, 1 + (n % 90))
    else if (n % 3 === 1) {
      const oldest = ring.oldest()
      received += oldest.toString()
      ring.release(oldest.length)
    }
  }
  t.equal(received + drain(ring), sent)
  t.equal(ring.linesWritten, 500)
})

t.test('a chunk holds whole lines and at most 64 KiB; a longer line goes in pieces', async (t) => {
  const ring = createRing(4 * CHUNK_BYTES, 0)
  for (let n = 0; n < 100; n++) append(ring, line(1000), RANK.INFO)
  t.equal(ring.oldest().length, 65_000)
  ring.release(64_500)
  t.equal(ring.linesWritten, 64)
  t.equal(ring.oldest().length, 35_500, 'the rest of a started line comes first')
  drain(ring)
  append(ring, line(CHUNK_BYTES + 10), RANK.INFO)
  t.equal(ring.oldest().length, CHUNK_BYTES)
  ring.release(CHUNK_BYTES)
  t.equal(ring.linesWritten, 100)
  t.equal(ring.oldest().length, 10)
})

t.test('written + dropped + stored is what was appended, for any sequence', async (t) => {
  // A fixed linear congruential generator: the same 200 000 steps on every run.
  let seed = 42
  const random = (below: number) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((seed / 2 ** 32) * below)
  }
  const ring = createRing(20_000)
  const appended = [0, 0, 0, 0]
  let reported = 0
  let reportedAnonymous = 0
  let reportedSuppressed = 0
  let droppedAnonymous = 0
  let droppedSuppressed = 0
  let wrong = 0
  for (let step = 0; step < 200_000; step++) {
    if (random(3) > 0) {
      const rank = random(4)
      const cause = { isAnonymous: random(2) === 0, suppressed: random(9) }
      const isStored = append(ring, line(64 + random(400)), rank, cause)
      appended[rank] = (appended[rank] ?? 0) + 1
      if (!isStored) droppedSuppressed += cause.suppressed
      if (!isStored && cause.isAnonymous) droppedAnonymous++
    } else {
      ring.release(random(ring.oldest().length + 1))
      ring.reportDrops(({ dropped, byLevel, ...drops }) => {
        if (ring.fillBytes > 10_000) return ring.draft.write(line(100_000))
        reported += dropped
        reportedAnonymous += drops.anonymous
        reportedSuppressed += drops.suppressed
        if (LEVELS.reduce((sum, level) => sum + byLevel[level], 0) !== dropped) wrong++
        return ring.draft.write(line(100))
      })
    }
    if (ring.fillBytes < 0 || ring.fillBytes > ring.capacityBytes) wrong++
  }
  t.equal(wrong, 0)
  t.ok(ring.fillBytes > 0)
  const dropped = LEVELS.reduce((sum, level) => sum + ring.linesDropped[level], 0)
  ring.reportDrops((rest) => {
    t.equal(reported + rest.dropped, dropped, 'each drop is reported once')
    t.equal(reportedAnonymous + rest.anonymous, droppedAnonymous)
    t.equal(reportedSuppressed + rest.suppressed, droppedSuppressed)
    t.ok(droppedAnonymous > 0 && droppedAnonymous < dropped)
    return ring.draft.write(line(100_000))
  })
  ring.close()
  const total = LEVELS.reduce((sum, level) => sum + ring.linesDropped[level], 0)
  t.equal(
    ring.linesWritten + total,
    appended.reduce((sum, lines) => sum + lines, 0),
  )
})

t.test(
  'a report that finds no room is made again, and counts neither as written nor dropped',
  async (t) => {
    const ring = createRing(300, 0)
    append(ring, line(300), RANK.INFO)
    append(ring, line(64), RANK.WARN)
    const seen: number[] = []
    const report = ({ dropped }: Drops) => {
      seen.push(dropped)
      return ring.draft.write(line(100))
    }
    ring.reportDrops(report)
    append(ring, line(64), RANK.ERROR)
    ring.release(300)
    ring.reportDrops(report)
    ring.reportDrops(report)
    t.same(seen, [1, 2])
    t.equal(ring.fillBytes, 100)
    drain(ring)
    t.equal(ring.linesWritten, 1)
    append(ring, line(200), REPORT_RANK)
    ring.close()
    t.same(ring.linesDropped, { DEBUG: 0, INFO: 0, WARN: 1, ERROR: 1 })
  },
)

t.test('a closed ring counts what it held and what still comes as dropped', async (t) => {
  const ring = createRing(1000)
  append(ring, line(100), RANK.INFO)
  append(ring, line(100), RANK.INFO)
  ring.release(150)
  ring.close()
  t.notOk(append(ring, line(100), RANK.ERROR))
  t.equal(ring.oldest().length, 0)
  t.equal(ring.linesWritten, 1, 'a torn line is not written')
  t.same(ring.linesDropped, { DEBUG: 0, INFO: 1, WARN: 0, ERROR: 1 })
})
