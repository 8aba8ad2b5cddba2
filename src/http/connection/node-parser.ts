/** What node:http keeps of a connection, without a public type. */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'

/** Results of llhttp's on_headers_complete: pause here (HPE_PAUSED), read no body, or fail (HPE_CB_HEADERS_COMPLETE). */
export const PAUSE_PARSER = 21
export const SKIP_BODY = 2
export const STOP_PARSER = -1

/** The parser of one connection. */
export interface RequestParser {
  onIncoming: (request: ParsedRequest, shouldKeepAlive: boolean) => number
  execute(bytes: Buffer): unknown
  resume(): void
}

export interface ParsedRequest extends IncomingMessage {
  /** An upgrade or a CONNECT. The parser then reports no error, and Node detaches the socket while this is true. */
  upgrade: boolean
}

/** An error of the parser (http, Event: 'clientError'). */
export interface ParserError extends NodeJS.ErrnoException {
  readonly bytesParsed?: number
  /** A copy of what the parser was given. */
  readonly rawPacket?: Buffer
}

/** The descriptor of a socket. */
export interface SocketHandle {
  /** Bytes of a write that the system has not taken yet. */
  readonly writeQueueSize: number
  readStop(): number
  close(done: () => void): void
  /** Closes with a reset. Returns 0 or an error. */
  reset(done: () => void): number
}

export interface HttpSocket extends Socket {
  /** null once the socket is destroyed. */
  readonly _handle?: SocketHandle | null
  parser?: RequestParser | null
  /** Node waits until the client has read more; its parser asserts that no input arrives meanwhile. */
  _paused?: boolean
}
