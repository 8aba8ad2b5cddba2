/** Connections that take nothing, or ask for nothing, are cut off in time; all others are left alone. */

import { existsSync, readFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer, type Socket } from 'node:net'
import t from 'tap'
import { accepted, boundConnections, IdleWatch } from '../../../src/http/connection/connections.ts'
import { until } from '../../../testkit/until.ts'
import { openOne, UNBOUND } from './one-connection.ts'

/** One line for each connection: its number, its own address, the other's, and more; the digits are hexadecimal (Linux). */
const KERNEL_FILE = '/proc/net/tcp'

/** Whether the kernel still has anything of this connection, of our end. */
function kernelEntry({ localPort, remotePort }: Socket) {
  const address = (port = 0) => `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const entry = `: ${address(localPort)} ${address(remotePort)} `
  return () => readFileSync(KERNEL_FILE, 'utf8').includes(entry)
}

/** Begun here: the server looks at each in 2.5 s or a little more. Node's own time-outs are off; its clock goes a day for each look. */
const silent = await (async () => {
  const server = createHttpServer({ headersTimeout: 0, requestTimeout: 0 })
  let nowMs = 0
  boundConnections(server, {
    ...UNBOUND,
    nowMs: () => {
      nowMs += 86_400_000
      return nowMs
    },
  })
  return openOne(t, server)
})()

t.test(
  'who takes no byte of an answer, or asks for nothing more, is cut off in time',
  async (t) => {
    const cut: string[] = []
    const socket = (name: string, writableLength: number) => ({
      bytesWritten: 1_000,
      writableLength,
      _handle: { writeQueueSize: 400 },
      resetAndDestroy: () => {},
      destroy: () => cut.push(name),
    })
    const stalled = socket('stalled', 500)
    const newer = socket('newer', 500)
    const slow = socket('slow', 500)
    const idle = socket('idle', 0)
    const working = socket('working', 0)
    const watch = new IdleWatch()
    const watched = (it: typeof idle, atMs: number) =>
      watch.add(it as never, atMs, () => it === working)
    const leave = {
      stalled: watched(stalled, 0),
      slow: watched(slow, 0),
      idle: watched(idle, 0),
      working: watched(working, 0),
      newer: watched(newer, 1),
    }
    slow._handle.writeQueueSize -= 1
    watch.check(30_000)
    t.same(cut, [])
    watch.check(60_000)
    t.same(cut, ['stalled'])
    leave.stalled()
    t.equal(watch.size, 4)
    leave.newer()
    watch.check(79_999)
    t.same(cut, ['stalled'], 'an idle one has longer')
    watch.check(90_000)
    t.same(cut, ['stalled', 'slow', 'idle'], 'progress gave the slow one 60 s more')
    leave.slow()
    leave.idle()
    watch.check(500_000)
    t.equal(cut.length, 3, 'what works is left alone')
    leave.working()
    watch.check(1_000_000)
    t.equal(cut.length, 3, 'who has left is not looked at')
    t.equal(watch.size, 0)
  },
)

t.test('who works has all of its time again behind that', async (t) => {
  let isOurTurn = true
  let isCut = false
  const socket = { bytesWritten: 0, writableLength: 0, destroy: () => (isCut = true) }
  const watch = new IdleWatch()
  watch.add(socket as never, 0, () => isOurTurn)
  watch.check(80_000)
  isOurTurn = false
  watch.check(155_000)
  t.notOk(isCut)
  watch.check(160_000)
  t.ok(isCut)
})

t.test('each is looked at in its turn, whoever comes and leaves', async (t) => {
  const looked: number[] = []
  const watch = new IdleWatch()
  const add = (name: number, atMs: number) => {
    let bytesWritten = 0
    const socket = {
      get bytesWritten() {
        looked.push(name)
        return bytesWritten++
      },
      writableLength: 0,
    }
    const leave = watch.add(socket as never, atMs, () => false)
    looked.pop() // as it came
    return leave
  }
  const lookedAt = (atMs: number) => {
    watch.check(atMs)
    return looked.splice(0)
  }
  add(1, 0)
  const leave2 = add(2, 1_000)
  add(3, 2_000)
  t.same(lookedAt(2_499), [])
  t.same(lookedAt(2_500), [1])
  t.same(lookedAt(2_600), [])
  leave2()
  add(4, 3_000)
  t.same(lookedAt(4_500), [3])
  t.same(lookedAt(100_000), [1, 4, 3])
  t.same(lookedAt(102_499), [])
  t.same(lookedAt(102_500), [1, 4, 3])
  t.equal(watch.size, 3)
})

t.test('a part of a chunk is progress, on a socket as it is', async (t) => {
  const MIB = 1024 * 1024
  const chunkBytes = 64 * MIB // far more than the system's buffers take
  const { client, socket } = await openOne(t, createServer())
  const hasKernelEntry = existsSync(KERNEL_FILE) ? kernelEntry(socket) : undefined
  socket.write(Buffer.alloc(chunkBytes))
  const watch = new IdleWatch()
  watch.add(socket, 0, () => false)
  let atMs = 0
  const look = () => {
    watch.check(atMs)
    atMs += 60_000
  }
  const take = (sizeBytes: number) =>
    new Promise<void>((resolve) => {
      let leftBytes = sizeBytes
      client.once('close', resolve) // cut off: seen below
      client.on('data', function onData({ length }) {
        leftBytes -= length
        if (leftBytes > 0) return
        client.pause().off('data', onData)
        resolve()
      })
      client.resume()
    })
  look()
  for (const _ of ['slowly', 'but steadily']) {
    await take(16 * MIB)
    look()
    t.notOk(socket.destroyed)
  }
  t.equal(socket.writableLength, chunkBytes, 'no whole chunk is gone')
  t.not(hasKernelEntry?.(), false)
  const acceptedBytes = accepted(socket)
  t.ok(acceptedBytes >= client.bytesRead && acceptedBytes < chunkBytes)
  await until(() => {
    look() // progress, as long as the system's buffers take more
    return socket.destroyed
  })
  t.notOk(hasKernelEntry?.(), 'the kernel keeps nothing for it')
})

t.test('a server looks at its connections by itself', async () => {
  await until(() => silent.socket.destroyed)
})
