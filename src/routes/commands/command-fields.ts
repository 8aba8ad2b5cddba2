/** The fields of a command that a single one and a job have in common. */
import { createHash } from 'node:crypto'
import { OUTCOMES, type Outcome } from '../../domain/commands/command.ts'
import { isReservedParamName } from '../../domain/delivery/command-message.ts'
import { AppError, invalidField } from '../../domain/errors.ts'
import {
  type Fields,
  field,
  idempotencyKey,
  intField,
  isObject,
  queryEnum,
  refuseUnsafe,
  requiredString,
} from '../../http/fields.ts'
import type { BaseRequest } from '../../http/route.ts'
import { LINES } from '../../lib/text.ts'

const TTL_S = { min: 30, max: 604_800 } as const
const DEFAULT_TTL_S = 86_400
const PARAM_NAME = /^[a-z][a-z0-9_]{0,63}$/
const MAX_PARAMS_BYTES = 3_000
/** Statuses of commands that may have a late result. */
const LATE: readonly string[] = ['expired', 'cancelled']

export function readTtlS(body: Fields): number {
  return intField(body, 'ttl_s', TTL_S, DEFAULT_TTL_S)
}

export function readAction(body: Fields, actions: readonly string[]): string {
  const action = requiredString(body, 'action', 64)
  if (actions.includes(action)) return action
  throw new AppError('action_unknown', `action must be one of ${actions.join(', ')}.`, {
    errors: [{ field: 'action', message: `must be one of ${actions.join(', ')}` }],
  })
}

export function readParams(body: Fields): Readonly<Record<string, string>> {
  const params = field(body, 'params')
  if (params === undefined) return {}
  if (!isObject(params)) throw invalidField('params', 'must be an object of strings')
  let sizeBytes = 0
  const entries = Object.entries(params).map(([name, value]) => {
    if (!PARAM_NAME.test(name)) {
      throw invalidField(`params.${name.slice(0, 64)}`, `names must match ${PARAM_NAME.source}`)
    }
    if (isReservedParamName(name)) {
      throw invalidField(`params.${name}`, 'is reserved: we use this name, or FCM strips it')
    }
    if (typeof value !== 'string') throw invalidField(`params.${name}`, 'must be a string')
    refuseUnsafe(`params.${name}`, value, LINES)
    sizeBytes += Buffer.byteLength(name) + Buffer.byteLength(value)
    return [name, value] as const
  })
  if (sizeBytes > MAX_PARAMS_BYTES) {
    throw invalidField('params', `may have at most ${MAX_PARAMS_BYTES} bytes in all`)
  }
  return Object.fromEntries(entries)
}

/** The order of params does not matter. */
export function contentHash(action: string, params: Readonly<Record<string, string>>): Buffer {
  const sorted = Object.entries(params).sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256')
    .update(JSON.stringify([action, sorted]))
    .digest()
}

/** Filters of a list of commands. Refuses those that no command can match: `statusesWith` are the ones it may have with an outcome. */
export function readStatusAndOutcome<S extends string>(
  query: URLSearchParams,
  statuses: readonly S[],
  statusesWith: (outcome: Outcome) => readonly S[],
): { readonly status: S | null; readonly outcome: Outcome | null } {
  const status = queryEnum(query, 'status', statuses) ?? null
  const outcome = queryEnum(query, 'outcome', OUTCOMES) ?? null
  if (status !== null && outcome !== null && !statusesWith(outcome).includes(status)) {
    const which = statusesWith(outcome).join(', ')
    const late = LATE.includes(status) ? '; late results are not' : ''
    throw invalidField(
      'outcome',
      `only commands that are ${which} are searched for ${outcome}${late}`,
    )
  }
  return { status, outcome }
}

export interface Key {
  readonly id: string
  /** False: the request had none, and its ingress id is used. */
  readonly isGiven: boolean
}

/** The id of what a request creates: the field `name` of its body, else its Idempotency-Key. */
export function readKey(body: Fields, request: BaseRequest, name: string, form: RegExp): Key {
  const given = field(body, name) ?? idempotencyKey(request.headers)
  const id = given ?? request.context.ingressId
  if (typeof id !== 'string' || !form.test(id)) {
    throw invalidField(name, `must match ${form.source}`)
  }
  return { id, isGiven: given !== undefined }
}
