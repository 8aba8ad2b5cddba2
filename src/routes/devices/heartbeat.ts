/** POST /v1/heartbeat: stores a device's status and hands over its commands. Responds once the heartbeat is durable. */

import type { HeartbeatItem, StoredHeartbeat } from '../../db/heartbeats/heartbeats.ts'
import { WIRE_NAMES } from '../../domain/delivery/push-id.ts'
import { AppError } from '../../domain/errors.ts'
import { withFailedCall } from '../../domain/failed-call.ts'
import { asObject } from '../../http/fields.ts'
import { type Endpoint, json, type Request, type RequestContext } from '../../http/route.ts'
import { withTimeout } from '../../lib/timeouts.ts'
import type { Devices } from './feature.ts'
import { type ReadHeartbeat, readHeartbeat } from './heartbeat-body.ts'
import { recordPing } from './ping-result.ts'

/** A live token that the statement does not recognize was replaced meanwhile: judged again, then 503. */
const MAX_TRIES = 3

export function heartbeatEndpoint(deps: Devices): Endpoint<'device-token'> {
  return {
    async handle(request) {
      const startedAtMs = deps.nowMs()
      const deadlineAtMs = startedAtMs + deps.heartbeatDeadlineMs
      const read = readHeartbeat(asObject(request.body))
      const { heartbeat } = read

      const { context, tokenHash } = request
      const item = { tokenHash, heartbeat, requestId: context.requestId }
      const inDeadline = <T>(work: Promise<T>) =>
        withTimeout(work, deadlineAtMs - deps.nowMs(), tooSlow)

      const result = await deps.heartbeats.add(item)
      const stored =
        result.kind === 'stored' ? result : await inDeadline(storeJudged(deps, item, context))
      const storedAtMs = deps.nowMs()
      deps.pace.stored(storedAtMs - startedAtMs, storedAtMs)
      context.deviceId = stored.deviceId
      context.alias = stored.alias
      if (stored.isDeduped) deps.dedupHits.add()
      else deps.ingested.add()
      const ignored = [...read.ignored]
      if (stored.isClockIgnored) ignored.push(read.reportedAtField)
      if (stored.isPushIdOlder && heartbeat.pushId) ignored.push(WIRE_NAMES[heartbeat.pushId.kind])
      const hasMore =
        heartbeat.pingRequestId !== null || stored.hasMail || stored.pushIdOffer !== null
      const commands = hasMore ? await inDeadline(finish(deps, request, read, stored, ignored)) : []

      return json(
        200,
        {
          ok: true,
          deduped: stored.isDeduped,
          next_heartbeat_s: deps.pace.nextS(stored.deviceId, storedAtMs),
          commands,
          ignored,
        },
        {
          event: stored.isDeduped ? 'heartbeat.dedup' : 'heartbeat.ingest',
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

/** Judges a token that the group's statement does not recognize, marks its first use, then stores the heartbeat. */
async function storeJudged(
  deps: Devices,
  item: HeartbeatItem,
  context: RequestContext,
): Promise<StoredHeartbeat> {
  for (let tries = 1; tries <= MAX_TRIES; tries += 1) {
    const verdict = await deps.authenticateDevice(item.tokenHash)
    if (verdict.kind !== 'unknown') {
      context.deviceId = verdict.deviceId
      context.alias = verdict.alias
    }
    if (verdict.kind !== 'live') throw deps.refuseDevice(verdict)
    const result = await deps.heartbeats.add(item)
    if (result.kind === 'stored') return result
  }
  throw new AppError('overloaded', 'The device is being enrolled anew. Try again.')
}

/** What few heartbeats need: records a ping, hands over commands, takes a push identity. Returns the commands. */
async function finish(
  deps: Devices,
  request: Request<'device-token'>,
  read: ReadHeartbeat,
  stored: StoredHeartbeat,
  ignored: string[],
): Promise<readonly Readonly<Record<string, string>>[]> {
  const { heartbeat } = read
  const { deviceId, pushIdOffer } = stored
  if (heartbeat.pingRequestId !== null) {
    const isOurs = await recordPing(deps, request, heartbeat.pingRequestId, heartbeat)
    if (!isOurs) ignored.push('ping_request_id')
  }
  // After the ping, so that a command it ends is not handed over again.
  const commands = stored.hasMail ? await deps.mailbox.handOver(request.tokenHash) : []
  // After the hand-over, so that the response is on its way before the push.
  if (pushIdOffer !== null && heartbeat.pushId !== null) {
    const { pushId } = heartbeat
    const offer = { ...pushIdOffer, pushId }
    const device = { deviceId, tokenHash: request.tokenHash }
    const isTaken = await deps.devices.offerPushId(device, offer, request.context.requestId)
    if (isTaken) deps.wakeDispatcher()
    else ignored.push(WIRE_NAMES[pushId.kind])
  }
  return commands
    .map((command) => deps.sign(deviceId, command))
    .filter((message) => message !== undefined)
}

function tooSlow(): AppError {
  const message =
    'The heartbeat may be stored, but not all that it asked for was done in time. Send it again.'
  // Each statement has a limit of its own; which one was running is not known here.
  const failedCall = { statement: null, cause: 'too_slow' }
  return withFailedCall(new AppError('db_unavailable', message), failedCall)
}
