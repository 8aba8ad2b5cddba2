import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import t from 'tap'
import { createLinger, type Linger } from '../../../src/http/connection/linger.ts'

const KIB = 1024

function lingering(linger: Linger) {
  let isDestroyed = false
  const socket = new EventEmitter()
  const destroy = () => {
    isDestroyed = true
    socket.emit('close')
  }
  linger(Object.assign(socket, { end: () => {}, destroy }) as unknown as Socket)
  return {
    isDestroyed: () => isDestroyed,
    destroy,
    receive: (sizeBytes: number, times = 1) => {
      for (let n = 0; n < times; n += 1) socket.emit('data', Buffer.alloc(sizeBytes))
    },
  }
}

t.test('a connection may send 1 MiB more', async (t) => {
  const one = lingering(createLinger(() => 0))
  one.receive(64 * KIB, 16)
  t.notOk(one.isDestroyed())
  one.receive(1)
  t.ok(one.isDestroyed())
})

t.test('all connections together may send 16 MiB a second', async (t) => {
  let nowMs = 0
  const linger = createLinger(() => nowMs)
  for (let n = 0; n < 16; n += 1) {
    const one = lingering(linger)
    one.receive(64 * KIB, 16)
    t.notOk(one.isDestroyed())
    one.destroy()
  }
  nowMs = 999
  const beyond = lingering(linger)
  beyond.receive(1)
  t.ok(beyond.isDestroyed())
  nowMs = 1_000
  const later = lingering(linger)
  later.receive(1, 4_096)
  t.notOk(later.isDestroyed(), 'a byte counts as 4 KiB')
  later.receive(1)
  t.ok(later.isDestroyed())
})
