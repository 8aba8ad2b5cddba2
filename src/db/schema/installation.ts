/** The id of the installation, and a ping. */
import { randomUUID } from 'node:crypto'
import { WRITE_NOTHING } from '../postgres/confirm-replicated.ts'
import type { Queryable } from '../postgres/pool.ts'

const INSTANCE_ID = /* sql */ `
  with made as (
    insert into installation (instance_id) values ($1) on conflict do nothing returning instance_id)
  select instance_id as "instanceId" from made
  union all
  select instance_id from installation`

const PING = /* sql */ `select 1`

/** The installation's id, created at the first start; the same on every replica. */
export async function readInstanceId(database: Queryable): Promise<string> {
  const read = () =>
    database.query<{ instanceId: string }>({
      name: 'installation.instance_id',
      text: INSTANCE_ID,
      values: [randomUUID()],
    })
  // Two replicas may create it at once: the loser's snapshot shows neither row, its second read does.
  const row = (await read()).rows[0] ?? (await read()).rows[0]
  if (row === undefined) throw new Error('installation holds no row')
  return row.instanceId
}

/** `writes`: test with a write. */
export async function ping(database: Queryable, writes: boolean): Promise<void> {
  await database.query(writes ? WRITE_NOTHING : { name: 'installation.ping', text: PING })
}
