/** Uploads that fail by themselves: each is answered, and nothing of one outlives its answer. */

import { mkdirSync, readdirSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { mountSmallDisk, unmount } from '../../drills/outages/troubles.ts'
import { createSpool } from '../../src/apk/spool.ts'
import { openUpload } from '../../src/http/body/body.ts'
import { problemOf, toAppError } from '../../src/http/errors.ts'
import { sendProblem } from '../../src/http/respond.ts'
import { until } from '../../testkit/until.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { listenFor } from '../helpers/listen.ts'
import { head, openRaw } from '../helpers/raw.ts'

const MIB = 1024 * 1024
const CHUNKED = head('PUT / HTTP/1.1', 'Transfer-Encoding: chunked')
const chunk = (bytes: Buffer) =>
  Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes])

interface Options {
  readonly dir?: string
  readonly maxBytes?: number
  readonly idleTimeoutMs?: number
}

/** A server that takes uploads into a spool and answers how that went. */
async function serve(t: Test, { maxBytes = MIB, idleTimeoutMs, ...more }: Options = {}) {
  const dir = more.dir ?? tempDirectory(t)
  const spool = createSpool({ dir, maxBytes, maxUploads: 1 })
  const uploads: Readable[] = []
  const server = createServer((request, res) => {
    const upload = openUpload(request, () => uploads.push(upload), idleTimeoutMs)
    spool
      .receive(upload, undefined, async ({ sizeBytes }) => sizeBytes)
      .then(
        (sizeBytes) => res.end(String(sizeBytes)),
        (error: unknown) => {
          const problem = problemOf(toAppError(error), 'upload', () => 0)
          sendProblem(res, problem, { requestId: 'upload', closesConnection: true, isHead: false })
        },
      )
  })
  const port = await listenFor(t, server)
  return { dir, uploads, origin: `http://127.0.0.1:${port}` }
}

const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length

t.test('one that stands still is told so, over a connection that stands', async (t) => {
  const { origin, dir } = await serve(t, { idleTimeoutMs: 50 })
  const client = await openRaw(t, origin)
  client.write(Buffer.concat([Buffer.from(CHUNKED), chunk(Buffer.alloc(1_000))]))
  t.match(await client.answer(), { status: 408, body: { code: 'request_timeout' } })
  await client.closed()
  t.same(readdirSync(dir), [])
})

t.test('one that is slow but never still is received, however long it takes', async (t) => {
  const idleTimeoutMs = 3_000 // longer than a busy machine holds up this process, which is the client, too
  const { origin } = await serve(t, { idleTimeoutMs })
  const client = await openRaw(t, origin)
  client.write(CHUNKED)
  const startedAtMs = performance.now()
  let bytes = 0
  for (; performance.now() - startedAtMs < 1.5 * idleTimeoutMs; bytes += 1) {
    client.write(chunk(Buffer.alloc(1)))
    client.write('\r\n')
    await pause(20)
  }
  client.write('0\r\n\r\n')
  t.match(await client.answer(), { status: 200, text: String(bytes) })
})

t.test('one that is refused half-way leaves no clock that could still go off', async (t) => {
  const before = timers()
  const { origin, uploads } = await serve(t, { maxBytes: 100_000 })
  const client = await openRaw(t, origin)
  // The refusal comes with the last byte that is there: the service waits for the next one by then.
  client.write(Buffer.concat([Buffer.from(CHUNKED), chunk(Buffer.alloc(100_001))]))
  t.match(await client.answer(), { status: 413, body: { code: 'body_too_large' } })
  client.destroy()
  t.equal(uploads[0]?.destroyed, true)
  await until(() => timers() <= before)
})

t.test('while our disk is what is waited for, no clock runs', async (t) => {
  const server = createServer()
  const port = await listenFor(t, server)
  const client = await openRaw(t, `http://127.0.0.1:${port}`)
  const sizeBytes = 300_000
  const received = new Promise<number>((resolve, reject) => {
    server.once('request', async (request) => {
      let looks = 0
      const isPaused = request.isPaused.bind(request)
      request.isPaused = () => {
        looks += 1
        return isPaused()
      }
      let count = 0
      const upload = openUpload(request, () => {}, 20)
      try {
        for await (const bytes of upload) {
          count += bytes.length
          if (count === bytes.length) await until(() => looks > 2 && isPaused())
        }
        resolve(count)
      } catch (error) {
        reject(error)
      }
    })
  })
  client.write(
    Buffer.concat([
      Buffer.from(head('PUT / HTTP/1.1', `Content-Length: ${sizeBytes}`)),
      Buffer.alloc(sizeBytes),
    ]),
  )
  t.equal(await received, sizeBytes)
  client.destroy()
})

const isRoot = process.getuid?.() === 0
t.test('one that finds the disk full is told so', { skip: !isRoot && 'needs root' }, async (t) => {
  const dir = tempDirectory(t)
  if (!mountSmallDisk(dir, 1)) return void t.comment('needs the right to mount')
  t.teardown(() => unmount(dir))
  const spoolDir = join(dir, 'spool')
  mkdirSync(spoolDir)
  const { origin } = await serve(t, { dir: spoolDir, maxBytes: 8 * MIB })
  const client = await openRaw(t, origin)
  client.write(Buffer.concat([Buffer.from(CHUNKED), chunk(Buffer.alloc(2 * MIB))]))
  t.match(await client.answer(), { status: 507, body: { code: 'insufficient_storage' } })
  t.same(readdirSync(spoolDir), [], 'nothing is kept')
  const again = await openRaw(t, origin)
  again.write(
    Buffer.concat([Buffer.from(CHUNKED), chunk(Buffer.alloc(1_000)), Buffer.from('\r\n0\r\n\r\n')]),
  )
  t.match(
    await again.answer(),
    { status: 200, text: '1000' },
    'its place and its room are free again',
  )
})
