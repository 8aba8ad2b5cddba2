/** Compares what was acknowledged with the database: the check of promises R1 and R2. */
import type pg from 'pg'
import type { Figure } from '../drill.ts'
import type { Acknowledged } from './mixed-load.ts'

/** Ids of $1 without a row. */
const MISSING: Readonly<Record<keyof Acknowledged, string>> = {
  heartbeats: /* sql */ `
    select id from unnest($1::text[]) id except select request_id from heartbeats`,
  commands: /* sql */ `
    select id from unnest($1::text[]) id except select request_id from commands`,
  results: /* sql */ `
    select id from unnest($1::text[]) id
    except select request_id from commands where result_at is not null`,
  enrollmentTokens: /* sql */ `
    select id from unnest($1::text[]) id except select token_id::text from enrollment_tokens`,
}

export async function nothingMissing(db: pg.Client, acknowledged: Acknowledged): Promise<Figure> {
  const kinds = Object.keys(acknowledged) as (keyof Acknowledged)[] // its own keys
  const found: { kind: string; missing: readonly string[]; count: number }[] = []
  for (const kind of kinds) {
    const ids = [...(acknowledged[kind] ?? [])]
    const { rows } = await db.query<{ id: string }>(MISSING[kind], [ids])
    found.push({ kind, missing: rows.map(({ id }) => id), count: ids.length })
  }
  const text = found.map(
    ({ kind, missing, count }) =>
      `${missing.length} of ${count} ${kind}${missing.length > 0 ? ` (${missing.slice(0, 3).join(', ')})` : ''}`,
  )
  return {
    promise: '0 acknowledged writes missing',
    measured: `missing: ${text.join(', ')}`,
    isHeld: found.every(({ missing, count }) => missing.length === 0 && count > 0),
  }
}
