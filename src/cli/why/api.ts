/** Reads the admin API: one GET at a time, with a sentence for each failure. */

/** Timeout of one request, milliseconds. */
const TIMEOUT_MS = 10_000
/** The form of an alias. Other names are not looked up as one. */
export const ALIAS = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const CONTROL = /[\p{Cc}\p{Cf}\u2028\u2029]/gu

/** Its message is complete for the reader. */
export class ApiError extends Error {
  override readonly name = 'ApiError'
}

export interface Api {
  /** The JSON of a path, as openapi.json describes it; undefined for 404. Throws ApiError for anything else. */
  get<T>(path: string): Promise<T | undefined>
  /** The service's clock at its latest response. */
  now(): Date
}

interface Problem {
  readonly code?: string
  readonly detail?: string
  readonly request_id?: string
  readonly reasons?: Readonly<Record<string, string>>
}

export function createApi(options: { readonly url: string; readonly token: string }): Api {
  const { origin } = new URL(options.url)
  let now = new Date()
  const foreignResponse = (response: string) =>
    new ApiError(`${origin} gives no answer of ours: ${plain(response)}. FLEETLOOP_URL?`)

  async function ask(path: string): Promise<{ readonly status: number; readonly body: unknown }> {
    try {
      const response = await fetch(origin + path, {
        headers: { authorization: `Bearer ${options.token}` },
        signal: AbortSignal.timeout(TIMEOUT_MS),
        redirect: 'error',
      })
      now = new Date(response.headers.get('date') ?? Date.now())
      return { status: response.status, body: await response.json() }
    } catch (error) {
      throw foreignResponse(reasonOf(error))
    }
  }

  return {
    now: () => now,

    async get<T>(path: string) {
      const { status, body } = await ask(path)
      if (status === 200) return body as T // openapi.json of the same release guarantees the form
      const problem: Problem = Object(body)
      if (problem.code === undefined) throw foreignResponse(`${status}`)
      if (status === 404) return undefined
      const about = plain(`${origin} answers ${status} ${problem.code}: ${problem.detail}`)
      if (status !== 503) throw new ApiError(status === 401 ? `${about} FLEETLOOP_TOKEN?` : about)
      const ready = await ask('/readyz')
      throw new ApiError(about + (ready.status === 200 ? ofThisCall(problem) : ofAll(ready.body)))
    },
  }
}

/** No request is served. */
function ofAll(readiness: unknown): string {
  const { reasons = {} }: Problem = Object(readiness)
  const lines = Object.entries(reasons).map(
    ([part, reason]) => `\n  ${plain(`${part}: ${reason}`)}`,
  )
  return ` Phones are told the same.${lines.join('')}`
}

/** The service is ready, but this call found no connection or its statement took too long. Only the log names it. */
function ofThisCall({ request_id = '' }: Problem): string {
  const filter = `select(.request_id == "${plain(request_id)}") | {statement, cause}`
  return ` The database is there (/readyz is 200), others are served.\n  what kept it: jq -c '${filter}' "$LOG"`
}

/** Makes text from a device or an admin safe for a terminal. */
export function plain(text: string): string {
  return text.replace(CONTROL, ' ')
}

/** fetch only says `fetch failed`; the reason is in its cause, or in the cause's first error. */
function reasonOf(error: unknown): string {
  const { name, message, cause } = Object(error)
  if (name === 'TimeoutError') return `none within ${TIMEOUT_MS / 1_000} s`
  const { code, errors, message: reason } = Object(cause)
  const [first] = Array.isArray(errors) ? errors : []
  return String(code ?? Object(first).code ?? (reason || message || error))
}
