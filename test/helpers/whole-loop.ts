/**
 * A small fleet through the whole loop, against a real service, PostgreSQL and a fake FCM: enrollment, heartbeats,
 * commands by push and by mailbox, results, APKs, and every kind of refusal with real credentials in wrong places.
 * Gives back all that went over the wire.
 */
import type { Test } from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { createRecorder, type Exchange } from '../../sim/demo/recorder.ts'
import { issueEnrollmentTokens } from '../../sim/enroll.ts'
import { type FakeFcm, pushSettings, startFakeFcm } from '../../sim/fcm/fake-fcm.ts'
import { createFleet, type Fleet } from '../../sim/fleet.ts'
import {
  bodyOf,
  createSend,
  type HttpRequest,
  jsonHeaders,
  textOf,
} from '../../testkit/http/client.ts'
import { until } from '../../testkit/until.ts'
import { misplacedSecrets } from '../security/misplaced-secrets.ts'
import { mustBeDocumented } from './contract.ts'
import { rememberBody, rememberHeaders, rememberSecret } from './secrets.ts'
import { ADMIN, type Running, startService } from './service.ts'

const ALIASES = ['S01', 'S02', 'S03', 'S04', 'S05', 'S06'] as const
const READER = 'reader-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
const ACTIONS = ['ping', 'ring', 'ping', 'launch_app', 'ring', 'ping'] as const

export interface WholeLoop {
  readonly service: Running
  readonly fcm: FakeFcm
  readonly fleet: Fleet
  /** Every request that was answered, and its answer. */
  readonly exchanges: readonly Exchange[]
}

export async function liveWholeLoop(t: Test): Promise<WholeLoop> {
  const fcm = await startFakeFcm()
  t.teardown(() => fcm.close())
  const service = await startService(t, {
    env: {
      ...pushSettings(fcm),
      FCM_RETRY_BASE_MS: '1',
      ADMIN_TOKENS: `tester=${ADMIN},reader:read=${READER}`,
      LOG_LEVEL: 'DEBUG', // every request ends in a line
    },
  })
  const { send, take } = createRecorder(createSend(service.origin))
  const admin = async (method: HttpRequest['method'], path: string, body?: unknown) =>
    send({
      method,
      path,
      headers: jsonHeaders(ADMIN),
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
  const fleet = createFleet({
    aliases: ALIASES,
    habitsOf: (index) => ({
      shape: index % 2 === 0 ? 'flat' : 'nested',
      reportsBy: index === 5 ? 'ack' : 'action-result',
      hasDoubleSlash: index === 3,
    }),
    send,
    nowMs: Date.now,
    random: Math.random,
    push: fcm,
  })

  for (const { habits } of fleet.devices) rememberSecret(habits.pushToken)

  // enroll, and beat: of three in a row at least one falls into the window of another
  const tokens = await issueEnrollmentTokens(send, ADMIN, ALIASES)
  await fleet.enroll(tokens)
  for (let beat = 0; beat < 3; beat += 1) await fleet.beat()

  // commands: one push is tried again, one push token is dead and the mailbox delivers
  const [first, second] = fleet.devices
  fcm.unregister('sim-push-token-S05')
  fcm.nextAnswers(['unavailable'])
  for (const [index, alias] of ALIASES.entries()) {
    await admin('POST', '/admin/command?wait_ms=0', {
      alias,
      action: ACTIONS[index],
      request_id: `loop-${alias}`,
    })
  }
  await service.lines.waitFor((line) => line.event === 'push.token_dead')
  await fleet.devices[4]?.beat()
  for (const alias of ALIASES) await service.lines.waitFor(isResultOf(`loop-${alias}`))
  await until(() => fleet.report().queued === 0)
  await admin('GET', '/admin/commands/loop-S01?wait_ms=10')

  // APKs
  const apk = makeApk({ versionCode: 7 })
  const build = '/admin/apk/builds/b1?version_code=7'
  await send({ method: 'PUT', path: build, headers: jsonHeaders(ADMIN), body: apk })
  for (const device of fleet.devices) {
    await device.fetchApk({ enrollmentToken: tokens.get(device.alias) ?? '' })
  }
  await first?.fetchApk()
  await send({
    method: 'GET',
    path: '/v1/apk/download-latest',
    headers: { ...jsonHeaders(ADMIN), range: 'bytes=0-99' },
  })

  // what refuses, with credentials that live and that died
  const lost = await issueEnrollmentTokens(send, ADMIN, ['S07', 'S01'])
  const { tokens: listed } = bodyOf(await admin('GET', '/v1/enroll-tokens'))
  const revoked = Object(listed).find((one: { alias: unknown }) => one.alias === 'S07')
  await admin('DELETE', `/v1/enroll-tokens/${revoked.token_id}`)
  const phone = await enrolled(send, lost.get('S01') ?? '') // S01's own tokens are dead now
  await first?.beat()
  await admin('DELETE', `/admin/devices/${second?.deviceId}`)
  await second?.beat()
  for (const request of misplacedSecrets({
    ...phone,
    enrollmentToken: tokens.get('S03') ?? '',
    revokedToken: lost.get('S07') ?? '',
    adminToken: ADMIN,
    readerToken: READER,
  })) {
    await send(request)
  }

  // and what admins read
  for (const path of [
    '/v1/enroll-tokens',
    '/admin/devices',
    '/admin/commands',
    '/admin/commands/loop-S05',
    '/admin/apk/builds',
    '/admin/audit',
    '/healthz',
    '/readyz',
    '/nowhere',
  ]) {
    await admin('GET', path)
  }
  const exchanges = take()
  for (const { request, answer: response } of exchanges) {
    const header = (name: string) => response.headers[name]?.toString()
    mustBeDocumented(request, { ...response, header, text: response.bytes.toString('utf8') })
    rememberHeaders(request.headers)
    rememberBody(bodyOf(response))
  }
  const ended = () => service.lines.all.filter((line) => line['status_code'] !== null).length
  await until(() => ended() >= exchanges.length)
  return { service, fcm, fleet, exchanges }
}

const isResultOf = (requestId: string) => (line: Readonly<Record<string, unknown>>) =>
  line['event'] === 'action_result.ingest' && line['request_id'] === requestId

/** A phone of its own, by the token of an alias. */
async function enrolled(
  send: (request: HttpRequest) => Promise<Exchange['answer']>,
  token: string,
) {
  const response = await send({
    method: 'POST',
    path: '/v1/register',
    headers: jsonHeaders(token),
    body: JSON.stringify({ hardware_id: 'other', fcm_token: 'sim-push-token-other' }),
  })
  const body = bodyOf(response)
  return { deviceToken: textOf(body, 'device_token'), hmacKey: textOf(body, 'hmac_key') }
}
