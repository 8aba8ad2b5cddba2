/** The way out of the process: every kind of stdout, alive, slow, stalled or gone, with exact accounts. */
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import type { ChunkWriter, Wrote } from '../../src/telemetry/log/chunk-writer.ts'
import { RANK } from '../../src/telemetry/log/levels.ts'
import { LogSink } from '../../src/telemetry/log/sink.ts'
import { append, createRing } from './fixtures/ring.ts'
import { FLOOD, type Flood, flood, ORDERS, pipe, readLines, TIMELY_MS } from './floods.ts'

t.test('a file gets every line', async (t) => {
  const path = join(t.testdir({ out: '' }), 'out')
  const fd = openSync(path, 'w')
  const { report } = flood(t, { ...ORDERS, bufferBytes: 16 << 20 }, fd)
  closeSync(fd)
  const { emitted, written, dropped } = await report
  const read = readLines(readFileSync(path, 'utf8'))
  t.same(
    { written, dropped, ...read, byLevel: 0 },
    {
      written: emitted,
      dropped: 0,
      torn: '',
      lines: emitted,
      reported: 0,
      reportedAnonymous: 0,
      suppressed: 0,
      byLevel: 0,
    },
  )
})

t.test('a small ring before a file drops, and read + reported is what was emitted', async (t) => {
  const path = join(t.testdir({ out: '' }), 'out')
  const fd = openSync(path, 'w')
  const { report } = flood(t, { ...ORDERS, bufferBytes: 20_000, untilDropped: true }, fd)
  closeSync(fd)
  const { emitted, written, dropped } = await report
  const read = readLines(readFileSync(path, 'utf8'))
  t.ok(dropped > 0)
  t.equal(read.lines, written)
  t.equal(read.reported, dropped)
  t.equal(written + dropped, emitted)
})

t.test(
  'a reader that wakes up gets the rest, and read + reported is what was emitted',
  async (t) => {
    const { child, holds, report } = flood(
      t,
      { ...ORDERS, untilDropped: true, holds: true },
      'pipe',
    )
    await holds
    child.stdin?.end()
    const read = readLines(child.stdout === null ? '' : await text(child.stdout))
    const { emitted, written, dropped } = await report
    t.ok(dropped > 0)
    t.equal(read.torn, '')
    t.equal(read.lines, written)
    t.equal(read.reported, dropped)
    t.equal(written + dropped, emitted)
    t.ok(read.byLevel('ERROR') > read.byLevel('DEBUG') / 10, 'the reserve kept ERROR lines')
  },
)

t.test('strangers while the reader stands still cost their own lines, and no other', async (t) => {
  const orders = { ...ORDERS, lines: 4_000, bufferBytes: 256 * 1024, isStrangers: true }
  const { child, holds, report } = flood(t, { ...orders, untilDropped: true, holds: true }, 'pipe')
  await holds
  child.stdin?.end()
  const read = readLines(child.stdout === null ? '' : await text(child.stdout))
  const { emitted, suppressed, written, dropped } = await report
  t.ok(dropped > emitted / 2, `${dropped} of ${emitted} dropped`)
  t.equal(read.reported, dropped)
  t.equal(read.reportedAnonymous, dropped, 'all of them were anonymous')
  t.equal(read.byLevel('INFO'), emitted / 10, 'each line of ours was read')
  t.equal(read.lines, written)
  t.equal(written + dropped, emitted)
  t.equal(read.suppressed, suppressed, 'what dropped lines count is counted')
})

t.test(
  'a reader that never wakes up costs lines, not the exit, and none is unaccounted for',
  async (t) => {
    const { writeFd, readAll } = pipe(t)
    const { report } = flood(t, { ...ORDERS, untilDropped: true, deadlineMs: 200 }, writeFd)
    closeSync(writeFd)
    const { emitted, written, dropped, turns } = await report
    const read = readLines(readAll())
    t.ok(turns >= 200, 'the event loop went on')
    t.ok(dropped > 0)
    t.equal(read.lines, written)
    t.equal(written + dropped, emitted)
  },
)

t.test(
  'a stdout that is gone or refuses costs lines only, and the exit does not wait',
  async (t) => {
    const full = openSync('/dev/full', 'w')
    t.teardown(() => closeSync(full))
    const nothing = openSync('/dev/null', 'w')
    t.teardown(() => closeSync(nothing))
    const readOnly = openSync('/dev/null', 'r')
    t.teardown(() => closeSync(readOnly))
    const cases: [string, () => Flood, (written: number) => boolean][] = [
      ['head -1', () => flood(t, ORDERS, nothing, '"$@" | head -1'), () => true],
      ['a reader that was never there', () => flood(t, ORDERS, nothing, '"$@" | true'), () => true],
      ['/dev/full', () => flood(t, ORDERS, full), (written) => written === 0],
      ['not open for writing', () => flood(t, ORDERS, readOnly), (written) => written === 0],
      [
        'closed by the parent',
        () => flood(t, ORDERS, nothing, '"$@" >&-'),
        (written) => written > 0,
      ],
      [
        'closed by itself',
        () => flood(t, { ...ORDERS, closesStdout: true }, nothing),
        (written) => written === 0,
      ],
    ]
    for (const [name, start, isRight] of cases) {
      const startedAt = Date.now()
      const { emitted, written, dropped } = await start().report
      t.ok(isRight(written), `${name}: ${written} written`)
      t.equal(written + dropped, emitted, name)
      t.ok(Date.now() - startedAt < TIMELY_MS, `${name}: timely`)
    }
  },
)

/** script(1) of util-linux gives a program a terminal. */
const hasScript = spawnSync('script', ['--version']).status === 0

t.test('a terminal gets every line', { skip: hasScript ? false : 'no script(1)' }, async (t) => {
  const program = `'${process.execPath}' '${FLOOD}' '${JSON.stringify({ ...ORDERS, lines: 500 })}'`
  const said = execFileSync('script', ['-qec', program, '/dev/null'], { encoding: 'utf8' })
  const lines = said.split('\r\n').filter((line) => line.startsWith('{"ts"'))
  t.equal(lines.length, 500)
})

/** A descriptor that takes or refuses what the test says. */
function scripted(response: (chunk: Buffer, wrote: Wrote) => void): () => ChunkWriter {
  return () => ({
    write: (chunk, wrote) => {
      setImmediate(() => response(chunk, wrote))
    },
    goneBytes: () => 0,
  })
}

t.test('short writes, EAGAIN and a disk that was full lose and repeat nothing', async (t) => {
  // The sink itself does not keep a process alive while it waits for a disk.
  const alive = setInterval(() => {}, TIMELY_MS)
  t.teardown(() => clearInterval(alive))
  const line = (text: string) => `${text.padEnd(99)}\n`
  const ring = createRing(10_000, 0)
  let written = ''
  let turn = 0
  const failures = ['EAGAIN', 'ENOSPC', 'EDQUOT', 'EIO']
  let finish = () => {}
  const finished = new Promise<void>((resolve) => {
    finish = resolve
  })
  const writer = scripted((chunk, wrote) => {
    const code = failures[turn++ % 8]
    if (code !== undefined) return wrote(Object.assign(new Error(code), { code }), 0)
    if (turn % 8 === 5) return wrote(null, 0)
    const part = chunk.subarray(0, 1 + (chunk.length >> 1))
    written += part.toString()
    wrote(null, part.length)
    if (ring.fillBytes === 0) finish()
  })
  const sink = new LogSink(
    ring,
    ({ dropped }) => ring.draft.write(line(`dropped ${dropped}`)),
    writer,
    1,
  )
  let sent = ''
  for (let n = 0; n < 100; n++) {
    const text = line(`${n}`)
    sent += text
    append(ring, text, RANK.INFO)
    sink.wake()
  }
  append(ring, line('one too many'), RANK.INFO)
  await finished
  t.equal(written, sent + line('dropped 1'))
  await sink.close(TIMELY_MS)
  t.equal(ring.linesWritten, 100)
})

t.test('close is bounded by its deadline, joins itself and ends the sink', async (t) => {
  const ring = createRing(10_000)
  const sink = new LogSink(
    ring,
    () => 0,
    scripted(() => {}),
    1,
  )
  append(ring, 'x'.repeat(99), RANK.INFO)
  sink.wake()
  const closed = sink.close(1)
  t.equal(sink.close(TIMELY_MS), closed)
  await closed
  t.notOk(append(ring, 'x'.repeat(99), RANK.ERROR))
  t.same(ring.linesDropped, { DEBUG: 0, INFO: 1, WARN: 0, ERROR: 1 })
})

t.test('close on an empty ring settles at once; on a full disk after one more try', async (t) => {
  const empty = new LogSink(
    createRing(1000),
    () => 0,
    scripted(() => {}),
  )
  await empty.close(TIMELY_MS)
  const ring = createRing(1000)
  const noSpace = Object.assign(new Error('full'), { code: 'ENOSPC' })
  let tries = 0
  const full = new LogSink(
    ring,
    () => 0,
    scripted((_chunk, wrote) => {
      tries++
      wrote(noSpace, 0)
    }),
  )
  append(ring, 'x'.repeat(99), RANK.INFO)
  await full.close(TIMELY_MS)
  t.equal(tries, 1)
  t.equal(ring.linesDropped.INFO, 1)
})
