/**
 * POST /admin/command and /admin/commands: stores a command durably, then pushes it; the response waits briefly for the
 * first push, or for the end.
 */
import type { CommandRow, DeviceRef } from '../../db/commands/commands.ts'
import { AppError, invalidField } from '../../domain/errors.ts'
import { ALIAS, isAlias, isUuid, REQUEST_ID } from '../../domain/ids.ts'
import { asObject, type Fields, field, queryInt } from '../../http/fields.ts'
import { type Endpoint, httpRequestId, json } from '../../http/route.ts'
import { readUntil } from '../../lib/notifier.ts'
import {
  contentHash,
  type Key,
  readAction,
  readKey,
  readParams,
  readTtlS,
} from './command-fields.ts'
import { acceptedJson, pausedWith } from './command-json.ts'
import type { Commands } from './feature.ts'
import { HAS_COME, readWaitFor, type WaitFor } from './wait-for.ts'

const WAIT_MS = { min: 0, max: 10_000 } as const
const DEFAULT_WAIT_MS: Readonly<Record<WaitFor, number>> = { push: 1_500, end: WAIT_MS.max }

export function sendCommandEndpoint(deps: Commands): Endpoint<'admin'> {
  return {
    async handle(request) {
      const body = asObject(request.body)
      const { context, admin } = request
      const device = readDevice(body)
      const action = readAction(body, deps.actions)
      const params = readParams(body)
      const key = readKey(body, request, 'request_id', REQUEST_ID)
      const waitFor = readWaitFor(request.query, 'push')
      const waitMs = queryInt(request.query, 'wait_ms', WAIT_MS, DEFAULT_WAIT_MS[waitFor])
      const hasCome = HAS_COME[waitFor]

      const outcome = await deps.commands.accept(device, {
        requestId: key.id,
        action,
        params,
        contentHash: contentHash(action, params),
        admin,
        ttlS: readTtlS(body),
        ip: context.ip,
        instance: deps.instance,
        isPushOn: deps.isPushOn,
      })
      if (!('command' in outcome)) throw refusal(outcome.kind, key)

      const { command, kind } = outcome
      // Without a key this is no repeat: a new command would be dropped silently.
      if (kind === 'repeated' && !key.isGiven) throw refusal('conflict', key)
      context.requestId = command.requestId
      context.deviceId = command.deviceId
      context.alias = command.alias
      if (kind === 'repeated') {
        return json(200, acceptedJson(pausedWith(command, deps.senderTrouble()), true))
      }

      request.log({
        event: 'dispatch.request',
        fields: {
          action,
          fcm_http_code: null,
          fcm_status: null,
          dispatch_latency_ms: null,
          admin,
          http_request_id: httpRequestId(context),
        },
      })
      deps.wakeDispatcher()
      const latest = await waited(deps, command, { waitMs, hasCome, admin, signal: request.signal })
      return json(202, acceptedJson(latest, false))
    },
  }
}

interface Wait {
  readonly waitMs: number
  readonly hasCome: (command: CommandRow) => boolean
  readonly admin: string
  readonly signal: AbortSignal
}

/**
 * The command once that has come; as last known if the wait ends, too many requests wait, or the database is away.
 * It is durable in any case.
 */
async function waited(
  deps: Commands,
  command: CommandRow,
  { waitMs, hasCome, admin, signal }: Wait,
): Promise<CommandRow> {
  const asItStands = (row: CommandRow) => pausedWith(row, deps.senderTrouble())
  let latest = asItStands(command)
  if (waitMs === 0 || hasCome(latest)) return latest
  try {
    return await readUntil({
      async read() {
        latest = asItStands((await deps.commands.find(command.requestId)) ?? command)
        return latest
      },
      known: latest,
      isDone: hasCome,
      waitMs,
      waitForChange: (timeoutMs) => deps.waitForChange(command.requestId, timeoutMs, signal),
      tryAcquire: () => deps.tryAcquireWait(admin),
      signal,
      nowMs: deps.nowMs,
    })
  } catch {
    // A client would repeat a failed request, and without a key make another command. The pool has reported the database.
    return latest
  }
}

function refusal(kind: 'conflict' | 'device_unknown' | 'device_deleted', key: Key): AppError {
  switch (kind) {
    case 'conflict':
      return new AppError(
        'request_id_conflict',
        key.isGiven
          ? `Another command has the request_id ${key.id}. Send a new one for a new command.`
          : `A command already has the X-Request-ID ${key.id} as its request_id. Send a new X-Request-ID, or a request_id in the body.`,
      )
    case 'device_unknown':
      return new AppError('device_unknown', 'No device has this id or alias.')
    case 'device_deleted':
      return new AppError('device_deleted', 'This device was deleted.')
  }
}

function readDevice(body: Fields): DeviceRef {
  const deviceId = field(body, 'device_id')
  const alias = field(body, 'alias')
  if ((deviceId === undefined) === (alias === undefined)) {
    throw invalidField('device_id', 'give either device_id or alias')
  }
  if (deviceId !== undefined && (typeof deviceId !== 'string' || !isUuid(deviceId))) {
    throw invalidField('device_id', 'must be a UUID')
  }
  if (alias !== undefined && (typeof alias !== 'string' || !isAlias(alias))) {
    throw invalidField('alias', `must match ${ALIAS.source}`)
  }
  return { deviceId: deviceId ?? null, alias: alias ?? null }
}
