/** The whole service on every kind of stdout: read, stopped, killed, full, closed. It serves, ends in order, and no line is unaccounted for. */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { LogBook } from '../../testkit/log-book.ts'
import { accountOf, type StdoutService, startOn } from './stdout-service.ts'

/** A reader that dies takes at most what one pipe holds with it. */
const PIPE_BYTES = 64 * 1024
/** The common fields alone take more. */
const SHORTEST_LINE_BYTES = 190
const CTRL_S = '\x13'
const CTRL_Q = '\x11'

function fail(message: string): never {
  throw new Error(message)
}

/** Both ends of a pipe, as a shell makes one; the caller closes them. */
function openPipe(t: Test): { readonly readFd: number; readonly writeFd: number } {
  const path = join(t.testdir(), 'pipe')
  execFileSync('mkfifo', [path])
  const bothFd = openSync(path, constants.O_RDWR) // no open of one end waits for the other
  const ends = { readFd: openSync(path, 'r'), writeFd: openSync(path, 'w') }
  closeSync(bothFd)
  return ends
}

interface Read {
  readonly service: StdoutService
  readonly stdout: Readable
  readonly lines: LogBook
}

/** The service on a pipe that this process reads. */
async function startOnPipe(t: Test, env = {}): Promise<Read> {
  const { readFd, writeFd } = openPipe(t)
  const stdout = new Socket({ fd: readFd, readable: true, writable: false })
  t.teardown(() => stdout.destroy())
  const lines = new LogBook(stdout)
  const service = await startOn(t, { stdout: writeFd, env })
  closeSync(writeFd)
  return { service, stdout, lines }
}

/** What spawn() calls a pipe is a socket, as journald's is. */
async function startOnSocket(t: Test): Promise<Read> {
  const service = await startOn(t, { stdout: 'pipe' })
  const stdout = service.stdout ?? fail('no stdout')
  return { service, stdout, lines: new LogBook(stdout) }
}

/** What a reader of the whole output got. */
async function readToEnd({ stdout, lines }: Read) {
  stdout.resume()
  if (!stdout.readableEnded) await once(stdout, 'end')
  return accountOf(lines.text)
}

/** Once the reader reads again: a line that still finds no room would be in the next answer. */
async function settledDrops(service: StdoutService): Promise<number> {
  for (let last = -1; ; ) {
    const dropped = await service.dropped()
    if (dropped === last) return dropped
    last = dropped
  }
}

async function readsOn(t: Test, reading: Read): Promise<void> {
  const { service, stdout, lines } = reading
  await service.serves(t)
  stdout.pause()
  await service.flood()
  await service.serves(t)
  stdout.resume()
  await lines.waitFor(({ event }) => event === 'log.dropped')
  const dropped = await settledDrops(service)
  t.ok(dropped > 0)
  const { code, emitted, note } = await service.end()
  t.equal(code, 0)
  const read = await readToEnd(reading)
  t.same(read, { lines: emitted - dropped, reported: dropped, last: 'service.stop' })
  t.same(note, { written: read.lines, dropped })
}

async function endsStalled(t: Test, reading: Read): Promise<void> {
  const { service, stdout } = reading
  stdout.pause()
  await service.flood()
  await service.serves(t)
  const { code, signal, emitted, note } = await service.end()
  t.same({ code, signal }, { code: 0, signal: null }, 'in its grace, not by its watchdog')
  const read = await readToEnd(reading)
  t.ok(note !== undefined && note.dropped > 0)
  t.equal(note?.written, read.lines)
  t.equal(read.lines + (note?.dropped ?? 0), emitted)
}

t.test('a pipe whose reader stops and goes on: read + dropped is what was emitted', async (t) =>
  readsOn(t, await startOnPipe(t)),
)

t.test('a socket whose reader stops and goes on: read + dropped is what was emitted', async (t) =>
  readsOn(t, await startOnSocket(t)),
)

t.test('no thread of the pool waits for a reader that stopped', async (t) =>
  readsOn(t, await startOnPipe(t, { UV_THREADPOOL_SIZE: '1' })),
)

t.test('SIGTERM ends it while the reader of a pipe stands still', async (t) =>
  endsStalled(t, await startOnPipe(t)),
)

t.test('SIGTERM ends it while the reader of a socket stands still', async (t) =>
  endsStalled(t, await startOnSocket(t)),
)

t.test('a reader that is killed takes at most what the pipe held with it', async (t) => {
  const { readFd, writeFd } = openPipe(t)
  const reader = spawn('cat', { stdio: [readFd, 'pipe', 'ignore'] })
  closeSync(readFd)
  const lines = new LogBook(reader.stdout ?? fail('no stdout'))
  const service = await startOn(t, { stdout: writeFd })
  closeSync(writeFd)
  await service.serves(t)
  reader.kill('SIGKILL')
  await service.flood()
  await service.serves(t)
  const { code, emitted, note } = await service.end()
  t.equal(code, 0)
  t.ok(note !== undefined && note.dropped > 0)
  t.equal((note?.written ?? 0) + (note?.dropped ?? 0), emitted)
  const lost = (note?.written ?? 0) - accountOf(lines.text).lines
  t.ok(lost >= 0 && lost * SHORTEST_LINE_BYTES <= PIPE_BYTES, `${lost} lines left unread`)
})

t.test('head -1 gets its line, and the service goes on', async (t) => {
  const { readFd, writeFd } = openPipe(t)
  const reader = spawn('head', ['-1'], { stdio: [readFd, 'pipe', 'ignore'] })
  closeSync(readFd)
  const output = text(reader.stdout ?? fail('no stdout'))
  const service = await startOn(t, { stdout: writeFd })
  closeSync(writeFd)
  t.match(await output, /^\{"ts".*\}\n$/)
  await service.flood()
  await service.serves(t)
  const { code, emitted, note } = await service.end()
  t.equal(code, 0)
  t.equal((note?.written ?? 0) + (note?.dropped ?? 0), emitted)
})

t.test('a full disk costs every line, and nothing else', async (t) => {
  const full = openSync('/dev/full', 'w')
  const service = await startOn(t, { stdout: full })
  closeSync(full)
  await service.flood()
  await service.serves(t)
  const { code, emitted, note } = await service.end()
  t.equal(code, 0)
  t.same(note, { written: 0, dropped: emitted })
})

t.test('a closed stdout is as good as /dev/null', async (t) => {
  const service = await startOn(t, { stdout: 'pipe', shell: 'exec "$@" >&-' })
  await service.serves(t)
  t.equal(await service.dropped(), 0)
  t.match(await service.end(), { code: 0, note: undefined })
})

t.test('a file gets every line', async (t) => {
  const path = join(t.testdir({ out: '' }), 'out')
  const file = openSync(path, 'a')
  const service = await startOn(t, { stdout: file })
  closeSync(file)
  await service.serves(t)
  const { code, emitted, note } = await service.end()
  t.match({ code, note }, { code: 0, note: undefined })
  const read = accountOf(readFileSync(path, 'utf8'))
  t.same(read, { lines: emitted, reported: 0, last: 'service.stop' })
})

/** script(1) of util-linux gives a program a terminal, and types what it reads. */
const hasScript = spawnSync('script', ['--version']).status === 0
const onTerminal = { skip: hasScript ? false : 'no script(1)' }

t.test('Ctrl-S stops a terminal, not the service; Ctrl-Q shows the rest', onTerminal, async (t) => {
  const service = await startOn(t, { stdout: 'pipe', isTerminal: true })
  await service.serves(t)
  service.stdin?.write(CTRL_S)
  await service.flood()
  await service.serves(t)
  service.stdin?.write(CTRL_Q)
  await service.showed(/"event":"(log\.dropped)"/)
  const dropped = await settledDrops(service)
  const { code, emitted } = await service.end()
  t.equal(code, 0)
  if (service.stdout?.readableEnded === false) await once(service.stdout, 'end')
  t.same(accountOf(service.shown()), {
    lines: emitted - dropped,
    reported: dropped,
    last: 'service.stop',
  })
})

t.test('SIGTERM ends it while its terminal is stopped', onTerminal, async (t) => {
  const service = await startOn(t, { stdout: 'pipe', isTerminal: true })
  service.stdin?.write(CTRL_S)
  await service.flood()
  t.match(await service.end(), { code: 0, signal: null })
})
