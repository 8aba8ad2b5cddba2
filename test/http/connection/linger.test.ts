import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import t from 'tap'
import { createLinger, type Linger } from '../../../src/http/connection/linger.ts'

const KIB = 1024

function discarding(linger: Linger) {
  let isDestroyed = false
  let isPaused = false
  const emitter = new EventEmitter()
  const socket = Object.assign(emitter, {
    writableEnded: false,
    end: () => {
      socket.writableEnded = true
    },
    pause: () => {
      isPaused = true
    },
    destroy: () => {
      isDestroyed = true
      emitter.emit('close')
    },
  }) as unknown as Socket & { writableEnded: boolean }
  const discard = linger.discarding(socket)
  return {
    isDestroyed: () => isDestroyed,
    isPaused: () => isPaused,
    close: () => linger.close(socket),
    destroy: () => socket.destroy(),
    receive: (sizeBytes: number, times = 1) => {
      for (let n = 0; n < times; n += 1) discard(Buffer.alloc(sizeBytes))
    },
  }
}

function lingering(linger: Linger) {
  const one = discarding(linger)
  one.close()
  return one
}

t.test('a connection may send 1 MiB more', async (t) => {
  const one = lingering(createLinger(() => 0))
  one.receive(64 * KIB, 16)
  t.notOk(one.isDestroyed())
  one.receive(1)
  t.ok(one.isDestroyed())
})

t.test('while its response is due, it is read no further than 16 KiB', async (t) => {
  const one = discarding(createLinger(() => 0))
  one.receive(KIB, 16)
  t.notOk(one.isPaused())
  one.receive(1)
  t.ok(one.isPaused())
  t.notOk(one.isDestroyed())
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
  const due = discarding(linger)
  due.receive(1)
  t.ok(due.isPaused())
  t.notOk(due.isDestroyed())
  nowMs = 1_000
  const later = lingering(linger)
  later.receive(1, 4_096)
  t.notOk(later.isDestroyed(), 'a byte counts as 4 KiB')
  later.receive(1)
  t.ok(later.isDestroyed())
})
