/** Records exchanges over HTTP. */
import type { HttpRequest, HttpResponse, Send } from '../../testkit/http/client.ts'
import { WatchedList } from '../../testkit/watched-list.ts'

export interface Exchange {
  readonly request: HttpRequest
  readonly answer: HttpResponse
}

export interface Recorder {
  readonly send: Send
  /** Exchanges since the last call. */
  take(): readonly Exchange[]
  /** The first exchange with this path, past or to come. */
  waitFor(path: string, timeoutMs: number): Promise<Exchange>
}

export function createRecorder(send: Send): Recorder {
  const exchanges = new WatchedList<Exchange>()
  let taken = 0
  return {
    async send(request) {
      const response = await send(request)
      exchanges.add({ request, answer: response })
      return response
    },
    take() {
      const fresh = exchanges.items.slice(taken)
      taken = exchanges.items.length
      return fresh
    },
    waitFor: (path, timeoutMs) =>
      exchanges.waitFor(({ request }) => request.path === path, `an answer to ${path}`, timeoutMs),
  }
}
