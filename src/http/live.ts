/** Sends a response that has no end of its own, at the pace of its client, and cuts off a client that does not read. */
import type { ServerResponse } from 'node:http'
import { sleep } from '../lib/timeouts.ts'
import { reset } from './connection/connections.ts'
import type { LiveReply } from './route.ts'

/** Longest time in which the kernel takes no chunk, because the client does not read: nothing else is buffered for it. */
const CHUNK_TIMEOUT_MS = 10_000

export function sendLive(
  res: ServerResponse,
  reply: LiveReply,
  headers: readonly string[],
  isHead: boolean,
  onDropped: () => void,
): void {
  res.writeHead(reply.status, [...headers, 'content-type', reply.contentType])
  if (isHead) {
    res.end()
    return
  }
  pump(res, reply, onDropped).catch((error: unknown) => {
    onDropped()
    res.destroy(error instanceof Error ? error : new Error(String(error)))
  })
}

async function pump(res: ServerResponse, reply: LiveReply, onDropped: () => void): Promise<void> {
  for await (const chunk of reply.chunks) {
    if (res.destroyed) return
    if (await write(res, chunk)) continue
    onDropped()
    reply.dropped()
    reset(res.req.socket)
    return
  }
  res.end()
}

/** False: the client has not read it in time. */
async function write(res: ServerResponse, chunk: string): Promise<boolean> {
  const over = new AbortController()
  let isTaken = false
  const taken = () => {
    isTaken = true
    over.abort()
  }
  res.on('close', taken)
  res.write(chunk, taken)
  await sleep(CHUNK_TIMEOUT_MS, over.signal)
  res.off('close', taken)
  return isTaken
}
