/** The cache: one reads the database for all who wait, in this process and beside others. Its files: cache-files.test.ts. */
import { readFile } from 'node:fs/promises'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { chunkReader } from '../../src/db/apks/chunks.ts'
import type { Query, Queryable } from '../../src/db/postgres/pool.ts'
import { AppError } from '../../src/domain/errors.ts'
import { PIECE_BYTES, readAll, SIZE_BYTES, setUpCache, storedApk } from './cache-fixture.ts'

/** A gate that `open` opens for good. */
function gate() {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open }
}

t.test('fifty readers of an APK that is nowhere yet read the database once', async (t) => {
  const { cache, store, reads, files, pathOf, lines } = setUpCache(t)
  const apk = storedApk('once')
  store(apk)
  const read = cache()
  const ranges = Array.from({ length: 50 }, (_, index) => [index * 13_000, SIZE_BYTES - 1] as const)
  const got = await Promise.all(ranges.map(([first, last]) => readAll(read, apk, first, last)))
  for (const [index, [first]] of ranges.entries()) {
    t.ok(got[index]?.equals(apk.bytes.subarray(first)), `from ${first}`)
  }
  t.ok((await readAll(read, apk, 10, 19)).equals(apk.bytes.subarray(10, 20)))
  t.same(reads, ['once'])
  t.same(await files(), [pathOf(apk).split('/').at(-1)], 'one file, no .part')
  t.ok((await readFile(pathOf(apk))).equals(apk.bytes))
  t.same(lines, [])
})

t.test('readers follow a fill, and get the last piece once the sum is right', async (t) => {
  const { cache, store, hold } = setUpCache(t)
  const apk = storedApk('follow')
  store(apk)
  const lastPiece = gate()
  hold(async (at) => {
    if (at + PIECE_BYTES >= SIZE_BYTES) await lastPiece.opened
  })
  const pieces = cache()(apk, 0, SIZE_BYTES - 1)[Symbol.asyncIterator]()
  let gotBytes = 0
  while (gotBytes < SIZE_BYTES - PIECE_BYTES) {
    const { value, done } = await pieces.next()
    t.notOk(done)
    gotBytes += value?.length ?? 0
  }
  t.equal(gotBytes, SIZE_BYTES - PIECE_BYTES, 'all but the last piece, which is not read yet')
  lastPiece.open()
  const { value } = await pieces.next()
  t.ok(apk.bytes.subarray(gotBytes).equals(Buffer.from(value ?? [])))
  t.ok((await pieces.next()).done)
})

t.test('a fill goes on when the reader that began it leaves', async (t) => {
  const { cache, store, hold, reads, files } = setUpCache(t)
  const apk = storedApk('leaves')
  store(apk)
  const hasLeft = gate()
  hold(async (at) => {
    if (at > 0) await hasLeft.opened
  })
  const read = cache()
  const first = read(apk, 0, SIZE_BYTES - 1)[Symbol.asyncIterator]()
  t.equal((await first.next()).value?.length, PIECE_BYTES)
  const second = readAll(read, apk)
  await first.return?.()
  hasLeft.open()
  t.ok((await second).equals(apk.bytes))
  t.same(reads, ['leaves'])
  t.equal((await files()).length, 1)
})

t.test('where the database fails within a fill, each reader goes on by itself', async (t) => {
  const { cache, store, hold, reads, lines, files } = setUpCache(t)
  const apk = storedApk('restart')
  store(apk)
  let hasFailed = false
  hold(async (at) => {
    if (at !== 300_000 || hasFailed) return
    hasFailed = true
    throw new AppError('db_unavailable', 'away')
  })
  const read = cache()
  const got = await Promise.all([readAll(read, apk), readAll(read, apk, 500_000)])
  t.ok(got[0].equals(apk.bytes))
  t.ok(got[1].equals(apk.bytes.subarray(500_000)))
  t.same(reads, ['restart', 'restart', 'restart'])
  t.same(lines, [], 'the pool tells of the database')
  t.same(await files(), [])
})

t.test('what another process left is used once its sum was found right', async (t) => {
  const { cache, store, reads } = setUpCache(t)
  const apk = storedApk('shared')
  store(apk)
  await readAll(cache(), apk)
  const other = cache()
  const got = await Promise.all(Array.from({ length: 5 }, () => readAll(other, apk)))
  for (const bytes of got) t.ok(bytes.equals(apk.bytes))
  t.same(reads, ['shared'])
})

t.test('two processes that fill the same file at once both serve it', async (t) => {
  const { cache, store, hold, reads, files } = setUpCache(t)
  const apk = storedApk('both')
  store(apk)
  const both = gate()
  hold(async () => {
    if (reads.length === 2) both.open()
    await both.opened
  })
  const [one, other] = [cache(), cache()]
  const got = await Promise.all([readAll(one, apk), readAll(other, apk), readAll(one, apk)])
  for (const bytes of got) t.ok(bytes.equals(apk.bytes))
  t.same(reads, ['both', 'both'])
  t.equal((await files()).length, 1)
  t.ok((await readAll(one, apk)).equals(apk.bytes), 'also the file that the other put in its place')
  t.equal(reads.length, 2)
})

t.test('four fills run at once; beyond them the database is read, and nothing waits', async (t) => {
  const { cache, store, hold, reads, files } = setUpCache(t)
  const builds = Array.from({ length: 6 }, (_, index) => storedApk(`fill-${index}`))
  store(...builds)
  const all = gate()
  hold(async () => {
    if (reads.length === builds.length) all.open()
    await all.opened
  })
  const read = cache()
  const got = await Promise.all(builds.map((apk) => readAll(read, apk)))
  for (const [index, apk] of builds.entries()) t.ok(got[index]?.equals(apk.bytes), apk.buildId)
  t.equal((await files()).length, 4)
})

t.test('fills that fail give their place back', async (t) => {
  const { cache, store, hold, reads, files } = setUpCache(t)
  const builds = Array.from({ length: 5 }, (_, index) => storedApk(`fails-${index}`))
  const apk = storedApk('cached')
  store(...builds, apk)
  const read = cache()
  hold(async () => {
    throw new AppError('db_unavailable', 'away')
  })
  for (const build of builds) await t.rejects(readAll(read, build), { code: 'db_unavailable' })
  hold(async () => {})
  reads.splice(0)
  for (let download = 1; download <= 2; download += 1) {
    t.ok((await readAll(read, apk)).equals(apk.bytes))
  }
  t.same(reads, ['cached'])
  t.equal((await files()).length, 1)
})

t.test('however many read from the database, two pieces are on their way at once', async (t) => {
  const apk = storedApk('crowd')
  let onTheirWay = 0
  let most = 0
  const database: Queryable = {
    async query<Row extends object>({ values = [] }: Query) {
      onTheirWay += 1
      most = Math.max(most, onTheirWay)
      await turn()
      onTheirWay -= 1
      const [buildId, , from, count] = values
      if (buildId === 'broken') throw new Error('broken')
      const first = Number(from) - 1
      const rows = [{ bytes: apk.bytes.subarray(first, first + Number(count)) }]
      return { rows: rows as object[] as Row[], rowCount: 1 } // what READ selects
    },
  }
  const readChunks = chunkReader(database)
  const broken = readAll(readChunks, { ...apk, buildId: 'broken' })
  const crowd = Array.from({ length: 20 }, () => readAll(readChunks, apk))
  await t.rejects(broken, /broken/, 'its turn is over, too')
  for (const bytes of await Promise.all(crowd)) t.ok(bytes.equals(apk.bytes))
  t.equal(most, 2)
})
