/**
 * Writes the lines of requests. A request is anonymous until its caller has proven a live credential. Anyone can send any
 * number of anonymous requests, and an outage fails every request; so each code has a limit of lines a second, and the next line
 * counts the suppressed ones. A refusal of a proven caller always has its own line.
 */
import type { Cause, Ending, Line, RequestLog } from '../telemetry/log/log.ts'
import type { RequestContext } from './route.ts'

/** For each 5xx code: an outage must not crowd out the lines that explain it. */
const MAX_ERRORS_PER_S = 10
/** For each 4xx code of anonymous requests, and for each event beside the line that ends one. */
const MAX_ANONYMOUS_PER_S = 50

const ANONYMOUS: Cause = { isAnonymous: true, suppressed: 0 }

/** They refuse a credential that is known and dead: anyone who has found it can send any number of requests. */
const DEAD_CREDENTIAL = new Set<string>([
  'token_expired',
  'token_revoked',
  'token_exhausted',
  'token_superseded',
  'device_deleted',
])

/** The end of a request that was refused or failed. */
export interface Refusal {
  /** An ErrorCode, `client_closed` or a status: a closed list, as each has its own limit. */
  readonly code: string
  readonly caller: RequestContext
  readonly ending: Ending
  /** Makes the terminal line; called only if it is written. */
  readonly line: () => Line
  /** Written before the terminal line, and only with it. */
  readonly beside?: Line | undefined
}

/** Writes a line that refuses nothing. Beside the one that ends the request, anonymous ones have a limit for each event. */
export function writeLine(
  log: RequestLog,
  line: Line,
  caller: RequestContext,
  ending?: Ending,
): void {
  if (!isAnonymous(caller)) log.write(line, caller, ending)
  else if (ending !== undefined) log.write(line, caller, ending, ANONYMOUS)
  else {
    log.writeLimited(line.event, MAX_ANONYMOUS_PER_S, (suppressed) =>
      log.write(line, caller, undefined, { ...ANONYMOUS, suppressed }),
    )
  }
}

/** Writes the end of a refused request; within the limit of its code if it is anonymous. */
export function writeRefusal(log: RequestLog, refusal: Refusal): void {
  const { code, caller, ending } = refusal
  if (!isAnonymous(caller, code)) writeEnd(log, refusal, 0)
  else if (ending.statusCode >= 500) writeFault(log, refusal)
  else {
    // A DEBUG line that LOG_LEVEL hides must not carry the count of lines that it shows.
    const kind = caller.isProbe ? `probe ${code}` : code
    log.writeLimited(kind, MAX_ANONYMOUS_PER_S, (suppressed) => writeEnd(log, refusal, suppressed))
  }
}

/** Writes the end of a request that failed on our side, within the limit of its code. */
export function writeFault(log: RequestLog, refusal: Refusal): void {
  log.writeLimited(refusal.code, MAX_ERRORS_PER_S, (suppressed) =>
    writeEnd(log, refusal, suppressed),
  )
}

function writeEnd(log: RequestLog, refusal: Refusal, suppressed: number): void {
  const { code, caller, ending, line, beside } = refusal
  const cause: Cause = { isAnonymous: isAnonymous(caller, code), suppressed: 0 }
  if (beside !== undefined) log.write(beside, caller, undefined, cause)
  log.write(line(), caller, ending, { ...cause, suppressed })
}

function isAnonymous(caller: RequestContext, code = ''): boolean {
  const { admin, deviceId, tokenId, isTokenDead } = caller
  if (admin !== null) return false
  return DEAD_CREDENTIAL.has(code) || (deviceId === null && (tokenId === null || isTokenDead))
}
