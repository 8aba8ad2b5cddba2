/** Row 4: attackers with one credential, or many, take every download slot. */
import { setTimeout as wait } from 'node:timers/promises'
import { jsonHeaders, type Send } from '../../../testkit/http/client.ts'
import type { AssaultReport } from '../attackers/assault.ts'
import { type Criterion, countsText } from '../criterion.ts'
import { type Environment, STOLEN_PHONES } from '../environment.ts'
import type { LoadRow } from '../load-row.ts'
import { PER_SUBNET, UNLIMITED_DOWNLOADS } from './bytes.ts'

interface Form {
  readonly title: string
  readonly tokensOf: (place: Environment) => readonly string[]
  readonly perToken: number
  readonly subnets: number
  /** Granted to all attackers together. */
  readonly downloads: number
  /** Until a phone that wants the APK has it, including its 503s. */
  readonly mostWaitS: number
}

const PER_CREDENTIAL = 3
const MAX_DOWNLOADS = 256
const TRIED_AT_ONCE = 20
/** With three downloads each they exceed a subnet's bound. */
const MIN_TOKENS = 25
/** A slow download is closed after a minute. */
const GIVES_WAY_S = 75
const AT_ONCE_S = 5
const EVERY_MS = 1_000
const RETRY_MS = 1_000

const FORMS: readonly Form[] = [
  {
    title: 'slow downloads with one device token',
    tokensOf: ({ stolen }) => stolen.slice(0, 1).map(({ token }) => token),
    perToken: TRIED_AT_ONCE,
    subnets: 1,
    downloads: PER_CREDENTIAL,
    mostWaitS: AT_ONCE_S,
  },
  {
    title: 'slow downloads with one used-up enrollment token',
    tokensOf: ({ usedEnrollmentToken }) => [usedEnrollmentToken],
    perToken: TRIED_AT_ONCE,
    subnets: 1,
    downloads: PER_CREDENTIAL,
    mostWaitS: AT_ONCE_S,
  },
  {
    title: 'slow downloads with 100 device tokens from one subnet',
    tokensOf: ({ stolen }) => stolen.map(({ token }) => token),
    perToken: PER_CREDENTIAL,
    subnets: 1,
    downloads: PER_SUBNET,
    mostWaitS: AT_ONCE_S,
  },
  {
    title: 'slow downloads with 100 device tokens from 8 subnets: every place is taken',
    tokensOf: ({ stolen }) => stolen.map(({ token }) => token),
    perToken: PER_CREDENTIAL,
    subnets: 8,
    downloads: MAX_DOWNLOADS,
    mostWaitS: GIVES_WAY_S,
  },
]

/** Lets one phone after the other fetch the APK until `stop`; each retries until it has it. */
class Downloading {
  readonly byStatus: Record<string, number> = {}
  whole = 0
  slowestS = 0
  readonly #send: Send
  readonly #place: Environment
  readonly #done: Promise<void>
  readonly #over = new AbortController()

  constructor(send: Send, place: Environment) {
    this.#send = send
    this.#place = place
    this.#done = this.#run()
  }

  stop(): Promise<void> {
    this.#over.abort()
    return this.#done
  }

  async #run(): Promise<void> {
    const { phones } = this.#place
    const { signal } = this.#over
    const pause = (ms: number) => wait(ms, undefined, { signal }).catch(() => {})
    for (let index = 0; !signal.aborted; index += 1) {
      const sinceMs = performance.now()
      const token = phones[index % phones.length]?.token ?? ''
      while (!(await this.#isFetched(token))) {
        // Always finish the first one: a busy machine may have had no time for it.
        const isSeenThrough = this.whole > 0 || performance.now() - sinceMs > 1_000 * GIVES_WAY_S
        if (signal.aborted && isSeenThrough) break
        await wait(RETRY_MS)
      }
      this.slowestS = Math.max(this.slowestS, (performance.now() - sinceMs) / 1_000)
      await pause(EVERY_MS)
    }
  }

  async #isFetched(token: string): Promise<boolean> {
    let bytes = 0
    const status = await this.#send({
      method: 'GET',
      path: '/v1/apk/download-latest',
      headers: jsonHeaders(token),
      sink: (piece) => {
        bytes += piece.length
      },
    }).then(
      (response) => String(response.status),
      () => 'cut off',
    )
    this.byStatus[status] = (this.byStatus[status] ?? 0) + 1
    const isWhole = status === '200' && bytes === this.#place.apkBytes
    if (isWhole) this.whole += 1
    return isWhole
  }
}

function criteria(
  { mostWaitS }: Form,
  reports: readonly AssaultReport[],
  { byStatus, whole, slowestS }: Downloading,
): readonly Criterion[] {
  const most = (what: string) =>
    Math.max(0, ...reports.map((report) => report[`held at once by one ${what}`] ?? 0))
  const fetched = byStatus['200'] ?? 0
  return [
    {
      bar: `at most ${PER_CREDENTIAL} downloads at once a credential, ${PER_SUBNET} a subnet`,
      measured: `attackers held at most ${most('credential')} with one credential, ${most('subnet')} in one subnet, ${most('attacker')} in all`,
      isHeld: most('credential') <= PER_CREDENTIAL && most('subnet') <= PER_SUBNET,
    },
    {
      bar: `an honest phone has its whole APK within ${mostWaitS} s`,
      measured: `honest downloads ${countsText(byStatus)}, ${whole} whole, the slowest after ${slowestS.toFixed(1)} s`,
      isHeld: whole > 0 && whole === fetched && slowestS <= mostWaitS && !byStatus['cut off'],
      isTimed: whole > 0 && whole === fetched && !byStatus['cut off'],
    },
  ]
}

export const DOWNLOADS_ROWS: readonly LoadRow[] = FORMS.map((form) => ({
  row: 4,
  title: form.title,
  rounds: 1,
  downloads: form.downloads,
  begin: async (length, place) => ({
    options: { settings: UNLIMITED_DOWNLOADS },
    async attack(stage) {
      const { port } = stage
      // Starts before the first window, so that its cost is not counted as the attack's.
      const downloading = new Downloading(stage.send, place)
      return {
        wave: () =>
          stage.attack({
            kind: 'downloads',
            port,
            seconds: length.downloadS,
            tokens: form
              .tokensOf(place)
              .slice(0, Math.max(MIN_TOKENS, STOLEN_PHONES * length.flood)),
            perToken: form.perToken,
            subnets: form.subnets,
          }),
        async judge(reports) {
          await downloading.stop()
          return criteria(form, reports, downloading)
        },
      }
    },
  }),
}))
