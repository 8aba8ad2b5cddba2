/** The list holds exactly the items that were added and not removed, in order. */
import t from 'tap'
import { LinkedList, type ListNode } from '../../src/lib/linked-list.ts'

t.test('it holds what was added and not removed, first come first', (t) => {
  const list = new LinkedList<string>()
  const places = new Map<string, ListNode<string>>()
  let seed = 1
  const random = () => {
    seed = (seed * 48_271) % 2_147_483_647
    return seed / 2_147_483_647
  }
  for (let step = 0; step < 2_000; step += 1) {
    const [oldest] = places.keys()
    if (random() < 0.5 || oldest === undefined) {
      places.set(`item ${step}`, list.add(`item ${step}`))
    } else {
      const keys = [...places.keys()]
      const key = keys[Math.floor(random() * keys.length)] ?? oldest
      const place = places.get(key)
      if (place !== undefined) list.remove(place)
      places.delete(key)
      t.same(place, { item: undefined, previous: undefined, next: undefined }, 'it keeps nothing')
    }
    if (random() < 0.2) {
      const [first, place] = [...places][0] ?? []
      list.rotate()
      if (first !== undefined && place !== undefined) {
        places.delete(first)
        places.set(first, place)
      }
    }
    t.equal(list.size, places.size)
    if (step % 50 === 0) {
      const items = [...places.keys()]
      t.same([...list], items)
      t.equal(list.first, items[0])
      const isFirst = (item: string) => item === items[0]
      const isEven = (item: string) => Number(item.slice(5)) % 2 === 0
      for (const fits of [isFirst, isEven, () => true, () => false]) {
        t.equal(list.findLast(fits), items.findLast(fits))
      }
    }
  }
  t.end()
})

t.test('what is removed while it is read is left out, and once is enough', (t) => {
  const list = new LinkedList<number>()
  const places = Array.from({ length: 10 }, (_, item) => list.add(item))
  const seen: number[] = []
  for (const item of list) {
    seen.push(item)
    const next = places[item + 1]
    if (item % 2 === 0 && next !== undefined) list.remove(next)
  }
  t.same(seen, [0, 2, 4, 6, 8])
  for (const place of places) list.remove(place)
  for (const place of places) list.remove(place)
  t.equal(list.size, 0)
  list.add(10)
  t.same([...list], [10])
  t.end()
})
