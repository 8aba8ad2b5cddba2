/**
 * POST /v1/action-result: the addressed device reports how a command went; the first result wins. The two
 * /v1/devices/…/ack paths are the same operation for agents in the field.
 */
import { OUTCOMES, type Outcome } from '../../domain/commands/command.ts'
import { readPushReport } from '../../domain/delivery/push-report.ts'
import { AppError, invalidField } from '../../domain/errors.ts'
import type { Reader } from '../../domain/heartbeat.ts'
import { isRequestId, REQUEST_ID } from '../../domain/ids.ts'
import { parseInstant } from '../../domain/instants.ts'
import { asObject, type Fields, field } from '../../http/fields.ts'
import { type Endpoint, json } from '../../http/route.ts'
import { replaceUnsafe } from '../../lib/text.ts'
import { readWord } from '../../lib/word.ts'
import type { Commands } from './feature.ts'
import { recordResult } from './record-result.ts'

const MAX_TEXT_LENGTH = 2_000
const INT4_MAX = 2_147_483_647

/** The words for each outcome; agents in the field send the last three. */
const OUTCOME_OF: ReadonlyMap<string, Outcome> = new Map([
  ...OUTCOMES.map((outcome) => [outcome, outcome] as const),
  ['ok', 'success'],
  ['error', 'failure'],
  ['failed', 'failure'],
])
const WORDS = [...OUTCOME_OF.keys()]

export function resultEndpoint(deps: Commands): Endpoint<'device'> {
  return {
    async handle(request) {
      const denial = deps.resultDenial(request.signed, request)
      if (denial !== undefined) throw denial
      const addressed = request.params['device_id']
      if (addressed !== undefined && addressed.toLowerCase() !== request.deviceId) {
        throw new AppError('device_unknown', 'This path names another device than the token does.')
      }
      const { ignored, ...read } = readResult(asObject(request.body))
      const { requestId } = read
      const result = { ...read, deviceId: request.deviceId }
      const recorded = await recordResult(deps, request, result, ignored)
      if (recorded === undefined) {
        throw new AppError('command_unknown', 'No command of this device has this request_id.')
      }
      request.context.requestId = requestId
      const { isDuplicate: duplicate, line } = recorded
      return json(200, { ok: true, duplicate, request_id: requestId }, line)
    },
  }
}

function readResult(body: Fields) {
  const ignored: string[] = []
  const read = <T>(name: string, reader: Reader<T>) => readInto(ignored, body, name, reader)
  return {
    requestId: readRequestId(body),
    outcome: readOutcome(body),
    message: read('message', readText),
    output: read('output', readText),
    exitCode: read('exit_code', readExitCode),
    finishedAt: read('finished_at', parseInstant),
    push: read('push', readPushReport),
    ignored,
  }
}

function readRequestId(body: Fields): string {
  const id = given(body, 'request_id') ?? field(body, 'correlation_id')
  if (id === undefined) throw invalidField('request_id', 'is required')
  if (typeof id !== 'string' || !isRequestId(id)) {
    throw invalidField('request_id', `must match ${REQUEST_ID.source}`)
  }
  return id
}

/** Agents in the field send an empty text for what they do not have. */
function given(body: Fields, name: string): unknown {
  return field(body, name) === '' ? undefined : field(body, name)
}

function readOutcome(body: Fields): Outcome {
  const word = readWord(given(body, 'outcome') ?? field(body, 'status'), WORDS)
  const outcome = OUTCOME_OF.get(word ?? '')
  if (outcome === undefined) throw invalidField('outcome', `must be one of ${OUTCOMES.join(', ')}`)
  return outcome
}

/** null: absent, or unusable and named in `ignored`. */
function readInto<T>(ignored: string[], body: Fields, name: string, read: Reader<T>): T | null {
  const value = read(field(body, name))
  if (value === undefined && given(body, name) !== undefined) ignored.push(name)
  return value ?? null
}

/** Cut, not refused; characters that a terminal or PostgreSQL must not get become U+FFFD. */
function readText(value: unknown): string | undefined {
  return typeof value === 'string' ? replaceUnsafe(value.slice(0, MAX_TEXT_LENGTH)) : undefined
}

function readExitCode(value: unknown): number | undefined {
  const isCode = Number.isInteger(value) && Math.abs(Number(value)) <= INT4_MAX
  return isCode ? Number(value) : undefined
}
