/** Whether an answer is one that openapi.json describes: its status, headers, media type, body and error code. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Schema, schemaFaults } from './json-schema.ts'

export interface Asked {
  readonly method: string
  /** As it was sent: with its query, and double slashes. */
  readonly path: string
}

export interface Answered {
  readonly status: number
  /** By lower-case name; undefined where there is none. */
  readonly header: (name: string) => string | undefined
  readonly text: string
}

interface Documented {
  readonly $ref?: string
  readonly headers?: Readonly<Record<string, unknown>>
  readonly content?: Readonly<Record<string, { readonly schema?: Schema }>>
}
interface Operation {
  readonly responses: Readonly<Record<string, Documented>>
}

// Checked where it is read: what is missing reads as undefined and is a fault.
const DOCUMENT = JSON.parse(
  readFileSync(
    fileURLToPath(new URL('openapi.json', import.meta.resolve('#package.json'))),
    'utf8',
  ),
) as { readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>> }

const PATHS = Object.entries(DOCUMENT.paths).map(([path, item]) => ({
  item,
  parameters: path.split('{').length,
  pattern: new RegExp(`^${path.replace(/\{\w+\}/g, '[^/]+')}$`),
}))
const PROBLEM: Documented = {
  headers: { 'X-Request-ID': { $ref: '#/components/headers/X-Request-ID' } },
  content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
}

const OTHER_TIME = /"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,5}|\.\d{7,})?Z"/

/** The headers that come with a status, whatever is asked: info.description. */
const ALWAYS: Readonly<Record<number, readonly string[]>> = {
  401: ['www-authenticate'],
  405: ['allow'],
  429: ['retry-after', 'ratelimit-limit', 'ratelimit-remaining', 'ratelimit-reset'],
  503: ['retry-after'],
}

/** What a `$ref` of the document names. */
export function resolveRef(ref: string): Schema {
  const names = ref.replace(/^#\//, '').split('/')
  const found = names.reduce<unknown>((at, name) => Object(at)[name], DOCUMENT)
  if (found === undefined) throw new Error(`openapi.json has no ${ref}`)
  return Object(found)
}

/** Throws where the answer is none that the document describes. */
export function mustBeDocumented(request: Asked, response: Answered): void {
  complain(`${request.method} ${request.path}`, response, answerFaults(request, response))
}

/** The same for an answer to bytes that may be no request at all: an error is a problem, and has its headers. */
export function mustBeProblem(response: Answered): void {
  if (response.status >= 400) complain('bytes', response, faultsOf(PROBLEM, undefined, response))
}

/** Empty where the document describes it. */
export function answerFaults(request: Asked, response: Answered): readonly string[] {
  const { documented, codes } = documentedOf(request, response.status)
  if (documented === undefined) return [`${response.status} is not documented`]
  if (request.method === 'HEAD') return headerFaults(documented, response)
  return [...faultsOf(documented, codes, response), ...timeFaults(request, response)]
}

/** Admins get every time in microseconds, so that one can be compared with another, and with `since`. */
function timeFaults({ path }: Asked, { text }: Answered): readonly string[] {
  const [time] = /^\/(admin\/|v1\/enroll-tokens)/.test(path) ? (OTHER_TIME.exec(text) ?? []) : []
  return time === undefined ? [] : [`${time} is not in microseconds`]
}

function faultsOf(
  documented: Documented,
  codes: readonly string[] | undefined,
  response: Answered,
) {
  return [...headerFaults(documented, response), ...bodyFaults(documented, codes, response)]
}

function complain(about: string, { status, text }: Answered, faults: readonly string[]): void {
  if (faults.length === 0) return
  const why = `${about} answered ${status}, against openapi.json`
  throw new Error(`${why}:\n${faults.join('\n')}\n${text.slice(0, 500)}`)
}

/** The answer's description, and the codes of an error with that status there; undefined: any code. */
function documentedOf(
  { method, path }: Asked,
  status: number,
): {
  readonly documented: Documented | undefined
  readonly codes?: readonly string[]
} {
  const asked = path.replace(/\?.*/s, '')
  const plain = /^\/+v1\//.test(asked) ? asked.replace(/\/+/g, '/') : asked
  const [found] = PATHS.filter(({ pattern }) => pattern.test(plain)).toSorted(
    (a, b) => a.parameters - b.parameters,
  )
  const operation = found?.item[method === 'HEAD' ? 'get' : method.toLowerCase()]
  // These belong to no operation: info.description.
  if (status === 417) return { documented: PROBLEM, codes: ['expectation_failed'] }
  if (operation === undefined) {
    const codes = found === undefined ? ['not_found', 'bad_path'] : ['method_not_allowed']
    return { documented: status < 400 ? undefined : PROBLEM, codes }
  }
  const response = operation.responses[String(status)]
  const ref = response?.$ref
  if (ref === undefined) return { documented: response }
  return { documented: resolveRef(ref), codes: ref.split('/').at(-1)?.split('.') ?? [] }
}

function headerFaults({ headers = {} }: Documented, { status, header }: Answered) {
  const faults = Object.entries(headers).flatMap(([name, given]) => {
    const { $ref, ...own } = Object(given)
    const { required, schema } = $ref === undefined ? own : resolveRef($ref)
    const text = header(name.toLowerCase())
    if (text === undefined) return required === true ? [`no ${name}`] : []
    const isNumber = Object(schema).type === 'integer'
    const value = isNumber ? Number(text) : text
    return schemaFaults(Object(schema), value, resolveRef).map((fault) => `${name}: ${fault}`)
  })
  const always = (ALWAYS[status] ?? []).filter((name) => header(name) === undefined)
  return [...faults, ...always.map((name) => `no ${name}`)]
}

function bodyFaults(
  { content }: Documented,
  codes: readonly string[] | undefined,
  { status, header, text }: Answered,
): readonly string[] {
  if (content === undefined) return text === '' ? [] : ['a body where none is documented']
  const type = (header('content-type') ?? '').replace(/;.*/, '')
  const media = content[type]
  if (media === undefined) return [`content-type ${type} is not documented`]
  if (media.schema === undefined) return []
  if (!type.endsWith('json')) return schemaFaults(media.schema, text, resolveRef)
  const body = JSON.parse(text)
  const faults = [...schemaFaults(media.schema, body, resolveRef)]
  if (!/[}\]]\n$/.test(text)) faults.push('it does not end in one newline')
  if (status < 400) return faults
  if (body.status !== status) faults.push(`its status is ${body.status}`)
  if (codes?.includes(body.code) === false) faults.push(`${body.code} is not documented here`)
  return faults
}
