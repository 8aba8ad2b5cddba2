import t from 'tap'
import { freeMemory } from '../../src/lib/free-memory.ts'

const held = () => process.memoryUsage().arrayBuffers

t.test('a large buffer is empty at once, and its memory is free', async (t) => {
  const sizeBytes = 64 * 1024 * 1024
  const buffer = Buffer.from(new ArrayBuffer(sizeBytes))
  const view = buffer.subarray(1)
  const before = held()
  freeMemory(buffer)
  t.ok(before - held() >= sizeBytes, `${before} bytes before, ${held()} after`)
  t.same([buffer.length, view.length], [0, 0])
  freeMemory(view)
})

t.test('small buffers share their memory, and stay as they are', async (t) => {
  const [one, other] = [Buffer.from('one'), Buffer.from('other')]
  freeMemory(one)
  freeMemory(Buffer.alloc(0))
  t.same([one.toString(), other.toString()], ['one', 'other'])
})
