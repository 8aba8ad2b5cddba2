/**
 * Owner of `hmac_secrets`: which server secrets this installation was run with, as fingerprints. A secret that
 * went missing, or came back as another under the same id, would make every phone's token look forged.
 */
import type { Database } from './postgres/pool.ts'

export interface SecretFingerprint {
  readonly id: string
  /** Tells secrets apart and gives nothing away: a keyed hash of a constant. */
  readonly fingerprint: Buffer
}

export interface SecretFaults {
  /** In use by live devices, and not configured. */
  readonly dropped: readonly string[]
  /** In use by live devices, and configured with another value than it was. */
  readonly changed: readonly string[]
}

export interface HmacSecretStore {
  /** Compares the configured secrets with those in use, and remembers them where nothing is wrong. */
  check(configured: readonly SecretFingerprint[]): Promise<SecretFaults>
}

/** A few look-ups per secret, however many devices there are: a distinct would read them all. */
const IN_USE = /* sql */ `
  with recursive used as (
    (select hmac_secret_id as id from devices where deleted_at is null order by 1 limit 1)
    union all
    select (select d.hmac_secret_id from devices d
            where d.deleted_at is null and d.hmac_secret_id > used.id order by 1 limit 1)
    from used where used.id is not null)
  select u.id as "id", h.fingerprint as "fingerprint"
  from used u left join hmac_secrets h on h.secret_id = u.id where u.id is not null`

const REMEMBER = /* sql */ `
  insert into hmac_secrets (secret_id, fingerprint) select * from unnest($1::text[], $2::bytea[])
  on conflict (secret_id) do update set fingerprint = excluded.fingerprint
  where hmac_secrets.fingerprint <> excluded.fingerprint`

export function hmacSecretStore(database: Database): HmacSecretStore {
  return {
    async check(configured) {
      const { rows } = await database.query<{ id: string; fingerprint: Buffer | null }>({
        name: 'hmac_secrets.in_use',
        text: IN_USE,
      })
      const known = new Map(configured.map(({ id, fingerprint }) => [id, fingerprint]))
      const dropped = rows.filter(({ id }) => !known.has(id))
      const changed = rows.filter(({ id, fingerprint }) => {
        const now = known.get(id)
        return now !== undefined && fingerprint !== null && !now.equals(fingerprint)
      })
      if (dropped.length === 0 && changed.length === 0) {
        await database.query({
          name: 'hmac_secrets.remember',
          text: REMEMBER,
          values: [[...known.keys()], [...known.values()]],
        })
      }
      return { dropped: dropped.map(({ id }) => id), changed: changed.map(({ id }) => id) }
    },
  }
}
