/** What an attacker can be told to do. Whatever it opens goes to 127.0.0.1, from addresses of 127.0.0.0/8. */

interface Common {
  readonly port: number
  readonly seconds: number
}

/** Requests until their answers stick in the socket, then bytes that are no HTTP, then the close (row 1). */
export interface JunkAssault extends Common {
  readonly kind: 'junk'
  readonly sockets: number
  /** So many of them are filled first, and send a byte each millisecond. */
  readonly fast: number
  /** By turns: what each socket sends first. */
  readonly firsts: readonly string[]
  /** Sends its first so often, and reads nothing. */
  readonly repeats: number
}

/** Bursts of small requests on each socket (rows 2, 3, 12). */
export interface BurstsAssault extends Common {
  readonly kind: 'bursts'
  readonly sockets: number
  readonly burstBytes: number
  /** false: one burst, and not a byte is read. */
  readonly reads: boolean
  /** From the last answer to the next burst. */
  readonly pauseMs: number
}

/** Downloads that take next to nothing, as many as are given (row 4). */
export interface DownloadsAssault extends Common {
  readonly kind: 'downloads'
  readonly tokens: readonly string[]
  /** Tried at once with each token. */
  readonly perToken: number
  /** Third byte of the address 127.1.x.1, a /24 each; tokens take them by turns. */
  readonly subnets: number
}

/** Requests at a fixed rate (rows 5, 7). In `token` and `body` each `*` is 43 random characters of base64url. */
export interface RequestsAssault extends Common {
  readonly kind: 'requests'
  readonly ratePerS: number
  /** By turns. */
  readonly requests: readonly {
    readonly method: 'GET' | 'POST'
    readonly path: string
    readonly token: string
    readonly body?: string
  }[]
}

/** Connections that say nothing, as many as the service lets in, and a few more every second (row 6). */
export interface IdleAssault extends Common {
  readonly kind: 'idle'
  /** At most. */
  readonly sockets: number
  /** Addresses 127.2.x.y that they come from, by turns. */
  readonly addresses: number
}

export type Assault = JunkAssault | BurstsAssault | DownloadsAssault | RequestsAssault | IdleAssault

/** What came of it, by what is counted. */
export type AssaultReport = Readonly<Record<string, number>>

/** 27 bytes, answered with 404. */
export const SMALLEST = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
