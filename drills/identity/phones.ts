/** Phones whose app changes the kind of its push identity, and when the service knew of each change. */
import { setTimeout as wait } from 'node:timers/promises'
import type { Device } from '../../sim/device/device.ts'
import type { PhoneApp } from '../../sim/fcm/apps.ts'
import type { FakeFcm, JournaledSend } from '../../sim/fcm/fake-fcm.ts'
import { createFleet, type Fleet, type FleetOptions } from '../../sim/fleet.ts'
import { type PushId, pushIdText } from '../../src/domain/delivery/push-id.ts'
import { isSuccess, type Send } from '../../testkit/http/client.ts'
import { sentAtMs } from '../commands/journal.ts'

export interface Phone {
  readonly device: Device
  readonly app: PhoneApp
  /** Its registration with FCM. */
  current: PushId
  /** Its former identities: pushIdText to the time at which the service acknowledged the next one. */
  readonly former: Map<string, number>
}

export interface Phones {
  readonly fleet: Fleet
  readonly all: readonly Phone[]
  /** Registers the app by the other kind and lets the phone say so. */
  change(phone: Phone): void
  /** Pushes reach no app until it is called again. */
  setDeaf(isDeaf: boolean): void
  /** Resolves when no phone handles a push or a change. */
  quiet(): Promise<void>
}

export interface PhonesOptions extends Pick<FleetOptions, 'run' | 'listener' | 'random'> {
  readonly fcm: FakeFcm
  readonly send: Send
  readonly aliases: readonly string[]
  readonly heartbeatIntervalS: number
}

export function createPhones({
  fcm,
  aliases,
  heartbeatIntervalS,
  ...options
}: PhonesOptions): Phones {
  const underWay = new Set<Promise<void>>()
  let isDeaf = false
  /** By pushIdText: notes when the identity is known. */
  const untold = new Map<string, () => void>()
  const track = (work: Promise<void>) => {
    const tracked = work.finally(() => underWay.delete(tracked))
    underWay.add(tracked)
  }
  const fleet = createFleet({
    ...options,
    aliases,
    habitsOf: () => ({ heartbeatIntervalS }),
    nowMs: Date.now,
    async send(request) {
      const response = await options.send(request)
      if (isSuccess(response)) noteKnown(request.body)
      return response
    },
  })

  function noteKnown(body: unknown): void {
    const [, kind, value] = /"(fid|fcm_token)":"([^"]*)"/.exec(String(body ?? '')) ?? []
    const id = `${kind === 'fid' ? 'fid' : 'token'}:${value}`
    untold.get(id)?.()
    untold.delete(id)
  }

  const all = fleet.devices.map((device, index): Phone => {
    const app = fcm.install(device.alias, (data, delivery) => {
      if (!isDeaf) track(device.receive(data, delivery))
    })
    const current = index % 2 === 0 ? app.newToken() : app.registerFid()
    track(device.moveTo(current)) // not enrolled: it registers with it
    return { device, app, current, former: new Map() }
  })

  return {
    fleet,
    all,
    change(phone) {
      const former = pushIdText(phone.current)
      phone.current =
        phone.current.kind === 'token' ? phone.app.registerFid() : phone.app.newToken()
      untold.set(pushIdText(phone.current), () => phone.former.set(former, Date.now()))
      track(phone.device.moveTo(phone.current))
    },
    setDeaf(isIt) {
      isDeaf = isIt
    },
    async quiet() {
      while (underWay.size > 0) {
        await Promise.all(underWay)
        await wait(0)
      }
    },
  }
}

/** Sends to a former identity that were signed more than `graceMs` after the service had acknowledged the next one. */
export function misaddressed(
  phones: Pick<Phones, 'all'>,
  sends: readonly JournaledSend[],
  graceMs: number,
): readonly JournaledSend[] {
  const knownAt = new Map(phones.all.flatMap(({ former }) => [...former]))
  return sends.filter((send) => {
    const text = pushIdText({ kind: send.pushKind, value: send.pushToken })
    return sentAtMs(send) > (knownAt.get(text) ?? Number.POSITIVE_INFINITY) + graceMs
  })
}
