import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { createLinger, type Linger } from '../../../src/http/connection/linger.ts'

const KIB = 1024

function discarding(linger: Linger) {
  let isPaused = false
  const socket = Object.assign(new EventEmitter(), {
    writableEnded: false,
    end: () => {
      socket.writableEnded = true
    },
    pause: () => {
      isPaused = true
    },
    destroy: () => {
      throw new Error('a close would reset the connection')
    },
  }) as unknown as Socket & { writableEnded: boolean }
  const discard = linger.discarding(socket)
  return {
    isPaused: () => isPaused,
    socket,
    receive: (sizeBytes: number, times = 1) => {
      for (let n = 0; n < times; n += 1) discard(Buffer.alloc(sizeBytes))
    },
  }
}

function lingering(t: Test, linger: Linger) {
  const one = discarding(linger)
  linger.close(one.socket)
  t.teardown(() => one.socket.emit('close'))
  return one
}

t.test('a connection may send 1 MiB more', async (t) => {
  const one = lingering(
    t,
    createLinger(() => 0),
  )
  one.receive(64 * KIB, 16)
  t.notOk(one.isPaused())
  one.receive(1)
  t.ok(one.isPaused())
})

t.test('while its response is due, it is read no further than 16 KiB', async (t) => {
  const one = discarding(createLinger(() => 0))
  one.receive(KIB, 16)
  t.notOk(one.isPaused())
  one.receive(1)
  t.ok(one.isPaused())
})

t.test('all connections together may send 16 MiB a second', async (t) => {
  let nowMs = 0
  const linger = createLinger(() => nowMs)
  for (let n = 0; n < 16; n += 1) {
    const one = lingering(t, linger)
    one.receive(64 * KIB, 16)
    t.notOk(one.isPaused())
  }
  nowMs = 999
  for (const beyond of [lingering(t, linger), discarding(linger)]) {
    beyond.receive(1)
    t.ok(beyond.isPaused())
  }
  nowMs = 1_000
  const later = lingering(t, linger)
  later.receive(1, 4_096)
  t.notOk(later.isPaused(), 'a byte counts as 4 KiB')
  later.receive(1)
  t.ok(later.isPaused())
})
