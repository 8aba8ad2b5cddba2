/** Writes a Reply or a Problem: the headers of every response, and bodies as fast as the client reads. */
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Recipient } from '../domain/recipient.ts'
import { subnetOfClient } from '../lib/subnet.ts'
import { escapeUnsafe } from '../lib/text.ts'
import type { Throttle } from '../lib/throttle.ts'
import { accepted, reset } from './connection/connections.ts'
import type { LargeResponses } from './connection/large-responses.ts'
import { PROBLEM_CONTENT_TYPE, type Problem } from './errors.ts'
import { sendLive } from './live.ts'
import type { Reply, StreamReply } from './route.ts'

export interface ResponseOptions {
  readonly requestId: string
  /** The connection ends after this response: the service stops, or a body was left unread. */
  readonly closesConnection: boolean
  readonly isHead: boolean
}

export function sendProblem(res: ServerResponse, problem: Problem, options: ResponseOptions): void {
  const text = jsonText(problem.body)
  sendText(res, problem.status, PROBLEM_CONTENT_TYPE, text, problem.headers, options)
}

/** Turns of the event loop for the chunks of all downloads: the system takes 0.2 to 0.4 ms for one of 256 KiB. */
export interface ChunkTurns {
  /** For the first FIRST_BYTES of each download. */
  readonly first: Throttle
  readonly later: Throttle
}

/** A client that has taken more than this does read: the system takes up to 2.6 MB for one that does not. */
const FIRST_BYTES = 4 * 1024 * 1024

/** How the chunks of a stream are sent, and long texts. */
export interface ChunkOptions {
  readonly turns: ChunkTurns
  /** The client's, whose subnet decides when it is its turn. */
  readonly ip: string | null
  /** Called for every chunk that is handed to the socket. */
  readonly onBytes: (sizeBytes: number) => void
  /** Called if a live response is cut off because its client does not read it. */
  readonly onDropped: () => void
  readonly large: LargeResponses
}

/** Starts the response. */
export function sendReply(
  res: ServerResponse,
  reply: Reply,
  options: ResponseOptions,
  chunks: ChunkOptions,
): void {
  switch (reply.kind) {
    case 'json': {
      const text = jsonText(reply.body)
      sendText(res, reply.status, 'application/json', text, reply.headers, options)
      chunks.large.add(res, text.length)
      return
    }
    case 'text':
      sendText(res, reply.status, reply.contentType, reply.text, reply.headers, options)
      chunks.large.add(res, reply.text.length)
      return
    case 'empty':
      res.writeHead(reply.status, headersOf(options, reply.headers)).end()
      return
    case 'stream':
      sendStream(res, reply, options, chunks)
      return
    case 'live':
      sendLive(res, reply, headersOf(options, reply.headers), options.isHead, chunks.onDropped)
  }
}

/**
 * The text of every JSON body. It ends in a newline, so that a shell's prompt starts on its own line. Characters that are
 * unsafe in a terminal are escaped: older rows and text of the caller may hold some.
 */
export function jsonText(body: unknown): string {
  return `${escapeUnsafe(JSON.stringify(body))}\n`
}

function sendText(
  res: ServerResponse,
  status: number,
  contentType: string,
  text: string,
  headers: Readonly<Record<string, string>> | undefined,
  options: ResponseOptions,
): void {
  const all = headersOf(options, headers)
  all.push('content-type', contentType, 'content-length', String(Buffer.byteLength(text)))
  res.writeHead(status, all)
  res.end(text)
}

function sendStream(
  res: ServerResponse,
  reply: StreamReply,
  options: ResponseOptions,
  chunks: ChunkOptions,
): void {
  const headers = headersOf(options, reply.headers)
  if (reply.sizeBytes !== null) headers.push('content-length', String(reply.sizeBytes))
  res.writeHead(reply.status, headers)
  if (reply.stream === null || !reply.sizeBytes || options.isHead) {
    res.end()
    return
  }
  reply.started?.(recipientOn(res.req.socket))
  pump(reply.stream, reply.sizeBytes, res, chunks).catch((error: unknown) => {
    // The head is out, so only a broken connection can report the failure.
    res.destroy(error instanceof Error ? error : new Error(String(error)))
  })
}

/** While a response waits behind another one on its connection, this counts the bytes of that one. */
function recipientOn(socket: Socket): Recipient {
  return {
    get takenBytes() {
      return accepted(socket)
    },
    get hasUnsent() {
      return socket.writableLength > 0
    },
    cut: () => reset(socket),
  }
}

async function pump(
  stream: AsyncIterable<Uint8Array>,
  sizeBytes: number,
  res: ServerResponse,
  { turns, ip, onBytes }: ChunkOptions,
): Promise<void> {
  const subnet = subnetOfClient(ip)
  let leftBytes = sizeBytes
  for await (const chunk of stream) {
    const isFirst = sizeBytes - leftBytes < FIRST_BYTES
    await (isFirst ? turns.first : turns.later).turn(() => res.destroyed, subnet)
    if (res.destroyed) return
    leftBytes -= chunk.length
    onBytes(chunk.length)
    if (leftBytes === 0) {
      // In one call: a client may leave at once with the last byte, and has received the whole response.
      res.end(chunk)
      return
    }
    await write(res, chunk)
  }
  throw new Error(`the body ended ${leftBytes} bytes too early`)
}

/** Resolves once the kernel has the chunk or the response is closed: only then may its memory be reused. */
function write(res: ServerResponse, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    function done() {
      res.off('close', done)
      resolve()
    }
    res.on('close', done)
    res.write(chunk, done)
  })
}

/** Names and values in turn, the cheapest form for writeHead: those of every response, then its own. */
function headersOf(
  options: ResponseOptions,
  own: Readonly<Record<string, string>> | undefined,
): string[] {
  const headers = [
    'x-request-id',
    options.requestId,
    'cache-control',
    'no-store',
    'x-content-type-options',
    'nosniff',
  ]
  if (options.closesConnection) headers.push('connection', 'close')
  for (const name in own) headers.push(name, own[name] ?? '')
  return headers
}
