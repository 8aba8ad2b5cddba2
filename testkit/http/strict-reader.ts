/** Reads HTTP/1.1 responses strictly: a malformed one is an error, not a guess. For the load generator see response-reader.ts. */
import { isUtf8 } from 'node:buffer'

export interface StrictResponse {
  readonly status: number
  /** By lower-case name; a repeated header is an error. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: string
}

const HEAD_END = '\r\n\r\n'
const STATUS_LINE = /^HTTP\/1\.1 ([1-5]\d\d) [A-Za-z' -]+$/
const HEADER = /^([A-Za-z0-9-]+): ([\t -~]*)$/
const MAX_HEAD_BYTES = 4_096

/** A response without an end of its own. */
export const isLive = ({ headers }: Pick<StrictResponse, 'headers'>) =>
  headers.get('content-type') === 'text/event-stream'

export class MalformedResponseError extends Error {
  override readonly name = 'MalformedAnswerError'
}

export class StrictReader {
  #rest: Buffer = Buffer.alloc(0)

  /** No bytes of an incomplete response are buffered. */
  get isBetweenAnswers(): boolean {
    return this.#rest.length === 0
  }

  push(bytes: Buffer): void {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
  }

  /** The next response; undefined: incomplete. `isHead`: to a HEAD, so without a body. Of a live one the first chunk. */
  next(isHead: boolean): StrictResponse | undefined {
    const headEnd = this.#rest.indexOf(HEAD_END)
    if (headEnd === -1) {
      if (this.#rest.length > MAX_HEAD_BYTES) throw new MalformedResponseError('a head without end')
      return undefined
    }
    const { status, headers } = readHead(this.#rest.toString('latin1', 0, headEnd))
    const bodyAt = headEnd + HEAD_END.length
    const hasNoBody = isHead || status < 200 || status === 204 || status === 304
    if (!hasNoBody && isLive({ headers })) {
      const chunk = firstChunk(this.#rest.subarray(bodyAt), headers)
      if (chunk === undefined) return undefined
      this.#rest = Buffer.alloc(0)
      return { status, headers, body: chunk }
    }
    const sizeBytes = hasNoBody ? 0 : lengthOf(status, headers)
    if (this.#rest.length < bodyAt + sizeBytes) return undefined
    const bytes = this.#rest.subarray(bodyAt, bodyAt + sizeBytes)
    const isText = /json|^text/.test(headers.get('content-type') ?? '')
    if (isText && !isUtf8(bytes)) throw new MalformedResponseError(`${status} is no UTF-8`)
    const body = bytes.toString('utf8')
    this.#rest = this.#rest.subarray(bodyAt + sizeBytes)
    return { status, headers, body }
  }
}

function readHead(text: string): Pick<StrictResponse, 'status' | 'headers'> {
  const [first = '', ...lines] = text.split('\r\n')
  const status = Number(STATUS_LINE.exec(first)?.[1])
  if (Number.isNaN(status)) throw new MalformedResponseError(`status line ${JSON.stringify(first)}`)
  const headers = new Map<string, string>()
  for (const line of lines) {
    const [, name = '', value = ''] = HEADER.exec(line) ?? []
    if (name === '') throw new MalformedResponseError(`header line ${JSON.stringify(line)}`)
    if (headers.has(name.toLowerCase())) throw new MalformedResponseError(`${name} stands twice`)
    headers.set(name.toLowerCase(), value)
  }
  return { status, headers }
}

/** undefined: incomplete. */
function firstChunk(bytes: Buffer, headers: ReadonlyMap<string, string>): string | undefined {
  if (headers.get('transfer-encoding') !== 'chunked') {
    throw new MalformedResponseError('a stream without chunks')
  }
  const [line, size = ''] = /^([0-9a-f]+)\r\n/.exec(bytes.toString('latin1')) ?? []
  if (line === undefined) return undefined
  const end = line.length + Number.parseInt(size, 16)
  return bytes.length < end + 2 ? undefined : bytes.toString('utf8', line.length, end)
}

function lengthOf(status: number, headers: ReadonlyMap<string, string>): number {
  const length = headers.get('content-length')
  if (length === undefined || !/^\d+$/.test(length)) {
    throw new MalformedResponseError(`${status} with content-length ${length}`)
  }
  return Number(length)
}
