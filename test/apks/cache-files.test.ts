/** The files of the cache: damaged, too many, left by the dead, on a disk that fails. */

import { readdirSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { VerifiedFiles } from '../../src/apk/verified-files.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { readAll, SIZE_BYTES, type Stored, setUpCache, storedApk } from './cache-fixture.ts'

const HOUR_MS = 60 * 60_000

t.test(
  'stored bytes with another sum are never given out whole, and that is an ERROR',
  async (t) => {
    const { cache, store, files, lines } = setUpCache(t)
    const apk = storedApk('damaged')
    const damaged = Buffer.from(apk.bytes)
    damaged[1_000] = (damaged[1_000] ?? 0) ^ 1
    store({ ...apk, bytes: damaged })
    let gotBytes = 0
    await t.rejects(async () => {
      for await (const bytes of cache()(apk, 0, SIZE_BYTES - 1)) gotBytes += bytes.length
    }, /SHA-256/)
    t.ok(gotBytes < SIZE_BYTES, `${gotBytes} bytes`)
    t.same(await files(), [], 'nothing is kept')
    t.match(lines, [
      {
        level: 'ERROR',
        event: 'apk.cache.fail',
        fields: { build_id: 'damaged', reason: 'database' },
      },
    ])
  },
)

t.test('a file with other bytes is noticed, replaced and reported', async (t) => {
  const { cache, store, reads, lines, pathOf } = setUpCache(t)
  const apk = storedApk('corrupt')
  store(apk)
  const read = cache()
  await readAll(read, apk)
  const corrupt = Buffer.from(apk.bytes)
  corrupt.fill(0, 400_000, 400_010)
  for (const damage of [
    () => writeFile(pathOf(apk), corrupt),
    () => truncate(pathOf(apk), 1_000),
    () => writeFile(pathOf(apk), ''),
  ]) {
    lines.splice(0)
    reads.splice(0)
    await damage()
    const got = await Promise.all([readAll(read, apk), readAll(read, apk, 5)])
    t.ok(got[0].equals(apk.bytes))
    t.ok(got[1].equals(apk.bytes.subarray(5)))
    t.ok((await readFile(pathOf(apk))).equals(apk.bytes))
    t.same(reads, ['corrupt'])
    t.match(lines, [{ level: 'WARN', fields: { build_id: 'corrupt', reason: 'corrupt' } }])
    t.equal(lines.length, 1)
  }
})

t.test('files that turn out to be others leave no descriptor open', async (t) => {
  const dir = tempDirectory(t)
  const path = join(dir, 'x.apk')
  await writeFile(path, 'as it was summed up')
  const checked = new VerifiedFiles(() => 0)
  checked.add(path, await stat(path, { bigint: true }))
  const known = await checked.open(path)
  t.ok(known)
  await known?.close()
  await writeFile(path, 'as somebody left it')
  const open = () => readdirSync('/dev/fd').length
  const before = open()
  for (let count = 0; count < 50; count += 1) t.equal(await checked.open(path), undefined)
  t.equal(open(), before)
})

t.test('bytes that rot without a trace are noticed within the hour', async (t) => {
  const { cache, store, lines, pathOf, clock } = setUpCache(t)
  const apk = storedApk('rot')
  store(apk)
  const read = cache()
  await readAll(read, apk)
  // A whole second is what utimes can give back exactly.
  const { mtime } = await stat(pathOf(apk))
  const second = new Date(Math.floor(mtime.getTime() / 1_000) * 1_000)
  await utimes(pathOf(apk), second, second)
  await readAll(read, apk)
  const rotten = Buffer.from(apk.bytes)
  rotten[5] = (rotten[5] ?? 0) ^ 1
  await writeFile(pathOf(apk), rotten)
  await utimes(pathOf(apk), second, second)
  clock.nowMs += HOUR_MS - 1
  t.ok((await readAll(read, apk)).equals(rotten), 'believed for an hour')
  t.same(lines, [])
  clock.nowMs += 1
  t.ok((await readAll(read, apk)).equals(apk.bytes))
  t.match(lines, [{ fields: { reason: 'corrupt' } }])
})

t.test(
  'a file that is cut off or removed while it is read is read on from the database',
  async (t) => {
    const { cache, store, reads, pathOf, lines } = setUpCache(t)
    const apk = storedApk('cut')
    store(apk)
    const read = cache()
    await readAll(read, apk)
    for (const [harm, expectedReads] of [
      [() => truncate(pathOf(apk), 300_000), ['cut']],
      [() => rm(pathOf(apk)), []],
    ] as const) {
      await readAll(read, apk)
      reads.splice(0)
      const pieces = read(apk, 0, SIZE_BYTES - 1)[Symbol.asyncIterator]()
      const got = [Buffer.from((await pieces.next()).value ?? [])]
      await harm()
      for (let next = await pieces.next(); !next.done; next = await pieces.next()) {
        got.push(Buffer.from(next.value))
      }
      t.ok(Buffer.concat(got).equals(apk.bytes))
      t.same(reads, expectedReads)
    }
    t.match(lines, [{ fields: { reason: 'corrupt' } }], 'the file that was cut')
  },
)

t.test(
  'all files together stay within the bound; what was used longest ago goes first',
  async (t) => {
    const { cache, store, reads, dir, pathOf, clock } = setUpCache(t, 3 * SIZE_BYTES)
    const builds = ['a', 'b', 'c', 'd', 'e'].map((seed) => storedApk(seed))
    const [a, b, c, d, e] = builds as [Stored, Stored, Stored, Stored, Stored] // five seeds
    const large = storedApk('large', 3 * SIZE_BYTES + 1)
    store(...builds, large)
    const read = cache()
    const use = async (apk: Stored) => {
      clock.nowMs += 1_000
      t.ok((await readAll(read, apk)).equals(apk.bytes), apk.buildId)
      const sizes = await Promise.all((await readdir(dir)).map((name) => stat(join(dir, name))))
      t.ok(sizes.reduce((sum, { size }) => sum + size, 0) <= 3 * SIZE_BYTES)
    }
    for (const apk of [a, b, c, a, d]) await use(apk)
    const kept = async () =>
      (await readdir(dir)).map((name) => builds.find((one) => pathOf(one).endsWith(name))?.buildId)
    t.same((await kept()).toSorted(), ['a', 'c', 'd'], 'b was used longest ago')
    reads.splice(0)
    await use(large)
    await use(large)
    t.same(reads, ['large', 'large'], 'what is larger than all of it is never cached')
    t.same((await kept()).toSorted(), ['a', 'c', 'd'])

    const reading = read(c, 0, SIZE_BYTES - 1)[Symbol.asyncIterator]()
    const got = [Buffer.from((await reading.next()).value ?? [])]
    for (const apk of [b, d, e]) await use(apk)
    t.notOk((await kept()).includes('c'))
    for (let next = await reading.next(); !next.done; next = await reading.next()) {
      got.push(Buffer.from(next.value))
    }
    t.ok(Buffer.concat(got).equals(c.bytes), 'who reads a file reads it to its end')
  },
)

t.test(
  'what a dead process left half filled is removed, what a live one fills is not',
  async (t) => {
    const { cache, store, dir, files } = setUpCache(t, 2 * SIZE_BYTES)
    const apk = storedApk('parts')
    store(apk)
    await mkdir(dir)
    const [dead, live] = ['x.apk.dead.part', 'x.apk.live.part']
    for (const name of [dead, live]) await writeFile(join(dir, name), Buffer.alloc(SIZE_BYTES))
    const longAgo = new Date(Date.now() - 61_000)
    const foreign = 'lost+found' // the cache may be a disk of its own
    await mkdir(join(dir, foreign))
    for (const name of [dead, foreign]) await utimes(join(dir, name), longAgo, longAgo)
    t.ok((await readAll(cache(), apk)).equals(apk.bytes))
    const left = await files()
    t.notOk(left.includes(dead))
    t.ok(left.includes(live))
    t.ok(left.includes(foreign), 'what is not ours is left alone')
    t.equal(left.length, 3)
  },
)

t.test('without room or a usable disk the database serves, said once a minute', async (t) => {
  const { cache, store, dir, reads, lines, clock, files } = setUpCache(t)
  const apk = storedApk('disk')
  store(apk)
  await writeFile(dir, 'a file where the directory belongs')
  const read = cache()
  const got = await Promise.all([readAll(read, apk), readAll(read, apk, 7)])
  t.ok(got[0].equals(apk.bytes))
  t.ok(got[1].equals(apk.bytes.subarray(7)))
  t.ok((await readAll(read, apk)).equals(apk.bytes))
  t.match(lines, [
    { level: 'WARN', fields: { build_id: 'disk', reason: 'disk', error: /ENOTDIR|EEXIST/ } },
  ])
  t.equal(lines.length, 1)
  clock.nowMs += 60_000
  t.ok((await readAll(read, apk)).equals(apk.bytes))
  t.equal(lines.length, 2, 'it was tried again')
  await rm(dir)
  clock.nowMs += 60_000
  reads.splice(0)
  await readAll(read, apk)
  t.ok((await readAll(read, apk)).equals(apk.bytes))
  t.same(reads, ['disk'], 'the disk is back')
  t.equal((await files()).length, 1)
  t.equal(lines.length, 2)
})

t.test(
  'an upload moves into the cache, within its bounds, and harms nothing where it fails',
  async (t) => {
    const { create, store, dir, reads, lines, files, pathOf, clock } = setUpCache(t, 2 * SIZE_BYTES)
    const builds = ['one', 'two', 'three'].map((seed) => storedApk(seed))
    store(...builds)
    const { readApk, adopt } = create()
    const upload = join(dir, '..', 'upload.part')
    const nameOf = (apk: Stored) => pathOf(apk).split('/').at(-1)
    for (const apk of builds) {
      await writeFile(upload, apk.bytes)
      clock.nowMs += 1000
      await adopt(apk, upload)
      t.ok((await readAll(readApk, apk)).equals(apk.bytes))
      await t.rejects(stat(upload), { code: 'ENOENT' }, 'moved, not copied')
    }
    t.same(reads, [], 'the database was not read')
    t.same(await files(), builds.slice(1).map(nameOf).toSorted(), 'the oldest made room')

    const [gone] = builds as [Stored]
    await adopt(gone, upload)
    t.match(lines, [{ event: 'apk.cache.fail', fields: { build_id: 'one', reason: 'disk' } }])
    t.ok((await readAll(readApk, gone)).equals(gone.bytes))
    t.same(reads, ['one'], 'so the database was')

    const large = storedApk('large', 2 * SIZE_BYTES + 1)
    await writeFile(upload, large.bytes)
    await adopt(large, upload)
    t.ok(await stat(upload), 'larger than the cache: left alone')
    t.equal((await files()).length, 2)
  },
)

t.test(
  'an upload finds no room while others fill, and no other bytes under its name',
  async (t) => {
    const { create, store, dir, reads, files } = setUpCache(t, 2 * SIZE_BYTES)
    const apk = storedApk('room')
    store(apk)
    const { readApk, adopt } = create()
    await mkdir(dir)
    await writeFile(join(dir, 'x.apk.live.part'), Buffer.alloc(2 * SIZE_BYTES))
    const upload = join(dir, '..', 'upload.part')
    await writeFile(upload, apk.bytes)
    await adopt(apk, upload)
    t.same(await files(), ['x.apk.live.part'])
    await rm(join(dir, 'x.apk.live.part'))
    await writeFile(upload, 'other bytes, such as a power cut leaves')
    await adopt(apk, upload)
    const restarted = create().readApk
    t.ok((await readAll(restarted, apk)).equals(apk.bytes))
    t.same(reads, ['room'], 'noticed after a restart')
    t.ok((await readAll(readApk, apk)).equals(apk.bytes))
  },
)
