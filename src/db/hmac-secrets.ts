/**
 * Owner of `hmac_secrets`: fingerprints of the server secrets that this installation has used. With a secret missing,
 * or changed under the same id, every phone's token would look forged.
 */
import type { Database } from './postgres/pool.ts'

export interface SecretFingerprint {
  readonly id: string
  /** A keyed hash of a constant: distinguishes secrets and reveals nothing. */
  readonly fingerprint: Buffer
}

export interface SecretFaults {
  /** Used by live devices, but not configured. */
  readonly dropped: readonly string[]
  /** Used by live devices, but configured with another value. */
  readonly changed: readonly string[]
}

export interface HmacSecretStore {
  /** Compares the configured secrets with those in use. */
  compare(configured: readonly SecretFingerprint[]): Promise<SecretFaults>
  /** Compares the configured secrets with those in use and, without faults, stores them. */
  check(configured: readonly SecretFingerprint[]): Promise<SecretFaults>
}

/** A few index lookups per secret; `distinct` would read all devices. */
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
  async function compare(configured: readonly SecretFingerprint[]): Promise<SecretFaults> {
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
    return { dropped: dropped.map(({ id }) => id), changed: changed.map(({ id }) => id) }
  }

  return {
    compare,

    async check(configured) {
      const faults = await compare(configured)
      if (faults.dropped.length === 0 && faults.changed.length === 0) {
        await database.query({
          name: 'hmac_secrets.remember',
          text: REMEMBER,
          values: [
            configured.map(({ id }) => id),
            configured.map(({ fingerprint }) => fingerprint),
          ],
        })
      }
      return faults
    },
  }
}
