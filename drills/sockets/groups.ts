/** The groups of sockets in R9, and what they send. */

import type { Sender } from '../shared/heartbeat-load.ts'
import type { HostileGroup } from './hostile.ts'
import type { SocketsRun } from './run.ts'

type Counts = Pick<SocketsRun, 'slow' | 'half' | 'readers' | 'aborts'>

export function wavesOf(
  { slow, half }: Counts,
  senders: readonly Sender[],
): readonly HostileGroup[] {
  return [
    {
      name: 'slow',
      count: slow,
      firsts: ['POST /v1/heartbeat HTTP/1.1\r\nHost: drill\r\nX-Slow: '],
      goesOn: 'write a byte',
    },
    {
      name: 'half-body',
      count: half,
      firsts: senders.map(
        ({ token }) =>
          `POST /v1/heartbeat HTTP/1.1\r\nHost: drill\r\nAuthorization: Bearer ${token}\r\nContent-Length: 100\r\n\r\n{"status":"ok"`,
      ),
      goesOn: 'nothing',
    },
  ]
}

const downloads = (senders: readonly Sender[]) =>
  senders.map(
    ({ token }) =>
      `GET /v1/apk/download-latest HTTP/1.1\r\nHost: drill\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  )

/** Half of the downloads that may run at once by default: the service hears of a reset a little later. */
const MOST_OPEN = 128

export function abortsOf({ aborts }: Counts, senders: readonly Sender[]): readonly HostileGroup[] {
  const firsts = downloads(senders)
  return [{ name: 'aborted', count: aborts, firsts, goesOn: 'reset', mostOpen: MOST_OPEN }]
}

export function readersOf(
  { readers }: Counts,
  senders: readonly Sender[],
): readonly HostileGroup[] {
  return [
    { name: 'slow-reader', count: readers, firsts: downloads(senders), goesOn: 'read a byte' },
    {
      name: 'idle',
      count: readers,
      firsts: ['GET /healthz HTTP/1.1\r\nHost: drill\r\n\r\n'],
      goesOn: 'write a line',
    },
  ]
}
