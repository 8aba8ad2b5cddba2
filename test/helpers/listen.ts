/** Servers of a test. */
import { Server as HttpServer } from 'node:http'
import type { Server } from 'node:net'
import type { Test } from 'tap'
import { listen } from '../../testkit/listen.ts'

/** Listens on a free port of 127.0.0.1 until the end of `t`; returns the port. */
export function listenFor(t: Test, server: Server): Promise<number> {
  t.teardown(() => {
    server.close()
    if (server instanceof HttpServer) server.closeAllConnections()
  })
  return listen(server)
}
