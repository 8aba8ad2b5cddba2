/** The scan misses no due row, whatever clocks, locks and late commits do, and reads nothing twice. */
import t from 'tap'
import { type DueKey, DueScan, type ScanStep } from '../../src/domain/delivery/due-scan.ts'
import { seededRandom } from '../../testkit/random.ts'

interface Row {
  id: string
  /** Database time, ms. */
  dueAtMs: number
  /** True time from which on it is visible and not locked. */
  freeAtMs: number
}

const LIMIT = 64
const OPTIONS = { farMs: 5_000, pastShare: 0.005 }
const LEASE_MS = 60_000
/** The cost of a statement, and of each entry that it reads. */
const STATEMENT_MS = 1
const ENTRY_MS = 0.004
const TOO_SLOW_MS = 900

/** An index that keeps its entries while a snapshot is held, a database clock that can be set, and time; all in ms. */
class World {
  trueMs = 1_000_000
  clockMs = 5_000_000_000
  isHeld = false
  live: Row[] = []
  readonly #dead: number[][] = [[], []]
  readonly takenAtMs = new Map<string, number>()
  visited = 0
  looks = 0

  get nowMs(): number {
    return this.trueMs + this.clockMs
  }

  die(list: 0 | 1, atMs: number): void {
    if (!this.isHeld) return
    const sorted = this.#dead[list] ?? []
    sorted.splice(firstAbove(sorted, atMs), 0, atMs)
  }

  vacuum(): void {
    for (const sorted of this.#dead) sorted.length = 0
  }

  /** One statement. undefined: it took too long. */
  look({ after, fromAgeMs, toAgeMs }: ScanStep): Row[] | undefined {
    const fromMs = fromAgeMs === null ? Number.NEGATIVE_INFINITY : this.nowMs - fromAgeMs
    const [lowMs, lowId] = after === null ? [fromMs, ''] : [Number(after.at), after.id]
    const due = this.live
      .filter(
        ({ id, dueAtMs, freeAtMs }) =>
          freeAtMs <= this.trueMs &&
          dueAtMs <= this.nowMs - toAgeMs &&
          (dueAtMs > lowMs || (dueAtMs === lowMs && id > lowId)),
      )
      .sort(byKey)
      .slice(0, LIMIT)
    const last = due.at(-1)
    const endMs = due.length === LIMIT && last ? last.dueAtMs : this.nowMs - toAgeMs
    const dead = this.#dead.map((sorted) => firstAbove(sorted, endMs) - firstAbove(sorted, lowMs))
    const visited = due.length + Math.max(0, dead[0] ?? 0) + Math.max(0, dead[1] ?? 0)
    this.visited += visited
    this.looks += 1
    const tookMs = STATEMENT_MS + visited * ENTRY_MS
    this.trueMs += Math.min(tookMs, TOO_SLOW_MS)
    return tookMs > TOO_SLOW_MS ? undefined : due
  }

  take(row: Row): void {
    this.live = this.live.filter((other) => other !== row)
    this.takenAtMs.set(row.id, this.trueMs)
    this.die(0, row.dueAtMs)
    this.die(1, this.nowMs + LEASE_MS)
  }
}

function byKey(a: Row, b: Row): number {
  return a.dueAtMs - b.dueAtMs || (a.id < b.id ? -1 : 1)
}

/** Counts those up to `atMs`. */
function firstAbove(sorted: readonly number[], atMs: number): number {
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((sorted[middle] ?? 0) <= atMs) low = middle + 1
    else high = middle
  }
  return low
}

/** Scans as db/commands/due.ts does until nothing more is found. Returns the rows. */
function drain(world: World, walk: DueScan): Row[] {
  const taken: Row[] = []
  do {
    const look = walk.next(world.trueMs)
    const rows = world.look(look)
    if (rows === undefined) {
      walk.failed(look, true, world.trueMs)
      continue
    }
    const end = rows.at(-1)
    const last: DueKey | undefined = end && { at: String(end.dueAtMs), id: end.id }
    walk.found(look, { isFull: rows.length === LIMIT, last }, world.trueMs)
    for (const row of rows) world.take(row)
    taken.push(...rows)
  } while (walk.hasMore)
  return taken
}

/** Lets time pass, in polls of 500 ms with wake-ups between them; `each` may add rows. */
function run(world: World, walks: readonly DueScan[], forMs: number, each: () => void): void {
  const endMs = world.trueMs + forMs
  while (world.trueMs < endMs) {
    each()
    for (const walk of walks) drain(world, walk)
    world.trueMs += 50
  }
}

t.test('nothing that is due is lost or late, whatever happens to clocks and rows', async (t) => {
  for (let seed = 1; seed <= 30; seed += 1) {
    const random = seededRandom(seed)
    const world = new World()
    const walks = [new DueScan(OPTIONS), new DueScan(OPTIONS)]
    const rows: Row[] = []
    const add = (agoMs: number, freeInMs: number) => {
      const id = `r-${rows.length}`
      const row = { id, dueAtMs: world.nowMs - agoMs, freeAtMs: world.trueMs + freeInMs }
      rows.push({ ...row })
      world.live.push(row)
    }
    for (let n = 0; n < 300; n += 1) add(random() * 3_600_000, 0) // due for long at the start
    run(world, walks, 60_000, () => {
      const dice = random()
      if (dice < 0.3) add(0, 0)
      else if (dice < 0.4)
        add(0, random() * 200) // committed late
      else if (dice < 0.45)
        add(0, random() * 20_000) // very late
      else if (dice < 0.5)
        add(-random() * 30_000, 0) // a retry
      else if (dice < 0.53)
        add(random() * 3_600_000, 0) // by hand, into the past
      else if (dice < 0.56)
        add(random() * 5_000, random() * 3_000) // locked
      else if (dice < 0.57)
        world.clockMs += (random() - 0.5) * 7_200_000 // the clock is set
      else if (dice < 0.58) for (let n = 0; n < 200; n += 1) add(0, 0)
    })
    // A row that was due only by a clock that has been set back since has to wait.
    world.clockMs += 24 * 3_600_000
    run(world, walks, 25_000, () => {}) // the last may be committed 20 s late
    t.equal(world.live.length, 0, `seed ${seed}: of ${rows.length} rows`)
  }
})

t.test('a row that a look could not see is found within a second', async (t) => {
  const world = new World()
  const walk = new DueScan(OPTIONS)
  run(world, [walk], 10_000, () => {})
  for (const [id, agoMs, freeInMs] of [
    ['into the past', 3_600_000, 0],
    ['committed 20 s late', 0, 20_000],
    ['locked', 1_000, 700],
    ['due in a moment', -250, 0],
  ] as const) {
    const freeAtMs = world.trueMs + freeInMs
    world.live.push({ id, dueAtMs: world.nowMs - agoMs, freeAtMs })
    const sinceMs = Math.max(freeAtMs, world.trueMs - agoMs)
    run(world, [walk], 25_000, () => {})
    const lateMs = (world.takenAtMs.get(id) ?? Number.POSITIVE_INFINITY) - sinceMs
    t.ok(lateMs < 1_000, `${id}: ${lateMs} ms`)
  }
})

t.test('under a snapshot that is held for an hour a look reads what it read before', async (t) => {
  const world = new World()
  const walk = new DueScan(OPTIONS)
  let commands = 0
  const feed = () => {
    for (let n = 0; n < 3; n += 1) {
      commands += 1
      world.live.push({ id: `c-${commands}`, dueAtMs: world.nowMs, freeAtMs: world.trueMs })
    }
  }
  const perLook = (forMs: number) => {
    const [visited, looks] = [world.visited, world.looks]
    run(world, [walk], forMs, feed)
    return (world.visited - visited) / (world.looks - looks)
  }
  world.isHeld = true
  perLook(70_000)
  const atFirst = perLook(60_000)
  perLook(600_000)
  const afterTenMinutes = perLook(60_000)
  perLook(2_700_000)
  const afterAnHour = perLook(60_000)
  t.ok(commands > 180_000, `${commands} commands`)
  t.ok(afterTenMinutes < 2 * atFirst, `${atFirst} entries a look, then ${afterTenMinutes}`)
  t.ok(afterAnHour < 2 * atFirst, `${atFirst} entries a look, after an hour ${afterAnHour}`)
  t.equal(world.live.length, 0)

  const lost = { id: 'locked when the front passed', dueAtMs: world.nowMs - 1_200_000 }
  world.live.push({ ...lost, freeAtMs: world.trueMs })
  const sinceMs = world.trueMs
  run(world, [walk], 900_000, feed)
  const lateS = ((world.takenAtMs.get(lost.id) ?? Number.POSITIVE_INFINITY) - sinceMs) / 1_000
  t.ok(lateS < 900, `found after ${lateS} s`)

  const restarted = new DueScan(OPTIONS)
  world.live.push({ ...lost, id: 'due before the start', freeAtMs: world.trueMs })
  run(world, [restarted], 120_000, feed)
  t.ok(world.takenAtMs.has('due before the start'), 'also by one that begins in the midst of it')
})
