/**
 * Admin routes refuse unknown names before their handler runs: a mistyped filter would select the whole fleet, a mistyped
 * option would be ignored silently. The route table lists the known names in `takes`.
 */
import { AppError, invalidField } from '../domain/errors.ts'
import { nearest } from '../lib/nearest.ts'
import { hasBody, type PendingBodies, readBytes } from './body/body.ts'
import type { Exchange } from './exchange.ts'
import { isObject } from './fields.ts'
import type { HandlerRequest } from './request.ts'
import type { AdminRoute } from './route.ts'

/** Longest name that an error message repeats. */
const LETTERS_SHOWN = 64

/**
 * Throws 422 `invalid_field` for an unknown name, one that is given twice, a value that is not UTF-8, and a body that the
 * route does not take.
 */
export async function refuseUnknown(
  route: AdminRoute,
  request: HandlerRequest,
  exchange: Exchange,
  pending: PendingBodies,
): Promise<void> {
  const { takes } = route
  if (takes === 'anything') return
  const { query, fields } = takes
  refuseQuery(request.search, query, fields)
  const { body, bytes } = request
  if (isObject(body)) refuseFields(Object.keys(body), bytes, fields, query)
  if (route.body === 0) await refuseBytes(exchange, pending, query)
}

function refuseQuery(search: string, known: readonly string[], fields: readonly string[]): void {
  if (search === '') return
  const unclear = search.split('&').find((pair) => pair.includes(';'))
  if (unclear !== undefined) {
    const [name = ''] = new URLSearchParams(unclear).keys()
    throw refusal(name, 'holds a semicolon: separate parameters with &, write a semicolon as %3B')
  }
  const seen = new Set<string>()
  for (const [name, value] of new URLSearchParams(search)) {
    if (!known.includes(name)) {
      throw refusal(name, `is no query parameter here. ${hint(name, known, fields, 'the body')}`)
    }
    if (seen.has(name)) throw refusal(name, 'is given twice. Send it once')
    seen.add(name)
    // URLSearchParams puts U+FFFD where the bytes are no UTF-8, and a selection by such a text finds the wrong devices.
    if (value.includes('\uFFFD') && !/%ef%bf%bd/i.test(search)) {
      throw refusal(name, 'is not UTF-8: percent-encode the bytes that it has in UTF-8')
    }
  }
}

function refuseFields(
  names: readonly string[],
  bytes: Buffer,
  known: readonly string[],
  query: readonly string[],
): void {
  for (const name of names) {
    if (known.includes(name)) continue
    throw refusal(name, `is no field of the body. ${hint(name, known, query, 'the query')}`)
  }
  const repeated = repeatedName(bytes.toString())
  if (repeated !== undefined) throw refusal(repeated, 'is given twice. Send it once')
}

/** Accepts an empty body: some proxies announce one. */
async function refuseBytes(
  { request, awaitsContinue }: Exchange,
  pending: PendingBodies,
  query: readonly string[],
): Promise<void> {
  if (!hasBody(request)) return
  const where = query.length === 0 ? '' : `; in the query go ${query.join(', ')}`
  const notTaken = refusal('body', `is not taken here: send none${where}`)
  if (awaitsContinue || request.headers['content-length'] !== undefined) throw notTaken
  try {
    await readBytes(request, 0, pending)
  } catch (error) {
    throw error instanceof AppError && error.code === 'body_too_large' ? notTaken : error
  }
}

/** Suggests a known name, or where the name goes; `elsewhere` are the names that the other half of the request takes. */
export function hint(
  name: string,
  known: readonly string[],
  elsewhere: readonly string[] = [],
  where = '',
): string {
  if (elsewhere.includes(name)) return `It goes into ${where}`
  const meant = nearest(name, known)
  if (meant !== undefined) return `Did you mean ${meant}?`
  return known.length === 0 ? 'None is taken' : `Known are ${known.join(', ')}`
}

function refusal(name: string, message: string): AppError {
  return invalidField(name.slice(0, LETTERS_SHOWN) || '(empty)', message)
}

const STRING_OR_SIGN = /"(?:[^"\\]+|\\.)*"|[{}:]/g

/**
 * The first name that an object of valid JSON has twice, with the path to it: `params.seconds`. JSON.parse keeps the last
 * value, and a proxy may have read the first.
 */
export function repeatedName(json: string): string | undefined {
  /** The open objects, outermost first: their names so far and the latest one. */
  const open: { readonly names: Set<string>; latest: string }[] = []
  let text = ''
  for (const [token] of json.matchAll(STRING_OR_SIGN)) {
    const object = open.at(-1)
    if (token === '{') open.push({ names: new Set(), latest: '' })
    else if (token === '}') open.pop()
    else if (token !== ':') text = token
    else if (object !== undefined) {
      object.latest = JSON.parse(text)
      if (object.names.has(object.latest)) return open.map(({ latest }) => latest).join('.')
      object.names.add(object.latest)
    }
  }
  return undefined
}
