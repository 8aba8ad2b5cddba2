/** POST /v1/heartbeat: a device says that it lives, and empties its mailbox. Answers once the heartbeat is durable. */
import { AppError } from '../core/errors.ts'
import type { GroupCommit } from '../core/group-commit.ts'
import type { DeviceVerdict } from '../core/identity.ts'
import { inTime } from '../core/wait.ts'
import type { CommandResultStore } from '../db/command-results.ts'
import type {
  HeartbeatAnswer,
  HeartbeatItem,
  OpenCommand,
  StoredHeartbeat,
} from '../db/heartbeats.ts'
import { asObject } from '../http/fields.ts'
import { type DeviceTokenRoute, json, type RouteRequest } from '../http/route.ts'
import { type ReadHeartbeat, readHeartbeat } from './heartbeat-body.ts'

export interface HeartbeatDeps {
  readonly heartbeats: Pick<GroupCommit<HeartbeatItem, HeartbeatAnswer>, 'add'>
  readonly results: CommandResultStore
  readonly refuseDevice: (verdict: Exclude<DeviceVerdict, { kind: 'live' }>) => Error
  /** The command as FCM would have carried it, signed for this device; undefined where its secret is not configured. */
  readonly sign: (
    device: StoredHeartbeat,
    command: OpenCommand,
  ) => Readonly<Record<string, string>> | undefined
  /** From the arrival of a heartbeat to its answer. */
  readonly heartbeatDeadlineMs: number
  /** Monotonic. */
  readonly nowMs: () => number
  readonly heartbeatIntervalS: number
  readonly ingested: { add(): void }
  readonly dedupHits: { add(): void }
  /** A command has ended. */
  readonly onEnded: (requestId: string) => void
}

export function heartbeatRoute(deps: HeartbeatDeps): DeviceTokenRoute {
  return {
    method: 'POST',
    path: '/v1/heartbeat',
    guard: 'device-token',
    body: 64 * 1024,
    async handle(request) {
      const deadlineAtMs = deps.nowMs() + deps.heartbeatDeadlineMs
      const read = readHeartbeat(asObject(request.body))
      const { heartbeat } = read
      const { context, tokenHash } = request

      const answer = await deps.heartbeats.add({
        tokenHash,
        heartbeat,
        requestId: context.requestId,
      })
      if (answer.kind !== 'unknown') {
        context.deviceId = answer.deviceId
        context.alias = answer.alias
      }
      if (answer.kind !== 'stored') throw deps.refuseDevice(answer)
      if (answer.isDeduped) deps.dedupHits.add()
      else deps.ingested.add()

      const ignored = [...read.ignored]
      if (answer.isClockIgnored) ignored.push(read.reportedAtField)
      if (heartbeat.pingRequestId !== null) {
        const ping = recordPing(deps, request, heartbeat.pingRequestId, read, answer)
        const isOurs = await inTime(ping, deadlineAtMs - deps.nowMs(), pingTooSlow)
        if (!isOurs) ignored.push('ping_request_id')
      }
      return json(
        200,
        {
          ok: true,
          deduped: answer.isDeduped,
          next_heartbeat_s: deps.heartbeatIntervalS,
          commands: answer.commands
            .map((command) => deps.sign(answer, command))
            .filter((command) => command !== undefined),
          ignored,
        },
        {
          event: answer.isDeduped ? 'heartbeat.dedup' : 'heartbeat.ingest',
          fields: {
            status: heartbeat.status,
            battery_pct: heartbeat.batteryPct,
            network_type: heartbeat.networkType,
            uptime_s: heartbeat.uptimeS,
            ignored: ignored.length === 0 ? null : ignored,
          },
        },
      )
    },
  }
}

function pingTooSlow(): AppError {
  return new AppError('db_unavailable', 'The ping answer was not stored in time. Send it again.')
}

/** A heartbeat that answers a ping is its result too. False: no such command of this device. */
async function recordPing(
  deps: HeartbeatDeps,
  request: RouteRequest,
  requestId: string,
  { heartbeat }: ReadHeartbeat,
  device: StoredHeartbeat,
): Promise<boolean> {
  const { ingressId } = request.context
  const outcome = await deps.results.record({
    requestId,
    deviceId: device.deviceId,
    outcome: 'success',
    message: null,
    output: null,
    exitCode: null,
    finishedAt: heartbeat.reportedAt,
    httpRequestId: ingressId,
  })
  if (outcome.kind === 'unknown') return false
  deps.onEnded(requestId)
  const { action, isLate } = outcome
  if (outcome.kind === 'recorded' && outcome.hasExpired) {
    request.log(
      { event: 'command.expired', fields: { action, admin: null, reason: 'ttl' } },
      requestId,
    )
  }
  const isDuplicate = outcome.kind === 'duplicate'
  const line = {
    event: 'action_result.ingest',
    fields: {
      action,
      outcome: 'success',
      duplicate: isDuplicate,
      late: isLate,
      http_request_id: ingressId,
    },
  } as const
  request.log(line, requestId)
  return true
}
