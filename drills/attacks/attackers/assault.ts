/** Assaults that an attacker can run. All connections go to 127.0.0.1, from addresses of 127.0.0.0/8. */

interface Common {
  readonly port: number
  readonly seconds: number
}

/** Requests until their responses stick in the socket, then bytes that are not HTTP, then a close (row 1). */
export interface JunkAssault extends Common {
  readonly kind: 'junk'
  readonly sockets: number
  /** These are filled first, and send a byte per millisecond. */
  readonly fast: number
  /** What each socket sends first, in rotation. */
  readonly firsts: readonly string[]
  /** How often it sends its first bytes; it reads nothing. */
  readonly repeats: number
}

/** Bursts of small requests, or of one request in small chunks, on each socket (rows 2, 3, 12, 15, 16). */
export interface BurstsAssault extends Common {
  readonly kind: 'bursts'
  readonly sockets: number
  /** What a burst repeats. */
  readonly piece: string
  /** Precedes the pieces, which are chunks of its body; default: each piece is a request. */
  readonly head?: string
  readonly burstBytes: number
  /** false: one burst, and nothing is read. */
  readonly reads: boolean
  /** From the last response to the next burst. */
  readonly pauseMs: number
}

/** As many downloads as are granted, each read very slowly (row 4). */
export interface DownloadsAssault extends Common {
  readonly kind: 'downloads'
  readonly tokens: readonly string[]
  /** Attempts at once per token. */
  readonly perToken: number
  /** Third byte of the address 127.1.x.1, so a /24 each; tokens use them in rotation. */
  readonly subnets: number
}

/** Requests at a fixed rate (rows 5, 7). In `token` and `body` each `*` is 43 random characters of base64url. */
export interface RequestsAssault extends Common {
  readonly kind: 'requests'
  readonly ratePerS: number
  /** Sent in rotation. */
  readonly requests: readonly {
    readonly method: 'GET' | 'POST'
    readonly path: string
    readonly token: string
    readonly body?: string
  }[]
}

/** Silent connections, as many as the service accepts, and a few more every second (row 6). */
export interface IdleAssault extends Common {
  readonly kind: 'idle'
  readonly sockets: number
  /** Source addresses 127.2.x.y, used in rotation. */
  readonly addresses: number
}

export type Assault = JunkAssault | BurstsAssault | DownloadsAssault | RequestsAssault | IdleAssault

/** Counts by name. */
export type AssaultReport = Readonly<Record<string, number>>

/** 27 bytes, for a 404. */
export const SMALLEST = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
