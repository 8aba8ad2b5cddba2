/**
 * The downloads in progress and the limits on their number. When a limit is reached, the slowest download that counts
 * towards it gives way to the new one. If none is slow, the new one is refused.
 *
 * A client is slow if it took less than 16 KiB/s over the last minute. During the first minute of a download, the
 * average since its start counts, and it must also have taken no byte for 15 s. Silence alone proves nothing: over
 * loopback, as from a proxy on this host, the kernel takes a slow client's bytes in bursts of 1.4 MB, 22 s apart at
 * 64 KiB/s.
 *
 * Only downloads in progress are kept: a key without one has no entry, and the timer stops with the last.
 */
import type { Recipient } from '../domain/recipient.ts'

/** How often the progress of every download is noted. */
const NOTE_MS = 5_000
const SLOW_MS = 60_000
const STALLED_MS = 15_000
const MIN_BYTES_PER_S = 16 * 1024

const BYTES_PER_NOTE = (MIN_BYTES_PER_S * NOTE_MS) / 1_000

/** One limit on the downloads in progress. */
export interface Share {
  /** Downloads with the same key count together. */
  readonly key: string
  readonly max: number
}

export interface LiveDownload {
  /** Sending begins. A download that has not started does not give way. */
  started(recipient: Recipient): void
  /** The download is over. Idempotent. */
  end(): void
  /** It was ended for a new download. */
  readonly gaveWay: boolean
}

export type Admission<S extends Share> =
  | { readonly download: LiveDownload }
  | { readonly exceeded: S }

export class LiveDownloads {
  readonly #byKey = new Map<string, Set<Download>>()
  readonly #repeat: (run: () => void) => () => void
  #stopNoting: (() => void) | undefined

  /** `repeat` calls `run` every NOTE_MS until the function that it returns is called. */
  constructor(repeat: (run: () => void) => () => void = everyNote) {
    this.#repeat = repeat
  }

  /** Keys with a download in progress. */
  get keys(): number {
    return this.#byKey.size
  }

  /** Counts a new download towards each of `shares`, or returns the first share that is full and has no slow download. */
  admit<S extends Share>(shares: readonly S[]): Admission<S> {
    const room = this.#roomIn(shares)
    if ('exceeded' in room) return room
    for (const download of room.leaving) download.giveWay()
    return { download: this.#add(shares.map(({ key }) => key)) }
  }

  /** The share that `admit` would return. */
  exceeded<S extends Share>(shares: readonly S[]): S | undefined {
    const room = this.#roomIn(shares)
    return 'exceeded' in room ? room.exceeded : undefined
  }

  /** `leaving` must give way to a new download. */
  #roomIn<S extends Share>(
    shares: readonly S[],
  ): { readonly leaving: ReadonlySet<Download> } | { readonly exceeded: S } {
    const leaving = new Set<Download>()
    for (const share of shares) {
      const live = this.#byKey.get(share.key)
      if (live === undefined) continue
      const staying = live.size - [...leaving].filter((download) => live.has(download)).length
      if (staying < share.max) continue
      // Reads up to APK_MAX_DOWNLOADS counters, far less work than the query that has proven the credential.
      const slowest = findSlowest(live)
      if (slowest === undefined) return { exceeded: share }
      leaving.add(slowest)
    }
    return { leaving }
  }

  #add(keys: readonly string[]): LiveDownload {
    const download = new Download(() => this.#remove(download, keys))
    this.#stopNoting ??= this.#repeat(() => this.#note())
    for (const key of keys) {
      const live = this.#byKey.get(key)
      if (live === undefined) this.#byKey.set(key, new Set([download]))
      else live.add(download)
    }
    return download
  }

  #remove(download: Download, keys: readonly string[]): void {
    for (const key of keys) {
      const live = this.#byKey.get(key)
      if (live?.delete(download) && live.size === 0) this.#byKey.delete(key)
    }
    if (this.#byKey.size > 0) return
    this.#stopNoting?.()
    this.#stopNoting = undefined
  }

  #note(): void {
    const all = new Set<Download>()
    for (const live of this.#byKey.values()) for (const download of live) all.add(download)
    for (const download of all) download.note()
  }
}

class Download implements LiveDownload {
  gaveWay = false
  readonly end: () => void
  #recipient: Recipient | undefined
  /** Bytes that the client had taken, every NOTE_MS for SLOW_MS, oldest first. Restarts when the client waits for us. */
  #notes: number[] = []

  constructor(end: () => void) {
    this.end = end
  }

  started(recipient: Recipient): void {
    this.#recipient = recipient
    this.#notes = [recipient.takenBytes]
  }

  note(): void {
    if (this.#recipient === undefined) return
    if (!this.#recipient.hasUnsent) this.#notes = []
    this.#notes.push(this.#recipient.takenBytes)
    if (this.#notes.length > 1 + SLOW_MS / NOTE_MS) this.#notes.shift()
  }

  /** How many bytes the client is behind MIN_BYTES_PER_S; 0 if it is not slow. */
  get lagBytes(): number {
    const stalledSince = this.#notes.at(-1 - STALLED_MS / NOTE_MS)
    const [first] = this.#notes
    if (first === undefined || stalledSince === undefined || !this.#recipient?.hasUnsent) return 0
    const { takenBytes } = this.#recipient
    const passed = this.#notes.length - 1
    if (passed < SLOW_MS / NOTE_MS && takenBytes > stalledSince) return 0
    return Math.max(0, passed * BYTES_PER_NOTE - (takenBytes - first))
  }

  giveWay(): void {
    this.gaveWay = true
    this.end()
    this.#recipient?.cut()
  }
}

function findSlowest(live: ReadonlySet<Download>): Download | undefined {
  let slowest: Download | undefined
  let mostLagBytes = 0
  for (const download of live) {
    const { lagBytes } = download
    if (lagBytes <= mostLagBytes) continue
    mostLagBytes = lagBytes
    slowest = download
  }
  return slowest
}

function everyNote(run: () => void): () => void {
  const timer = setInterval(run, NOTE_MS).unref()
  return () => clearInterval(timer)
}
