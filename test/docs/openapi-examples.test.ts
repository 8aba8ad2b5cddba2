/**
 * The examples of openapi.json, played in their order against a real service: each request that stands there is taken,
 * and answered as its example says. What differs from run to run (ids, secrets, times) is told by the story itself: an
 * id of an answer stands for the one in its example from then on.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { resolveRef } from '../helpers/contract.ts'
import { ADMIN, startService } from '../helpers/service.ts'

interface Media {
  readonly example?: unknown
}
interface Operation {
  readonly operationId: string
  readonly security: readonly Readonly<Record<string, unknown>>[]
  readonly parameters: readonly Readonly<Record<string, unknown>>[]
  readonly requestBody?: { readonly content: Readonly<Record<string, Media>> }
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, Media>> }>
  >
}

/** By operationId. What comes later needs what came before: a device its token, a result its command. */
const STORY = [
  'healthz',
  'readyz',
  'createEnrollmentTokens',
  'listEnrollmentTokens',
  'register',
  'setPushToken',
  'publishBuild',
  'listBuilds',
  'sendCommand',
  'heartbeat',
  'actionResult',
  'deviceAck',
  'ack',
  'listCommands',
  'readCommand',
  'listDevices',
  'readDevice',
  'audit',
]

const DOCUMENT = JSON.parse(
  readFileSync(
    fileURLToPath(new URL('openapi.json', import.meta.resolve('#package.json'))),
    'utf8',
  ),
) as { readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>> } // openapi.test.ts checks its form

const operations = Object.entries(DOCUMENT.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, ...operation })),
)
const exampleOf = (media: Media | undefined) => media?.example
const answersOf = ({ responses }: Operation) =>
  Object.entries(responses).flatMap(([status, { content }]) => {
    const example = exampleOf(content?.['application/json'])
    return example === undefined ? [] : [{ status: Number(status), example }]
  })

const VOLATILE = [
  /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  /^(et_|dt_)?[A-Za-z0-9_-]{43}$/,
  /^[0-9a-f]{64}$/,
  /^[\w.-]+:\d+:[0-9a-f]{8}$/, // a replica
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/,
]

/** The example with what was told so far in its place; learns what else of `real` differs by nature. */
function told(example: unknown, real: unknown, known: Map<string, string>): unknown {
  if (typeof example === 'string') {
    const isVolatile = VOLATILE.some((form) => form.test(example) && form.test(String(real)))
    if (isVolatile && !known.has(example)) known.set(example, String(real))
    return known.get(example) ?? example
  }
  if (typeof example !== 'object' || example === null) return example
  const entries = Object.entries(example).map(([name, one]) => [
    name,
    told(one, Reflect.get(Object(real), name), known),
  ])
  return Array.isArray(example) ? entries.map(([, one]) => one) : Object.fromEntries(entries)
}

t.test('each example is part of the story, and each JSON body has one', async (t) => {
  const withBody = operations.filter((one) => one.requestBody?.content['application/json'])
  for (const { operationId, requestBody } of withBody) {
    t.ok(exampleOf(requestBody?.content['application/json']), `${operationId} has an example`)
  }
  const withExample = operations.filter(
    (one) => withBody.includes(one) || answersOf(one).length > 0,
  )
  t.same(withExample.map((one) => one.operationId).toSorted(), STORY.toSorted())
})

t.test('the examples work, in their order', async (t) => {
  const service = await startService(t)
  const known = new Map<string, string>()
  const credentials = new Map([['admin', ADMIN]])
  for (const operationId of STORY) {
    const operation = operations.find((one) => one.operationId === operationId)
    if (operation === undefined) throw new Error(`no operation ${operationId}`)
    const body = exampleOf(operation.requestBody?.content['application/json'])
    const guard = Object.keys(operation.security[0] ?? {})[0]
    const answer = await service.call(operation.method.toUpperCase(), pathOf(operation, known), {
      token: guard === undefined ? null : (credentials.get(guard) ?? null),
      ...(operation.requestBody && (body === undefined ? { raw: makeApk() } : { body })),
    })
    const [expected] = answersOf(operation)
    if (expected === undefined) throw new Error(`${operationId} has no example of an answer`)
    const { status, example } = expected
    t.same(
      { status: answer.status, body: answer.body },
      { status, body: told(example, answer.body, known) },
      operationId,
    )
    if (operationId === 'createEnrollmentTokens')
      credentials.set('enrollment', answer.body.tokens[0].token)
    if (operationId === 'register') credentials.set('device', answer.body.device_token)
  }
})

/** Its parameters by their examples, where they have one. */
function pathOf(operation: Operation & { readonly path: string }, known: Map<string, string>) {
  const query = new URLSearchParams()
  let path = operation.path
  for (const parameter of operation.parameters) {
    const { $ref } = parameter
    const { name, in: where, example } = typeof $ref === 'string' ? resolveRef($ref) : parameter
    if (example === undefined) continue
    const value = known.get(String(example)) ?? String(example)
    if (where === 'path') path = path.replace(`{${name}}`, value)
    if (where === 'query') query.set(String(name), value)
  }
  return query.size === 0 ? path : `${path}?${query}`
}
