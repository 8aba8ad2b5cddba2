/** Request bodies: JSON within a size and a time, and uploads with timeouts of their own. */
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { AppError } from '../../domain/errors.ts'
import { LinkedList, type ListNode } from '../../lib/linked-list.ts'
import type { Throttle } from '../../lib/throttle.ts'
import { BodyBuffer } from './body-buffer.ts'

/** A whole JSON body must arrive within this. Node's `requestTimeout` is 0 because of uploads. */
const JSON_TIMEOUT_MS = 10_000
/** How often late bodies are refused. */
const SWEEP_MS = 500
/** Total size of incomplete JSON bodies: 64 KiB on each of 16,384 connections would be a gigabyte. */
const MAX_HELD_BYTES = 128 * 1024 * 1024
const UPLOAD_IDLE_TIMEOUT_MS = 30_000
const UPLOAD_TIMEOUT_MS = 3_600_000

/** The client left, or broke the connection, before its body was complete. */
export class ClientGoneError extends Error {
  override readonly name = 'ClientGoneError'
}

interface PendingBody {
  /** Infinity: the deadline has passed, and `giveUp` is queued. */
  deadlineAtMs: number
  readonly giveUp: (error: AppError) => void
  heldBytes: number
}

/**
 * The incomplete JSON bodies of one server: limits their time and their total size. All share one timer: a timer each took
 * 2 % of a heartbeat's CPU, and nearly every body is complete before the next turn of the event loop.
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

  /** Calls `giveUp`, possibly more than once, unless `stop` is called within JSON_TIMEOUT_MS. */
  start(giveUp: (error: AppError) => void): ListNode<PendingBody> {
    this.#sweeper ??= setInterval(() => this.#sweep(), SWEEP_MS).unref()
    const deadlineAtMs = this.#nowMs() + JSON_TIMEOUT_MS
    return this.#pending.add({ deadlineAtMs, giveUp, heldBytes: 0 })
  }

  /** Records the size of a body. Over the limit, refuses the oldest pending body, then this one if that was not enough. */
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
 * Refuses a body by the request's head (413, 415), before a client that waits for `100 Continue` sends a byte. `maxBytes`
 * undefined: an upload, whose route has its own limit.
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

/** The head announces a body, and not all of it has been read. */
export function hasUnreadBody(request: IncomingMessage): boolean {
  return !request.complete && hasBody(request)
}

/**
 * The response is out: ends the reader of the body, which would wait for bytes that are not read any more. Node's own
 * `destroy` would close the socket under the response.
 */
export function abandonBody(request: IncomingMessage): void {
  if (!hasUnreadBody(request)) return
  request._destroy = (error, done) => done(error)
  request.destroy()
}

/** Parsed JSON, or undefined without bytes. Throws 400 `bad_json`. */
export function parseJson(bytes: Buffer): unknown {
  if (bytes.length === 0) return undefined
  try {
    return JSON.parse(utf8.decode(bytes))
  } catch (cause) {
    throw new AppError('bad_json', 'The body is not valid JSON in UTF-8.', { cause })
  }
}

/** Reads the whole body. Rejects with 408, 413, and 503 if too many incomplete bodies are held. */
export function readBytes(
  request: IncomingMessage,
  maxBytes: number,
  pending: PendingBodies,
): Promise<Buffer> {
  if (!hasBody(request)) return Promise.resolve(NO_BYTES)
  return hasArrived(request) ? takeArrived(request, maxBytes) : collect(request, maxBytes, pending)
}

/**
 * Whether the body came together with the head, as nearly every heartbeat's does. Our microtasks run after Node has read the
 * last bytes of a body, but before it sets `complete`; so a known length is compared with the bytes read.
 */
function hasArrived({ complete, headers, readableLength }: IncomingMessage): boolean {
  return complete || Number(headers['content-length']) === readableLength
}

/**
 * Takes a body that has arrived, without a timer and with one listener. Waits for the end of the request, which Node reaches
 * after our microtasks: a response before it would treat the body as unread and close the connection.
 */
async function takeArrived(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const bytes: Buffer = request.read() ?? NO_BYTES // a Buffer, as no encoding is set
  if (!request.complete) {
    await new Promise((resolve) => request.once('close', resolve).resume())
  }
  if (bytes.length > maxBytes) throw tooLarge(maxBytes)
  return bytes
}

/** Collects a body in chunks. Settles once, and drops chunks after a refusal. The listeners end with the request. */
function collect(
  request: IncomingMessage,
  maxBytes: number,
  pending: PendingBodies,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const buffer = new BodyBuffer(maxBytes)
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
      // Every request emits `close`: an error is made only for an incomplete body.
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
 * The raw body. The first read calls `begin`. Fails with 408 after 30 s without a byte or after an hour in all, and with
 * ClientGoneError if it is cut off. Once the reader stops, no further byte is read; the connection stays open for the response.
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
      request.off('data', take).off('end', end).off('close', end).pause()
      done(error)
    },
  })
  const giveUp = () => void upload.destroy(timedOut())

  function follow() {
    begin()
    all = setTimeout(giveUp, UPLOAD_TIMEOUT_MS)
    // While the request is paused, the client is not at fault.
    idle = setTimeout(() => (request.isPaused() ? idle?.refresh() : giveUp()), idleTimeoutMs)
    request.on('data', take).on('end', end).on('close', end)
    if (request.destroyed) end()
  }
  function take(chunk: Buffer) {
    idle?.refresh()
    if (!upload.push(chunk)) request.pause()
  }
  /** Called for `end` and for `close`; the first call counts. */
  function end() {
    if (request.readableEnded && request.complete) upload.push(null)
    else upload.destroy(new ClientGoneError('the upload was cut off'))
  }
  return upload.on('error', () => {}) // a reader that has stopped listens no more
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
