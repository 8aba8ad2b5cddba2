/** Damages the bytes of a request anywhere. */
import type { Dice } from '../../testkit/dice.ts'
import { FRAGMENTS } from './values.ts'

const MOST_AT_ONCE = 4
const MOST_SLICE_BYTES = 200

export function mutate(dice: Dice, bytes: Buffer): Buffer {
  let mutated = bytes
  for (let left = 1 + dice.below(MOST_AT_ONCE); left > 0; left -= 1) {
    mutated = dice.pick(MUTATIONS)(dice, mutated)
  }
  return mutated
}

type Mutation = (dice: Dice, bytes: Buffer) => Buffer

const splice = (bytes: Buffer, from: number, to: number, ...between: readonly Buffer[]) =>
  Buffer.concat([bytes.subarray(0, from), ...between, bytes.subarray(to)])

/** Mostly in the head, which is short compared with some bodies. */
const place = (dice: Dice, bytes: Buffer) => {
  const head = bytes.indexOf('\r\n\r\n')
  return dice.below((head > 0 && dice.chance(0.7) ? head : bytes.length) + 1)
}

const slice = (dice: Dice, bytes: Buffer) => {
  const from = place(dice, bytes)
  return [from, Math.min(bytes.length, from + dice.below(MOST_SLICE_BYTES))] as const
}

const MUTATIONS: readonly Mutation[] = [
  function flip(dice, bytes) {
    const at = place(dice, bytes)
    return splice(bytes, at, at + 1, Buffer.from([(bytes[at] ?? 0) ^ (1 << dice.below(8))]))
  },
  function replace(dice, bytes) {
    const at = place(dice, bytes)
    return splice(bytes, at, at + 1, Buffer.from([dice.below(256)]))
  },
  function remove(dice, bytes) {
    const [from, to] = slice(dice, bytes)
    return splice(bytes, from, to)
  },
  function repeat(dice, bytes) {
    const [from, to] = slice(dice, bytes)
    return splice(bytes, to, to, bytes.subarray(from, to))
  },
  function insert(dice, bytes) {
    const at = place(dice, bytes)
    return splice(bytes, at, at, Buffer.from(dice.pick(FRAGMENTS), 'latin1'))
  },
  function insertLine(dice, bytes) {
    const ends = [...bytes.toString('latin1').matchAll(/\r\n/g)].map(({ index }) => index + 2)
    const at = ends.length === 0 ? 0 : dice.pick(ends)
    return splice(bytes, at, at, Buffer.from(dice.pick(FRAGMENTS), 'latin1'))
  },
  function cut(dice, bytes) {
    return bytes.subarray(0, dice.below(bytes.length + 1))
  },
  function swap(dice, bytes) {
    const [from, to] = slice(dice, bytes)
    const middle = from + Math.floor((to - from) / 2)
    return splice(bytes, from, to, bytes.subarray(middle, to), bytes.subarray(from, middle))
  },
]
