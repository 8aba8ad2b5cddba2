/**
 * Reads HTTP/1.1 responses for the load generator, far cheaper than node:http: with Content-Length, chunked, or until
 * the close.
 */

export interface WireResponse {
  readonly status: number
  /** Retry-After, seconds; null without one. */
  readonly retryAfterS: number | null
  /** May share memory with the pushed bytes. */
  readonly body: Buffer
  /** The server accepts another request on this connection. */
  readonly keepsAlive: boolean
}

interface Head {
  readonly status: number
  readonly retryAfterS: number | null
  readonly keepsAlive: boolean
  /** Of the body; null: chunked, or until the close. */
  readonly bodyBytes: number | null
  readonly isChunked: boolean
}

const HEAD_END = '\r\n\r\n'
const MAX_HEAD_BYTES = 64 * 1024

/** Reads the responses of one connection, one at a time. */
export class ResponseReader {
  #pieces: Buffer[] = []
  #bytes = 0
  #head: Head | undefined

  /** Returns the response once `piece` completes it; drops bytes after it. Throws unless it is HTTP/1.1. */
  push(piece: Buffer): WireResponse | undefined {
    this.#pieces.push(piece)
    this.#bytes += piece.length
    while (this.#head === undefined) {
      const all = this.#joined()
      const end = all.indexOf(HEAD_END)
      if (end === -1) {
        if (all.length > MAX_HEAD_BYTES) throw new Error('an answer without an end of its head')
        return undefined
      }
      const head = readHead(all.toString('latin1', 0, end + 2))
      this.#keep(all.subarray(end + HEAD_END.length))
      if (head.status >= 200) this.#head = head // 1xx: the response follows
    }
    const head = this.#head
    if (head.isChunked) {
      const body = readChunks(this.#joined())
      return body && this.#take(head, body)
    }
    if (head.bodyBytes === null || this.#bytes < head.bodyBytes) return undefined
    return this.#take(head, this.#joined().subarray(0, head.bodyBytes))
  }

  /** Call it when the connection ends: returns a response whose body ends so. */
  end(): WireResponse | undefined {
    const head = this.#head
    if (head === undefined || head.isChunked || head.bodyBytes !== null) return undefined
    return this.#take(head, this.#joined())
  }

  #take({ status, retryAfterS, keepsAlive }: Head, body: Buffer): WireResponse {
    this.#head = undefined
    this.#pieces = []
    this.#bytes = 0
    return { status, retryAfterS, body, keepsAlive }
  }

  #joined(): Buffer {
    const [first] = this.#pieces
    if (first !== undefined && this.#pieces.length === 1) return first
    const all = Buffer.concat(this.#pieces)
    this.#pieces = [all]
    return all
  }

  #keep(rest: Buffer): void {
    this.#pieces = [rest]
    this.#bytes = rest.length
  }
}

/** `text`: status line and header lines, each terminated. */
function readHead(text: string): Head {
  const status = Number(text.slice(9, 12))
  if (!text.startsWith('HTTP/1.') || !Number.isInteger(status) || status < 100) {
    throw new Error(`no HTTP answer: ${text.slice(0, 40)}`)
  }
  const isChunked = /\r\ntransfer-encoding: *chunked\r\n/i.test(text)
  const length = /\r\ncontent-length: *(\d+) *\r\n/i.exec(text)?.[1]
  const hasNoBody = status < 200 || status === 204 || status === 304
  const bodyBytes = hasNoBody ? 0 : length === undefined || isChunked ? null : Number(length)
  const endsWithClose = bodyBytes === null && !isChunked
  const keepsAlive = !endsWithClose && !/\r\nconnection: *close\r\n/i.test(text)
  // Only refusals have one.
  const retryAfter = status < 400 ? undefined : /\r\nretry-after: *(\d+) *\r\n/i.exec(text)?.[1]
  const retryAfterS = retryAfter === undefined ? null : Number(retryAfter)
  return { status, retryAfterS, keepsAlive, bodyBytes, isChunked: isChunked && !hasNoBody }
}

/** undefined: without the last chunk so far. */
function readChunks(bytes: Buffer): Buffer | undefined {
  const chunks: Buffer[] = []
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at)
    if (lineEnd === -1) return undefined
    const sizeBytes = Number.parseInt(bytes.toString('latin1', at, lineEnd), 16)
    if (!(sizeBytes >= 0)) throw new Error('a chunk without its size')
    const start = lineEnd + 2
    if (sizeBytes === 0) {
      const hasEnded = bytes.indexOf(HEAD_END, lineEnd) !== -1 // also the end of trailers
      return hasEnded ? Buffer.concat(chunks) : undefined
    }
    at = start + sizeBytes + 2
    if (bytes.length < at) return undefined
    chunks.push(bytes.subarray(start, start + sizeBytes))
  }
}
