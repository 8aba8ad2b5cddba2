/** Request bodies: JSON up to a limit and within a clock of our own, and uploads that fail by theirs. */
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { AppError } from '../domain/errors.ts'
import { LinkedList, type ListNode } from '../lib/linked-list.ts'
import type { Throttle } from '../lib/throttle.ts'

/** All of a JSON body must arrive within this; http-api.md, data.md (`requestTimeout` is 0 for uploads' sake). */
const JSON_TIMEOUT_MS = 10_000
/** How often late bodies are looked for. */
const SWEEP_MS = 500
/** Of all JSON bodies that are not whole yet: 64 KiB on each of 16,384 connections would be a gigabyte. */
const MAX_HELD_BYTES = 128 * 1024 * 1024
const UPLOAD_IDLE_TIMEOUT_MS = 30_000
const UPLOAD_TIMEOUT_MS = 3_600_000

/** The client left, or broke the connection, before its body was complete. */
export class ClientGoneError extends Error {
  override readonly name = 'ClientGoneError'
}

interface PendingBody {
  /** Infinity: it is over, and given up before long. */
  deadlineAtMs: number
  readonly giveUp: (error: AppError) => void
  heldBytes: number
}

/**
 * The JSON bodies on their way to one server: how long each may take, and how much of them is held. One clock for all: a
 * timer each took a fiftieth of a heartbeat's CPU, and nearly every body is there before the next turn of the event loop.
 */
export class PendingBodies {
  readonly #nowMs: () => number
  readonly #late: Throttle
  readonly #maxHeldBytes: number
  readonly #pending = new LinkedList<PendingBody>()
  #heldBytes = 0
  #sweeper: NodeJS.Timeout | undefined

  /** `nowMs` is monotonic. */
  constructor(nowMs: () => number, late: Throttle, maxHeldBytes = MAX_HELD_BYTES) {
    this.#nowMs = nowMs
    this.#late = late
    this.#maxHeldBytes = maxHeldBytes
  }

  /** Calls `giveUp`, at times more than once, unless it is stopped within JSON_TIMEOUT_MS; answers what stops it. */
  start(giveUp: (error: AppError) => void): ListNode<PendingBody> {
    this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS).unref()
    const deadlineAtMs = this.#nowMs() + JSON_TIMEOUT_MS
    return this.#pending.add({ deadlineAtMs, giveUp, heldBytes: 0 })
  }

  /** One of them holds `heldBytes` now. Over the limit, refuses the one that has taken longest; this one, if that held less. */
  hold({ item }: ListNode<PendingBody>, heldBytes: number): void {
    if (item === undefined) return
    this.#heldBytes += heldBytes - item.heldBytes
    item.heldBytes = heldBytes
    if (this.#heldBytes > this.#maxHeldBytes) this.#pending.first?.giveUp(tooManyBodies())
    if (this.#heldBytes > this.#maxHeldBytes) item.giveUp(tooManyBodies())
  }

  stop(started: ListNode<PendingBody>): void {
    this.#heldBytes -= started.item?.heldBytes ?? 0
    this.#pending.remove(started)
  }

  #sweep(): void {
    const nowMs = this.#nowMs()
    for (const pending of this.#pending) {
      if (pending.deadlineAtMs > nowMs) continue
      pending.deadlineAtMs = Number.POSITIVE_INFINITY
      this.#late.add(() => pending.giveUp(timedOut()))
    }
    if (this.#pending.size > 0) return
    clearInterval(this.#sweeper)
    this.#sweeper = undefined
  }
}

const NO_BYTES = Buffer.alloc(0)
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Refuses by the head alone, before a client that waits for `100 Continue` sends a byte: 413, 415. `maxBytes`
 * undefined: an upload, whose route knows its limit.
 */
export function refuseBody(request: IncomingMessage, maxBytes: number | undefined): void {
  const { headers } = request
  const encoding = headers['content-encoding']
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new AppError('unsupported_media', 'Send the body without content-encoding.')
  }
  if (maxBytes === undefined || !hasBody(request)) return
  if (Number(headers['content-length'] ?? 0) > maxBytes) throw tooLarge(maxBytes)
  const contentType = headers['content-type']
  if (contentType !== undefined && !/^application\/json *(;|$)/i.test(contentType)) {
    throw new AppError('unsupported_media', 'Send the body with content-type: application/json.')
  }
}

/** Whether the head announces a body. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/** Parsed JSON, or undefined where there are no bytes; 400 `bad_json`. */
export function parseJson(bytes: Buffer): unknown {
  if (bytes.length === 0) return undefined
  try {
    return JSON.parse(utf8.decode(bytes))
  } catch (cause) {
    throw new AppError('bad_json', 'The body is not valid JSON in UTF-8.', { cause })
  }
}

/** The whole body; refuses with 408 and 413, and with 503 where too much of too many is held. */
export function readBytes(
  request: IncomingMessage,
  maxBytes: number,
  pending: PendingBodies,
): Promise<Buffer> {
  if (!hasBody(request)) return Promise.resolve(NO_BYTES)
  return hasArrived(request) ? takeArrived(request, maxBytes) : collect(request, maxBytes, pending)
}

/**
 * The body came with its head, as nearly every heartbeat's does. Node runs our microtasks behind the last bytes of a body
 * and before it sets `complete`, so a body of known length is compared with what has been read.
 */
function hasArrived({ complete, headers, readableLength }: IncomingMessage): boolean {
  return complete || Number(headers['content-length']) === readableLength
}

/**
 * Takes a body that is here already: no clock is needed, and one listener. It waits for the end of the request, which Node
 * reaches after our microtasks: a response before that would count the body as unread and close the connection.
 */
async function takeArrived(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const bytes: Buffer = request.read() ?? NO_BYTES // without an encoding it gives buffers
  if (!request.complete) {
    await new Promise((resolve) => request.once('close', resolve).resume())
  }
  if (bytes.length > maxBytes) throw tooLarge(maxBytes)
  return bytes
}

const MIN_CAPACITY_BYTES = 1_024

/** A body that arrives in chunks, in one buffer that doubles: a list of chunks would cost some 300 bytes for each, even of one byte. */
class BodyBuffer {
  #buffer: Buffer = NO_BYTES
  sizeBytes = 0

  /** What it occupies, at most twice its size or MIN_CAPACITY_BYTES. */
  get heldBytes(): number {
    return this.#buffer.length
  }

  /** Keeps the first chunk as it is: most bodies have no second one. */
  add(chunk: Buffer): void {
    const sizeBytes = this.sizeBytes + chunk.length
    if (this.sizeBytes === 0) {
      this.#buffer = chunk
    } else {
      if (sizeBytes > this.#buffer.length) this.#grow(Math.max(MIN_CAPACITY_BYTES, 2 * sizeBytes))
      this.#buffer.set(chunk, this.sizeBytes)
    }
    this.sizeBytes = sizeBytes
  }

  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.sizeBytes)
  }

  forget(): void {
    this.#buffer = NO_BYTES
    this.sizeBytes = 0
  }

  #grow(capacityBytes: number): void {
    const grown = Buffer.allocUnsafeSlow(capacityBytes)
    grown.set(this.bytes)
    this.#buffer = grown
  }
}

/** Settles once; what comes after a refusal is let go. The listeners end with the request. */
function collect(
  request: IncomingMessage,
  maxBytes: number,
  pending: PendingBodies,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const buffer = new BodyBuffer()
    let isSettled = false
    const started = pending.start(fail)
    function settle() {
      isSettled = true
      pending.stop(started)
    }
    function fail(error: Error) {
      if (isSettled) return
      settle()
      buffer.forget()
      reject(error)
    }
    function onClose() {
      // Every request closes: no error is made for those that are over.
      if (!isSettled) fail(new ClientGoneError('the connection closed within the body'))
    }
    request.on('data', (chunk: Buffer) => {
      if (isSettled) return
      if (buffer.sizeBytes + chunk.length > maxBytes) return fail(tooLarge(maxBytes))
      buffer.add(chunk)
      pending.hold(started, buffer.heldBytes)
    })
    request.on('end', () => {
      if (isSettled) return
      settle()
      resolve(buffer.bytes)
    })
    request.on('close', onClose)
    if (request.destroyed) onClose()
  })
}

/**
 * The raw body, taken from the first pull on, which `begin` is told of; fails with 408 after 30 s without a byte or an hour
 * in all, with ClientGoneError where it is cut off. The connection stays whatever becomes of it, since the request is to be
 * answered; what comes behind a reader that has had enough is forgotten.
 */
export function openUpload(
  request: IncomingMessage,
  begin: () => void,
  idleTimeoutMs = UPLOAD_IDLE_TIMEOUT_MS,
): Readable {
  let all: NodeJS.Timeout | undefined
  let idle: NodeJS.Timeout | undefined
  const upload = new Readable({
    read() {
      if (idle === undefined) follow()
      request.resume()
    },
    destroy(error, done) {
      clearTimeout(all)
      clearTimeout(idle)
      request.off('data', take).off('end', end).off('close', end).resume()
      done(error)
    },
  })
  const giveUp = () => void upload.destroy(timedOut())

  function follow() {
    begin()
    all = setTimeout(giveUp, UPLOAD_TIMEOUT_MS)
    // While it is paused the wait is ours, not the client's.
    idle = setTimeout(() => (request.isPaused() ? idle?.refresh() : giveUp()), idleTimeoutMs)
    request.on('data', take).on('end', end).on('close', end)
    if (request.destroyed) end()
  }
  function take(chunk: Buffer) {
    idle?.refresh()
    if (!upload.push(chunk)) request.pause()
  }
  /** Comes twice, for its end and for its close: the first one counts. */
  function end() {
    if (request.readableEnded && request.complete) upload.push(null)
    else upload.destroy(new ClientGoneError('the upload was cut off'))
  }
  return upload.on('error', () => {}) // whoever stopped reading listens no more
}

function tooLarge(maxBytes: number): AppError {
  return new AppError('body_too_large', `The body may have at most ${maxBytes} bytes.`)
}

function tooManyBodies(): AppError {
  return new AppError('overloaded', 'Too many bodies are on their way. Send it again shortly.')
}

function timedOut(): AppError {
  return new AppError('request_timeout', 'The body did not arrive in time. Send it again.')
}
