/** Items that come and go: the list holds exactly those that were added and not removed. */
import t from 'tap'
import { LiveList } from '../../src/core/live-list.ts'

t.test('it holds what was added and not removed, whatever the order', (t) => {
  const list = new LiveList<string>()
  const places = new Map<string, number>()
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
      list.remove(places.get(key) ?? Number.NaN)
      places.delete(key)
    }
    t.equal(list.size, places.size)
  }
  t.same([...list].sort(), [...places.keys()].sort())
  t.equal(new Set(places.values()).size, places.size, 'no two have one place')
  t.ok(Math.max(...places.values()) < 500, 'places are used again')
  t.end()
})

t.test('what is removed while it is read may be left out, and nothing breaks', (t) => {
  const list = new LiveList<number>()
  const places = Array.from({ length: 10 }, (_, item) => list.add(item))
  const seen: number[] = []
  for (const item of list) {
    seen.push(item)
    if (item % 2 === 0) list.remove(places[item + 1] ?? Number.NaN)
  }
  t.same(seen, [0, 2, 4, 6, 8])
  t.equal(list.size, 5)
  t.end()
})
