/** The fielded agent's heartbeat, as one phone repeats it. */
import { heartbeatBody } from '../../sim/device/body.ts'
import type { EnrolledDevice } from '../../sim/enroll.ts'
import type { LoadRequest } from '../../sim/load/load.ts'
import type { HmacSecret } from '../../src/domain/identity.ts'
import { seededDeviceId, seededToken } from '../../testkit/database/seeded-fleet.ts'
import { jsonHeaders } from '../../testkit/http/client.ts'

export function heartbeatRequest({ alias, deviceId, token }: EnrolledDevice): LoadRequest {
  const body = heartbeatBody('nested', {
    alias,
    deviceId,
    at: new Date(),
    batteryPct: 71,
    isPlugged: false,
    tempC: 28.5,
    uptimeS: 86_400,
    networkType: 'wifi',
    queueLength: 0,
    pushId: null,
    push: null,
    pingRequestId: null,
  })
  const headers = { ...jsonHeaders(token), 'user-agent': 'okhttp/4.12.0' }
  return { id: deviceId, method: 'POST', path: '/v1/heartbeat', headers, body }
}

/** Heartbeats of phones of testkit/database/seeded-fleet.ts, for `next` of a load: `numberOf` gives the phone of each. Throws beyond `count`. */
export function seededHeartbeats(
  secret: HmacSecret,
  count: number,
  numberOf: (index: number) => number,
): (index: number) => LoadRequest {
  const requests = Array.from({ length: count }, (_, index) => {
    const n = numberOf(index)
    const token = seededToken(secret, n)
    return heartbeatRequest({ alias: `S${n}`, deviceId: seededDeviceId(n), token })
  })
  return (index) => {
    const request = requests[index]
    if (request === undefined) throw new Error('more arrivals than planned')
    return request
  }
}
