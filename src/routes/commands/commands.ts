/** GET and DELETE /admin/commands…: the stage of a command and why, lists, cancellation. */

import type { CommandRow } from '../../db/commands/commands.ts'
import { COMMAND_STATUSES, stateAt } from '../../domain/commands/command.ts'
import { AppError } from '../../domain/errors.ts'
import { ACTION, ALIAS, isRequestId } from '../../domain/ids.ts'
import { queryInt, queryString, queryUuid } from '../../http/fields.ts'
import { listReply, readPage } from '../../http/page.ts'
import { type BaseRequest, type Endpoint, json } from '../../http/route.ts'
import { readUntil } from '../../lib/notifier.ts'
import { readStatusAndOutcome } from './command-fields.ts'
import { commandJson, pausedWith, storyJson } from './command-json.ts'
import type { Commands } from './feature.ts'
import { HAS_COME, readWaitFor } from './wait-for.ts'

const WAIT_MS = { min: 0, max: 30_000 } as const

export function readCommandEndpoint(deps: Commands): Endpoint<'admin'> {
  return {
    async handle(request) {
      const requestId = commandId(request)
      const { context } = request
      const command = await readUntil({
        async read() {
          const row = known(await deps.commands.find(requestId))
          context.deviceId = row.deviceId
          context.alias = row.alias
          return row
        },
        isDone: HAS_COME[readWaitFor(request.query, 'end')],
        waitMs: queryInt(request.query, 'wait_ms', WAIT_MS, 0),
        waitForChange: (timeoutMs) => deps.waitForChange(requestId, timeoutMs, request.signal),
        tryAcquire: () => deps.tryAcquireWait(request.admin),
        signal: request.signal,
        nowMs: deps.nowMs,
      })
      const timeline = await deps.commands.timeline(requestId)
      const senderTrouble = deps.senderTrouble()
      const asItStands = pausedWith(command, senderTrouble)
      const { offlineAfterS } = deps
      return json(200, storyJson(asItStands, timeline, { offlineAfterS, senderTrouble }))
    },
  }
}

export function listCommandsEndpoint(deps: Commands): Endpoint<'admin'> {
  return {
    async handle({ query }) {
      const page = readPage(query, 'commands')
      const ended = readStatusAndOutcome(query, COMMAND_STATUSES, () => ['completed'])
      const read = await deps.commands.list(page, {
        deviceId: queryUuid(query, 'device_id') ?? null,
        alias: queryString(query, 'alias', 64, ALIAS) ?? null,
        ...ended,
        action: queryString(query, 'action', 64, ACTION) ?? null,
      })
      const keyOf = (row: CommandRow) => ({ at: row.createdAtText, id: row.requestId })
      const trouble = deps.senderTrouble()
      return listReply(read, page, keyOf, (row) => commandJson(pausedWith(row, trouble)))
    },
  }
}

export function cancelCommandEndpoint(deps: Commands): Endpoint<'admin'> {
  return {
    async handle(request) {
      const requestId = commandId(request)
      const { context, admin } = request
      const outcome = await deps.commands.cancel(requestId, {
        admin,
        requestId: context.requestId,
        ip: context.ip,
        instance: deps.instance,
      })
      if (outcome.kind === 'unknown') throw commandUnknown()
      const { command } = outcome
      if (outcome.kind === 'ended') {
        const state = stateAt(command, command.now)
        throw new AppError('command_ended', `This command is ${state} already.`)
      }
      context.deviceId = command.deviceId
      context.alias = command.alias
      deps.commandChanged(requestId)
      const { action } = command
      request.log(
        { event: 'command.cancelled', fields: { action, admin, reason: 'admin' } },
        requestId,
      )
      return json(200, commandJson(command))
    },
  }
}

function commandId(request: BaseRequest): string {
  const requestId = request.params['request_id'] ?? ''
  if (!isRequestId(requestId)) throw commandUnknown()
  return requestId
}

function known(command: CommandRow | undefined): CommandRow {
  if (command === undefined) throw commandUnknown()
  return command
}

function commandUnknown(): AppError {
  return new AppError('command_unknown', 'No command has this request_id.')
}
