/** Dispatchers on one database, one per replica, and the fake FCM that they push to. */
import { createHash, randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import { startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { commandStore } from '../../src/db/commands/commands.ts'
import { commandOutbox } from '../../src/db/commands/outbox.ts'
import { Pool } from '../../src/db/postgres/pool.ts'
import { commandKey } from '../../src/domain/delivery/command-message.ts'
import { createAccessTokens } from '../../src/push/access-token.ts'
import { Dispatcher, type DispatcherDeps } from '../../src/push/dispatcher.ts'
import { createFcmClient } from '../../src/push/fcm.ts'
import type { Line } from '../../src/telemetry/log/log.ts'
import { connect, PATIENT } from './database.ts'
import { type Enrolled, HMAC_SECRET, startService } from './service.ts'

export const DEADLINE_MS = 30_000

/** Of one test file; all ends with its `t`. */
export async function startReplicas(t: Test) {
  const fcm = await startFakeFcm()
  t.teardown(() => fcm.close())
  // Push is off in this one: it serves the devices, and the dispatchers are the replicas that push.
  const service = await startService(t)
  const db = await connect(t, service.databaseUrl)
  const pool = new Pool({
    ...PATIENT,
    url: service.databaseUrl,
    maxConnections: 8,
    isPrepared: true,
  })
  t.teardown(() => pool.close(1_000))
  const outbox = commandOutbox(pool, 'replica')
  const { account } = fcm.serviceAccount
  const accessTokens = createAccessTokens(account, { timeoutMs: DEADLINE_MS, proxy: null })
  const clientOf = (timeoutMs: number) =>
    createFcmClient({
      baseUrl: fcm.baseUrl,
      projectId: account.projectId,
      accessTokens,
      timeoutMs,
      maxSockets: 64,
      proxy: null,
      ttlS: 300,
    })

  function replica(t: Test, deps: Partial<DispatcherDeps> = {}) {
    const lines: Line[] = []
    const dispatcher = new Dispatcher({
      outbox,
      fcm: clientOf(DEADLINE_MS),
      commandKey: ({ deviceId, enrollmentNo }) => commandKey(HMAC_SECRET, deviceId, enrollmentNo),
      log: { write: (line) => void lines.push(line) },
      maxInFlight: 64,
      retryBaseMs: 1,
      newId: randomUUID,
      random: Math.random,
      now: () => new Date(),
      nowMs: () => performance.now(),
      commandChanged: () => {},
      reportFailure: () => {},
      ...deps,
    })
    t.teardown(() => dispatcher.close(DEADLINE_MS))
    return {
      dispatcher,
      lines,
      eventsOf: (event: string) => lines.filter((one) => one.event === event),
    }
  }

  let devices = 0
  /** A device whose push token works. */
  async function enroll(): Promise<Enrolled> {
    devices += 1
    fcm.register(`push-${devices}`, () => {})
    return service.enroll(`L${devices}`, { fcm_token: `push-${devices}` })
  }

  let commands = 0
  /** A command of which no dispatcher knows. */
  async function command(deviceId: string): Promise<string> {
    commands += 1
    const requestId = `cmd-${commands}`
    const outcome = await commandStore(pool).accept(
      { deviceId, alias: null },
      {
        requestId,
        action: 'ping',
        params: {},
        contentHash: createHash('sha256').digest(),
        admin: 'tester',
        ttlS: 3_600,
        ip: null,
        instance: 'replica',
        isPushOn: true,
      },
    )
    if (outcome.kind !== 'accepted') throw new Error(outcome.kind)
    return requestId
  }

  async function row(requestId: string) {
    const text = 'select *, next_attempt_at <= now() as is_due from commands where request_id = $1'
    return (await db.query(text, [requestId])).rows[0]
  }

  /** As if FCM had called the device's push token dead. */
  const tokenDied = (deviceId: string) =>
    db.query('update devices set fcm_token_died_at = now() where device_id = $1', [deviceId])

  const attemptsOf = (requestId: string) =>
    fcm.journal.flatMap(({ data }) => (data['request_id'] === requestId ? [data['attempt']] : []))

  const isPush = (requestId: string, state: string) => async () =>
    (await row(requestId)).push_state === state

  return {
    fcm,
    service,
    db,
    pool,
    outbox,
    clientOf,
    replica,
    enroll,
    command,
    row,
    tokenDied,
    attemptsOf,
    isPush,
  }
}
