/** What the database holds of a run: commands, recorded attempts, heartbeats. */
import type pg from 'pg'

export interface StoredCommand {
  readonly requestId: string
  readonly state: 'open' | 'completed' | 'expired' | 'cancelled'
  readonly attempt: number
  readonly pushAttempts: number
  readonly deliveries: number
  readonly hasResult: boolean
  readonly isLate: boolean
}

/** Stages that end a command. */
export type Ending = 'result' | 'expired' | 'cancelled'

export interface Recorded {
  readonly stage: 'push_sent' | 'push_failed'
  /** As in the log: OK, FCM's code, TIMEOUT or NETWORK. */
  readonly fcmStatus: string
}

export interface Stored {
  readonly commands: ReadonlyMap<string, StoredCommand>
  /** How often the command's timeline has that stage. */
  endings(requestId: string, stage: Ending): number
  recorded(requestId: string, attempt: number): Recorded | undefined
  /** Request ids of the heartbeats. */
  readonly heartbeats: ReadonlySet<string>
}

const COMMANDS = /* sql */ `
  select request_id as "requestId", state, attempt, push_attempts as "pushAttempts", deliveries,
    result_at is not null as "hasResult", late_result as "isLate"
  from commands`

const ENDINGS = /* sql */ `
  select request_id as "requestId", stage, count(*)::int as "times" from command_events
  where stage in ('result', 'expired', 'cancelled') group by request_id, stage`

const RECORDED = /* sql */ `
  select request_id as "requestId", (detail->>'attempt')::int as "attempt", stage, code as "fcmStatus"
  from command_events where stage in ('push_sent', 'push_failed')`

export async function readStored(db: pg.Client): Promise<Stored> {
  const commands = await db.query<StoredCommand>(COMMANDS)
  const endings = await db.query<{ requestId: string; stage: Ending; times: number }>(ENDINGS)
  const recorded = await db.query<Recorded & { requestId: string; attempt: number }>(RECORDED)
  const beats = await db.query<{ requestId: string }>(
    'select request_id as "requestId" from heartbeats',
  )
  const timesOf = new Map(endings.rows.map((row) => [`${row.requestId} ${row.stage}`, row.times]))
  const recordOf = new Map(recorded.rows.map((row) => [`${row.requestId} ${row.attempt}`, row]))
  return {
    commands: new Map(commands.rows.map((row) => [row.requestId, row])),
    endings: (requestId, stage) => timesOf.get(`${requestId} ${stage}`) ?? 0,
    recorded: (requestId, attempt) => recordOf.get(`${requestId} ${attempt}`),
    heartbeats: new Set(beats.rows.map(({ requestId }) => requestId)),
  }
}

/** Expires the leases of killed processes at once. `heldForS`: a living holder records within it; 0: none lives. */
export async function lapseLeases(db: pg.Client, heldForS: number): Promise<void> {
  const text = /* sql */ `
    update commands set lease_until = now(), next_attempt_at = now()
    where state = 'open' and lease_until > now() and lease_until <= now() + make_interval(secs => 60 - $1)`
  await db.query(text, [heldForS])
}

export async function countOpen(db: pg.Client): Promise<number> {
  const text = `select count(*)::int as open from commands where state = 'open'`
  const { rows } = await db.query<{ open: number }>(text)
  return rows[0]?.open ?? 0
}
