/** The timeouts (on both sides) and settings of each connection of a pool. */
import type { ConnectOptions } from './connect.ts'
import type { PoolOptions } from './pool.ts'
import { PINNED_SETTINGS } from './session-check.ts'

/** Of each check on a new connection. */
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
    // Through PgBouncer these come from the role (ALTER ROLE … SET), since it rejects start-up parameters.
    ...(isPrepared && {
      statement_timeout: queryTimeoutMs - 200,
      lock_timeout: options.lockTimeoutMs ?? LOCK_TIMEOUT_MS,
      idle_in_transaction_session_timeout: 5_000,
      // JIT compilation takes longer than any of our statements. The pool itself ends idle connections.
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
