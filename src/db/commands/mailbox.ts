/** Commands as a mailbox: those that a heartbeat's response carries, pushed before or not. */
import type { Queryable } from '../postgres/pool.ts'

/** An open command from the mailbox, before it is signed. */
export interface OpenCommand {
  readonly requestId: string
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  readonly attempt: number
  readonly expiresAt: Date
  /** The device's enrollment, from which the command key is derived. */
  readonly enrollmentNo: number
  readonly hmacSecretId: string
}

export interface Mailbox {
  /**
   * Returns the open commands of the device with this used and live token, oldest first. Each is recorded as handed
   * over and gets a higher attempt. Empty if the token has ended since it was judged.
   */
  handOver(tokenHash: Buffer): Promise<readonly OpenCommand[]>
}

/** Commands per heartbeat response. */
const MAX_COMMANDS = 20

/** Seconds before a command is delivered again (docs/device-protocol.md). */
const HAND_OVER_AGAIN_S = 30

/** For an open command: it was not handed over lately. */
export function isToHandOver(deliveredAt: string): string {
  return `(${deliveredAt} is null or ${deliveredAt} <= now() - interval '${HAND_OVER_AGAIN_S} s')`
}

/** Rechecks the locked rows: another replica may have handed them over meanwhile. */
const HAND_OVER = /* sql */ `
  with due as materialized (
    select request_id from commands
    where device_id = (select device_id from device_status where token_hash = $1)
      and state = 'open' and expires_at > now()
      and ${isToHandOver('delivered_at')}
    order by created_at, request_id limit ${MAX_COMMANDS}),
  held as materialized (
    select request_id from commands
    where request_id = any (array(select request_id from due)) and state = 'open'
      and ${isToHandOver('delivered_at')}
    order by request_id for no key update),
  handed as (
    update commands c set attempt = attempt + 1, deliveries = deliveries + 1, delivered_at = now()
    from held h where c.request_id = h.request_id
    returning c.request_id, c.device_id, c.action, c.params, c.attempt, c.deliveries, c.expires_at, c.created_at),
  told as (
    insert into command_events (request_id, stage, detail, instance)
    select request_id, 'delivered', jsonb_build_object('attempt', attempt), $2 from handed where deliveries = 1)
  select h.request_id as "requestId", h.action as "action", h.params as "params", h.attempt as "attempt",
    h.expires_at as "expiresAt", d.enrollment_no as "enrollmentNo", d.hmac_secret_id as "hmacSecretId"
  from handed h join devices d using (device_id)
  order by h.created_at, h.request_id`

/** `instance`: name of this replica, for the timeline. */
export function mailbox(database: Queryable, instance: string): Mailbox {
  return {
    async handOver(tokenHash) {
      const { rows } = await database.query<OpenCommand>({
        name: 'mailbox.hand_over',
        text: HAND_OVER,
        values: [tokenHash, instance],
      })
      return rows
    },
  }
}
