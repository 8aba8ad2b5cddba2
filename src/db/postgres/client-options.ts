/** What each connection of a pool is opened with: its time-outs, on both sides, and its settings. */
import type { ConnectOptions } from './connect.ts'
import type { PoolOptions } from './pool.ts'
import { PINNED_SETTINGS } from './session-check.ts'

/** What a new connection is asked. */
const VERIFY_TIMEOUT_MS = 5_000
const QUERY_TIMEOUT_MS = 1_100
const LOCK_TIMEOUT_MS = 500

export function clientOptionsOf(options: PoolOptions): ConnectOptions {
  const queryTimeoutMs = options.queryTimeoutMs ?? QUERY_TIMEOUT_MS
  const { isPrepared, verifySession } = options
  return {
    query_timeout: queryTimeoutMs,
    keepAlive: true,
    application_name: 'fleetloop',
    ...(verifySession && { verify: (client) => verifySession(client, VERIFY_TIMEOUT_MS) }),
    // Through PgBouncer these come from the role (ALTER ROLE … SET): it refuses start-up parameters.
    ...(isPrepared && {
      statement_timeout: queryTimeoutMs - 200,
      lock_timeout: options.lockTimeoutMs ?? LOCK_TIMEOUT_MS,
      idle_in_transaction_session_timeout: 5_000,
      // To compile a statement takes longer than any of ours runs. Idle connections are the pool's to end.
      options: settingsText({
        ...PINNED_SETTINGS,
        jit: 'off',
        idle_session_timeout: '0',
        ...options.serverSettings,
      }),
    }),
  }
}

function settingsText(settings: Readonly<Record<string, string>>): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`)
    .join(' ')
}
