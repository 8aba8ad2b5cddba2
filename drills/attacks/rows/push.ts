/** Row 7: one phone that changes its push token again and again, beside phones that wait for commands. */
import { setTimeout as wait } from 'node:timers/promises'
import { type FakeFcm, pushSettings, startFakeFcm } from '../../../sim/fcm/fake-fcm.ts'
import { bodyOf, jsonHeaders, type Send } from '../../../testkit/http/client.ts'
import { ADMIN_TOKEN } from '../../../testkit/service-settings.ts'
import type { AssaultReport } from '../attackers/assault.ts'
import type { Criterion } from '../criterion.ts'
import type { Environment, Phone } from '../environment.ts'
import type { LoadRow } from '../load-row.ts'
import type { Stage } from '../stage.ts'

interface Form {
  readonly title: string
  /** Each `*` becomes random characters. */
  readonly pushToken: string
}

const FORMS: readonly Form[] = [
  { title: 'the same push token 20 times a second, of a phone that FCM limits', pushToken: 'same' },
  { title: 'another made-up push token 20 times a second', pushToken: 'made-up-*' },
]
const CHANGES_PER_S = 20
const VICTIMS = 5
const EVERY_MS = 500
const MOST_WAIT_MS = 5_000
/** For pushes still under way after the attack. */
const LATE_MS = 15_000
/** Ten changes an hour, plus the attempts of a command that FCM refuses. */
const MOST_SENDS = 40
const MOST_STEPS = 100
const TTL_S = 86_400

/** Commands to innocent phones, and when each arrived by push. */
class Victims {
  readonly waitsMs: number[] = []
  sent = 0
  #isOver = false
  #done: Promise<void> | undefined
  readonly #send: Send
  readonly #phones: readonly Phone[]
  readonly #sentAtMs = new Map<string, number>()

  constructor(send: Send, phones: readonly Phone[]) {
    this.#send = send
    this.#phones = phones
  }

  async begin(fcm: FakeFcm): Promise<void> {
    for (const [index, { token }] of this.#phones.entries()) {
      await tellToken(this.#send, token, `victim-${index}`)
      fcm.register(`victim-${index}`, ({ request_id: id = '' }) => {
        const sentAtMs = this.#sentAtMs.get(id)
        if (sentAtMs !== undefined) this.waitsMs.push(performance.now() - sentAtMs)
        this.#sentAtMs.delete(id)
      })
    }
    this.#done = this.#run()
  }

  async stop(): Promise<void> {
    this.#isOver = true
    await this.#done
    const endsAtMs = performance.now() + LATE_MS
    while (this.#sentAtMs.size > 0 && performance.now() < endsAtMs) await wait(EVERY_MS)
  }

  get missing(): number {
    return this.#sentAtMs.size
  }

  async #run(): Promise<void> {
    for (; !this.#isOver; this.sent += 1) {
      const phone = this.#phones[this.sent % this.#phones.length]
      const id = `victim-${process.pid}-${performance.now()}`
      this.#sentAtMs.set(id, performance.now())
      if (phone !== undefined) await command(this.#send, phone, id)
      await wait(EVERY_MS)
    }
  }
}

async function tellToken(send: Send, token: string, pushToken: string): Promise<void> {
  const body = JSON.stringify({ fcm_token: pushToken })
  const headers = jsonHeaders(token)
  const { status } = await send({ method: 'POST', path: '/v1/devices/fcm-token', headers, body })
  if (status !== 200) throw new Error(`a push token was answered with ${status}`)
}

async function command(send: Send, { deviceId }: Phone, requestId: string): Promise<void> {
  const { status } = await send({
    method: 'POST',
    path: '/admin/command?wait_ms=0',
    headers: jsonHeaders(ADMIN_TOKEN),
    body: JSON.stringify({
      device_id: deviceId,
      action: 'ping',
      request_id: requestId,
      ttl_s: TTL_S,
    }),
  })
  if (status !== 202) throw new Error(`a command was answered with ${status}`)
}

/** Pushes to the attacker's tokens are rate-limited by FCM, or fail. */
async function attackOn(stage: Stage, place: Environment, form: Form, fcm: FakeFcm, s: number) {
  const { pushToken } = form
  const isAttackers = (token: string) => !token.startsWith('victim-')
  fcm.setMode({ fcm: (message) => (message.pushToken === 'same' ? 'quota' : 'ok') })
  const attacker = place.stolen[FORMS.indexOf(form)]
  if (attacker === undefined) throw new Error('nobody to attack')
  const commandId = `attacker-${process.pid}-${performance.now()}`
  await tellToken(stage.send, attacker.token, pushToken.replace('*', '0'))
  await command(stage.send, attacker, commandId)
  const victims = new Victims(stage.send, place.stolen.slice(-VICTIMS))
  await victims.begin(fcm)
  const { port, send, lines } = stage
  return {
    wave: () =>
      stage.attack({
        kind: 'requests',
        port,
        seconds: s,
        ratePerS: CHANGES_PER_S,
        requests: [
          {
            method: 'POST',
            path: '/v1/devices/fcm-token',
            token: attacker.token,
            body: JSON.stringify({ fcm_token: pushToken }),
          },
        ],
      }),
    async judge(_reports: readonly AssaultReport[]): Promise<readonly Criterion[]> {
      await victims.stop()
      const path = `/admin/commands/${commandId}`
      const headers = jsonHeaders(ADMIN_TOKEN)
      const { timeline } = bodyOf(await send({ method: 'GET', path, headers }))
      const steps = Array.isArray(timeline) ? timeline.length : Number.NaN
      const sends = fcm.journal.filter((each) => isAttackers(each.pushToken)).length
      const slowestMs = Math.max(0, ...victims.waitsMs)
      return [
        {
          bar: `the pushes of others go on, each within ${MOST_WAIT_MS / 1_000} s`,
          measured: `${victims.waitsMs.length} of ${victims.sent} commands came by push, the slowest after ${(slowestMs / 1_000).toFixed(1)} s, ${victims.missing} never; ${lines.events('push.paused')} lines push.paused`,
          isHeld:
            victims.missing === 0 && slowestMs <= MOST_WAIT_MS && lines.events('push.paused') === 0,
          isTimed: victims.missing === 0 && lines.events('push.paused') === 0,
        },
        {
          bar: `at most ${MOST_SENDS} sends to the one phone, its timeline at most ${MOST_STEPS} steps`,
          measured: `${sends} sends, ${steps} steps`,
          isHeld: sends <= MOST_SENDS && steps <= MOST_STEPS,
        },
      ]
    },
  }
}

export const PUSH_ROWS: readonly LoadRow[] = FORMS.map((form) => ({
  row: 7,
  title: form.title,
  async begin(length, place) {
    const fcm = await startFakeFcm()
    return {
      options: { settings: pushSettings(fcm) },
      attack: (stage) => attackOn(stage, place, form, fcm, length.attackS),
      end: () => fcm.close(),
    }
  },
}))
