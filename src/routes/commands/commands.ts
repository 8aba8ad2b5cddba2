/** GET and DELETE /admin/commands…: at which stage a command stands and why, lists, cancellation. */

import type { CommandRow, CommandStore } from '../../db/commands/commands.ts'
import { COMMAND_STATUSES, type SenderTrouble, stateAt } from '../../domain/command.ts'
import { AppError } from '../../domain/errors.ts'
import { ACTION, isRequestId } from '../../domain/ids.ts'
import { queryEnum, queryInt, queryString, queryUuid } from '../../http/fields.ts'
import { PAGE_QUERY, pageOf, readPage } from '../../http/page.ts'
import { type AdminRoute, type BaseRequest, json, NO_NAMES } from '../../http/route.ts'
import { readUntil } from '../../lib/notifier.ts'
import { commandJson, pausedWith, storyJson } from './command-json.ts'

export interface ReadCommandDeps {
  readonly commands: Pick<CommandStore, 'find' | 'timeline'>
  /** DEVICE_OFFLINE_S. */
  readonly offlineAfterS: number
  /** Of this replica. */
  readonly senderTrouble: () => SenderTrouble | undefined
  readonly waitForChange: (
    requestId: string,
    timeoutMs: number,
    signal: AbortSignal,
  ) => Promise<void>
  /** As readUntil takes one. */
  readonly tryAcquireWait: () => (() => void) | undefined
  readonly nowMs: () => number
}

const COMMAND_PATH = '/admin/commands/{request_id}'
const WAIT_MS = { min: 0, max: 30_000 } as const

export function readCommandRoute(deps: ReadCommandDeps): AdminRoute {
  return {
    method: 'GET',
    path: COMMAND_PATH,
    guard: 'admin',
    scopes: ['command', 'read'],
    takes: { query: ['wait_ms'], fields: [] },
    body: 0,
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
        isDone: (row) => stateAt(row, row.now) !== 'open',
        waitMs: queryInt(request.query, 'wait_ms', WAIT_MS, 0),
        waitForChange: (timeoutMs) => deps.waitForChange(requestId, timeoutMs, request.signal),
        tryAcquire: deps.tryAcquireWait,
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

export function listCommandsRoute(deps: {
  readonly commands: Pick<CommandStore, 'list'>
  readonly senderTrouble: ReadCommandDeps['senderTrouble']
}): AdminRoute {
  return {
    method: 'GET',
    path: '/admin/commands',
    guard: 'admin',
    scopes: ['command', 'read'],
    takes: { query: ['device_id', 'status', 'action', ...PAGE_QUERY], fields: [] },
    body: 0,
    async handle({ query }) {
      const page = readPage(query, 'commands')
      const read = await deps.commands.list(page, {
        deviceId: queryUuid(query, 'device_id') ?? null,
        status: queryEnum(query, 'status', COMMAND_STATUSES) ?? null,
        action: queryString(query, 'action', 64, ACTION) ?? null,
      })
      const { rows, nextCursor } = pageOf(read, page, (row) => ({
        at: row.createdAtKey,
        id: row.requestId,
      }))
      const trouble = deps.senderTrouble()
      const commands = rows.map((row) => commandJson(pausedWith(row, trouble)))
      return json(200, { commands, next_cursor: nextCursor })
    },
  }
}

export interface CancelCommandDeps {
  readonly commands: Pick<CommandStore, 'cancel'>
  readonly instance: string
  /** A command has ended. */
  readonly commandChanged: (requestId: string) => void
}

export function cancelCommandRoute(deps: CancelCommandDeps): AdminRoute {
  return {
    method: 'DELETE',
    path: COMMAND_PATH,
    guard: 'admin',
    scopes: ['command'],
    takes: NO_NAMES,
    body: 0,
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
