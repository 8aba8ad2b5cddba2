/** Codes for why there is no database, for /readyz (which is public) and for machines. The texts are for the log. */
import { errorCode } from '../../lib/error-text.ts'
import { OF_ONE_STATEMENT, OwnWaitError, sqlstate } from '../postgres/sqlstate.ts'

/** The texts contain no host and no user. */
export const TROUBLES = {
  password_refused: 'it refuses the password, or wants one that DATABASE_URL does not have',
  not_allowed:
    'it lets this role or this host not in (pg_hba.conf, CONNECT, LOGIN, allow_connections)',
  database_missing: 'the server has no such database',
  host_unknown: 'the name of its host cannot be looked up',
  refused: 'nothing listens at its port',
  unreachable: 'there is no way to its host',
  socket_missing: 'its unix socket is not there, or not for this user',
  tls_failed: 'TLS with it fails: it has none, or its certificate does not hold',
  too_many_connections: 'it takes no more connections',
  starting: 'it starts, stops or recovers',
  read_only: 'it only reads: a standby, or default_transaction_read_only',
  disk_full: 'its disk is full',
  rewound: 'it is behind a server that was seen before, and gets no writes',
  session: 'its settings for this role cannot be relied on',
  silent: 'it does not answer in time',
  lost: 'its connections break off',
  other: 'it cannot be used; the log says why',
} as const

export type Trouble = keyof typeof TROUBLES

/** Trouble of one call; the database serves others. */
export const CALL_TROUBLES = {
  too_slow: 'it took longer than a statement may',
  locked: 'it waited too long for a row or a table that another transaction holds',
  conflict: 'it lost a deadlock, or a conflict with another transaction',
  cut_short: 'its transaction lasted longer than the server lets it',
  no_connection: 'none of our connections came free for it',
} as const

export type CallTrouble = keyof typeof CALL_TROUBLES | Trouble

const BY_CODE: Readonly<Record<string, Trouble>> = {
  '28P01': 'password_refused',
  '28000': 'not_allowed',
  '42501': 'not_allowed',
  '55000': 'not_allowed',
  '3D000': 'database_missing',
  '53300': 'too_many_connections',
  '57P01': 'lost',
  '57P02': 'lost',
  '57P03': 'starting',
  '57P04': 'database_missing',
  '57P05': 'lost',
  '25006': 'read_only',
  '53100': 'disk_full',
  '08004': 'session',
  '08R00': 'rewound',
  '57014': 'silent',
  '55P03': 'silent',
  ENOTFOUND: 'host_unknown',
  EAI_AGAIN: 'host_unknown',
  ECONNREFUSED: 'refused',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  EADDRNOTAVAIL: 'unreachable',
  ENOENT: 'socket_missing',
  EACCES: 'socket_missing',
  ETIMEDOUT: 'silent',
  ECONNRESET: 'lost',
  EPIPE: 'lost',
}

/** For errors of pg, pg-pool and OpenSSL whose code is missing or ambiguous. */
const BY_TEXT: readonly (readonly [RegExp, Trouble])[] = [
  [/password must be/i, 'password_refused'],
  [/authenticationOk message type/, 'not_allowed'], // GSSAPI or SSPI
  [/SSL|TLS|certificate|CERT/, 'tls_failed'],
  [/timeout|timed out|silent/i, 'silent'],
  [/terminated|connection error|not queryable/i, 'lost'],
]
const CAUSES_READ = 5

export function callTroubleOf(error: unknown): CallTrouble {
  const isWait = causesOf(error).some((each) => each instanceof OwnWaitError)
  return isWait
    ? 'no_connection'
    : (OF_ONE_STATEMENT.get(sqlstate(error) ?? '') ?? troubleOf(error))
}

/** The innermost known cause. */
export function troubleOf(error: unknown): Trouble {
  const chain = causesOf(error)
  for (const each of chain) {
    const known = BY_CODE[errorCode(each) ?? '']
    if (known !== undefined) return known
  }
  for (const each of chain) {
    const text = each instanceof Error ? `${errorCode(each) ?? ''} ${each.message}` : String(each)
    const known = BY_TEXT.find(([pattern]) => pattern.test(text))
    if (known !== undefined) return known[1]
  }
  return 'other'
}

function causesOf(error: unknown): readonly unknown[] {
  const chain: unknown[] = []
  let each = error
  while (each instanceof Error && chain.length < CAUSES_READ) {
    chain.unshift(each)
    each = each instanceof AggregateError && each.cause === undefined ? each.errors[0] : each.cause
  }
  return chain
}
