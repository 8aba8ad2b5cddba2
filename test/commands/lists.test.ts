/** Lists of commands with a large history: each filter finds what its status says, by an index. */
import t from 'tap'
import { apkStore } from '../../src/db/apks/apks.ts'
import { auditStore } from '../../src/db/audit.ts'
import { commandStore } from '../../src/db/commands/commands.ts'
import type { CommandFilter } from '../../src/db/commands/lists.ts'
import { CANCEL_BATCH } from '../../src/db/commands/outbox.ts'
import { deviceStore } from '../../src/db/devices/devices.ts'
import type { ListPage } from '../../src/db/list-page.ts'
import { type Database, Pool, type Query } from '../../src/db/postgres/pool.ts'
import { COMMAND_STATUSES, statusAt } from '../../src/domain/commands/command.ts'
import { connect, createDatabase, PATIENT } from '../helpers/database.ts'

const HISTORY = 100_000
const OPEN = 200
/** Read and dropped on the way to a page; a filter without an index reads nearly all. */
const MOST_PASSED_OVER = 1_000
const url = await createDatabase(t)
const db = await connect(t, url)
const pool = new Pool({ ...PATIENT, url, maxConnections: 2, isPrepared: true })
t.teardown(() => pool.close(1_000))
const store = commandStore(pool)
const FIRST = { limit: 51, after: null }
const DEVICE = '00000000-0000-4000-8000-000000000007'

/** 5,000 devices, one of them busy; the newest 1 in 500 commands are open, half of those past their time. */
await db.query(`
  insert into enrollment_tokens (token_id, token_hash, uses_allowed, expires_at, issued_by, request_id)
  values ('00000000-0000-4000-8000-00000000ffff', sha256('x'), 1, now(), 'tester', 'r')`)
await db.query(`
  insert into devices (device_id, alias, enrollment_no, enrolled_by, hmac_secret_id, request_id)
  select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 'D' || n, 1,
    '00000000-0000-4000-8000-00000000ffff', '1', 'r'
  from generate_series(1, 5000) n`)
await db.query(
  'insert into device_status (device_id, request_id) select device_id, request_id from devices',
)
await db.query('set session_replication_role = replica') // no look at the device of each row
await db.query(`
  insert into commands (request_id, device_id, action, params, request_hash, admin, state, created_at,
    expires_at, ended_at, push_state, delivered_at)
  select 'c' || n, ('00000000-0000-4000-8000-' || lpad((case when n / 8 % 50 = 0 then 7 else n % 5000 + 1 end)::text, 12, '0'))::uuid, 'ping', '{}',
    '', 'tester', case when n <= ${OPEN} then 'open' when n % 10 = 0 then 'cancelled'
      when n % 10 = 1 then 'expired' else 'completed' end,
    now() - make_interval(secs => n), now() + make_interval(hours => case when n % 8 < 4 then -n else n end),
    case when n > ${OPEN} then now() end,
    (array['sent', 'waiting', 'gave_up', 'sent'])[n % 4 + 1], case when n % 4 = 3 then now() end
  from generate_series(1, ${HISTORY}) n`)
await db.query('analyze')

async function plan(filter: CommandFilter): Promise<string> {
  let asked: Query | undefined
  const spy: Database = {
    query(query) {
      asked = query
      return pool.query(query)
    },
    transaction: (work) => pool.transaction(work),
  }
  await commandStore(spy).list(FIRST, filter)
  const { text = '', values = [] } = asked ?? {}
  const { rows } = await db.query(`explain (analyze) ${text}`, [...values])
  return rows.map((row) => row['QUERY PLAN']).join('\n')
}

const ANY: CommandFilter = {
  ...{ deviceId: null, alias: null },
  ...{ status: null, outcome: null, action: null },
}
const FILTERS: readonly CommandFilter[] = [null, DEVICE].flatMap((deviceId) =>
  [null, ...COMMAND_STATUSES].map((status) => ({ ...ANY, deviceId, status })),
)

for (const filter of FILTERS) {
  const title = `${filter.status ?? 'any status'} of ${filter.deviceId === null ? 'any' : 'one'} device`
  t.test(`${title}: found by an index, newest first`, async (t) => {
    const explained = await plan(filter)
    t.notMatch(explained, 'Seq Scan', 'no sequential scan')
    const passedOver = [...explained.matchAll(/Rows Removed by .*: (\d+)/g)]
    const total = passedOver.reduce((sum, [, rows]) => sum + Number(rows), 0)
    t.ok(total <= MOST_PASSED_OVER, `${total} rows passed over`)
    const rows = await store.list(FIRST, filter)
    t.ok(rows.length > 0)
    for (const row of rows) {
      t.equal(row.deviceId, filter.deviceId ?? row.deviceId)
      t.equal(statusAt(row, row.now), filter.status ?? statusAt(row, row.now))
    }
    const keys = rows.map((row) => row.createdAtText)
    t.same(keys, keys.toSorted().reverse())
  })
}

t.test('every command is of exactly one status, page by page', async (t) => {
  for (const deviceId of [null, DEVICE]) {
    const seen: string[] = []
    for (const status of deviceId === null ? (['expired', 'sent'] as const) : COMMAND_STATUSES) {
      let after: { at: string; id: string } | null = null
      do {
        const rows = await store.list(
          { limit: 2_500, after },
          { ...ANY, deviceId, status, action: 'ping' },
        )
        seen.push(...rows.map((row) => row.requestId))
        const last = rows.at(-1)
        after = last === undefined ? null : { at: last.createdAtText, id: last.requestId }
      } while (after !== null)
    }
    const text =
      deviceId === null
        ? `select count(*)::int as n from commands where state = 'expired' or state = 'open'
             and (expires_at <= now() or push_state = 'sent' and delivered_at is null)`
        : `select count(*)::int as n from commands where device_id = '${DEVICE}'`
    t.equal(new Set(seen).size, seen.length)
    t.equal(seen.length, (await db.query(text)).rows[0].n)
  }
})

t.test('what came at one instant is seen whole, page by page', async (t) => {
  const TWIN = '00000000-0000-4000-8000-000000000011'
  await db.query(`
    insert into commands (request_id, device_id, action, params, request_hash, admin, state, created_at,
      expires_at, ended_at, push_state)
    select concat_ws('-', state, n), '${TWIN}', 'twin', '{}', '', 'twin', state, now() + interval '1 hour',
      now() + interval '2 hours', case when state <> 'open' then now() end, 'sent'
    from unnest(array['open', 'completed', 'expired', 'cancelled']) as state, generate_series(1, 3) n`)
  await db.query(`
    insert into audit_log (at, admin, what, subject, request_id)
    select now(), 'twin', 'w', 'n' || n, 'r' from generate_series(1, 3) n`)
  await db.query(`
    insert into apk_builds (build_id, build_type, version_code, sha256, size_bytes, chunk_count, published_by, request_id)
    select 'b' || n, 'debug', 1, sha256('b'), 1, 1, 'a', 'r' from generate_series(1, 3) n`)

  async function all<Row>(
    list: (page: ListPage) => Promise<readonly Row[]>,
    cursor: (row: Row) => NonNullable<ListPage['after']>,
  ) {
    const ids: string[] = []
    for (let after: ListPage['after'] = null; ; ) {
      const [row]: readonly Row[] = await list({ limit: 1, after })
      if (row === undefined) return ids.sort()
      after = cursor(row)
      ids.push(after.id)
    }
  }
  const commands = (filter: Partial<CommandFilter>) =>
    all(
      (page) => store.list(page, { ...ANY, action: 'twin', ...filter }),
      (row) => ({ at: row.createdAtText, id: row.requestId }),
    )
  const states = {
    sent: 'open',
    completed: 'completed',
    expired: 'expired',
    cancelled: 'cancelled',
  }
  for (const deviceId of [null, TWIN]) {
    for (const status of ['sent', 'completed', 'expired', 'cancelled'] as const) {
      const three = [1, 2, 3].map((n) => `${states[status]}-${n}`)
      t.same(await commands({ deviceId, status }), three, `${status} of ${deviceId}`)
    }
    t.equal((await commands({ deviceId })).length, 12)
  }
  const entries = await all(
    (page) =>
      auditStore(pool).list(page, {
        ...{ since: null, until: null, admin: 'twin' },
        ...{ what: null, subject: null, alias: null },
      }),
    ({ at, id }) => ({ at, id }),
  )
  t.equal(entries.length, 3)
  for (const buildType of [undefined, 'debug']) {
    const builds = await all(
      (page) => apkStore(pool).list(page, buildType),
      ({ publishedAt, buildId }) => ({ at: publishedAt, id: buildId }),
    )
    t.same(builds, ['b1', 'b2', 'b3'])
  }
})

t.test('a device with more open commands than a batch is deleted with all of them', async (t) => {
  const BUSY = '00000000-0000-4000-8000-000000000009'
  await db.query(`
    insert into commands (request_id, device_id, action, params, request_hash, admin, expires_at, push_state)
    select 'busy-' || n, '${BUSY}', 'ping', '{}', '', 'tester', now() + interval '1 day', 'waiting'
    from generate_series(1, ${2 * CANCEL_BATCH + 7}) n`)
  const count = async (where: string) =>
    Number(
      (await db.query(`select count(*) from commands where device_id = '${BUSY}' and ${where}`))
        .rows[0].count,
    )
  const open = await count(`state = 'open' and expires_at > now()`)
  const by = { admin: 'tester', requestId: 'r', ip: null, instance: 'i' }
  const batches: number[] = []
  const outcome = await deviceStore(pool).delete(BUSY, by, (_, cancelled) => {
    batches.push(cancelled.length)
  })
  t.same(outcome, { kind: 'deleted', alias: 'D9' })
  t.same(batches, [CANCEL_BATCH, CANCEL_BATCH, open - 2 * CANCEL_BATCH])
  t.equal(await count(`state = 'open' and expires_at > now()`), 0)
  const { rows } = await db.query(`select detail from audit_log where subject = '${BUSY}'`)
  t.same(rows, [{ detail: { alias: 'D9', cancelled_commands: open } }])
  // The state after a crash between two batches.
  await db.query(`
    update commands set state = 'open', ended_at = null where request_id in ('busy-1', 'busy-2')`)
  const left: string[] = []
  const again = await deviceStore(pool).delete(BUSY, by, (_, cancelled) => {
    left.push(...cancelled.map(({ requestId }) => requestId))
  })
  t.same([again.kind, left.sort()], ['already_deleted', ['busy-1', 'busy-2']])
})
