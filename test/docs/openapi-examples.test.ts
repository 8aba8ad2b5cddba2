/**
 * openapi.json against a real service. Its examples, played in their order: each request in it is taken, and
 * answered as its example says. What differs from run to run (ids, secrets, times) comes from the story itself: an id of
 * an answer stands for the one in its example from then on. And its bounds: a value on one is taken, one beyond it is not.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { makeApk } from '../../sim/apk.ts'
import { until } from '../../testkit/until.ts'
import { resolveRef } from '../helpers/contract.ts'
import type { Schema } from '../helpers/json-schema.ts'
import { ADMIN, startService } from '../helpers/service.ts'
import { STORY } from './openapi-story.ts'

interface Media {
  readonly example?: unknown
  readonly schema?: Schema
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

/** As the examples have it. */
const APK = makeApk({ versionCode: 42, versionName: '1.7' })

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

/** The example with the known values in their place; learns the other values of `real` differs by nature. */
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
    const response = await service.call(operation.method.toUpperCase(), pathOf(operation, known), {
      token: guard === undefined ? null : (credentials.get(guard) ?? null),
      ...(operation.requestBody && (body === undefined ? { raw: APK } : { body })),
    })
    const [expected] = answersOf(operation)
    if (expected === undefined) throw new Error(`${operationId} has no example of an answer`)
    const { status, example } = expected
    t.same(
      { status: response.status, body: response.body },
      { status, body: told(example, response.body, known) },
      operationId,
    )
    if (operationId === 'createEnrollmentTokens')
      credentials.set('enrollment', response.body.tokens[0].token)
    if (operationId === 'register') credentials.set('device', response.body.device_token)
    if (operationId === 'createJob') {
      const path = `/admin/jobs/${response.body.job_id}`
      await until(async () => (await service.call('GET', path)).body.released === 1, 'its release')
    }
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

/** A value that a request may name, and what the document says of it. */
interface Named {
  readonly where: 'query' | 'header' | 'body'
  readonly name: string
  readonly schema: Schema
}

const resolved = (one: unknown): Schema => {
  const { $ref } = Object(one)
  return typeof $ref === 'string' ? resolveRef($ref) : Object(one)
}
const JSON_TYPE = 'application/json'

function namesOf({ parameters, requestBody }: Operation): readonly Named[] {
  const asked = parameters.map(resolved).flatMap(({ in: where, name, schema }): Named[] => {
    if (where !== 'query' && where !== 'header') return []
    return [{ where, name: String(name), schema: resolved(schema) }]
  })
  const { properties } = resolved(requestBody?.content[JSON_TYPE]?.schema)
  const fields = Object.entries(Object(properties)).map(
    ([name, schema]): Named => ({ where: 'body', name, schema: resolved(schema) }),
  )
  return [...asked, ...fields]
}

/** Lengths of text that are tried against a pattern. */
const LENGTHS = Array.from({ length: 300 }, (_, length) => length)

/** What lies on the bounds of a schema, and just beyond them; nothing where it has none. */
function edgesOf(schema: Schema) {
  const { minimum, maximum, minItems, maxItems, minLength, maxLength, pattern } = schema
  const edges = (least: unknown, most: unknown, make: (size: bigint) => unknown) => {
    const sizes = [least, most].map((size) =>
      size === undefined ? undefined : BigInt(String(size)),
    )
    const [low, high] = sizes
    const within = sizes.filter((size) => size !== undefined)
    const beyond = [low !== undefined && low - 1n, high !== undefined && high + 1n]
    return {
      within: within.map(make),
      beyond: beyond.filter((size) => size !== false).map(make),
    }
  }
  const text = (size: bigint) => 'a'.repeat(Number(size))
  if (pattern !== undefined) {
    const fits = LENGTHS.filter((length) => new RegExp(String(pattern)).test('a'.repeat(length)))
    return edges(fits[0] || undefined, fits.at(-1), text) // nothing is shorter than empty
  }
  if (minLength !== undefined || maxLength !== undefined) return edges(minLength, maxLength, text)
  if (maxItems !== undefined) {
    return edges(minItems, maxItems, (size) => Array(Number(size)).fill(null))
  }
  return edges(minimum, maximum, (size) => size)
}

/** Of each operation with a bound: what else its request must say. */
const BESIDE: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  createEnrollmentTokens: { aliases: [null] },
  listEnrollmentTokens: {},
  register: {},
  setPushToken: { fcm_token: 'push-edge' },
  setPushId: { fcm_token: 'push-edge' },
  heartbeat: {},
  actionResult: { outcome: 'success' },
  deviceAck: { outcome: 'success' },
  ack: { outcome: 'success' },
  downloadLatest: {},
  sendCommand: { alias: 'edge', action: 'ping' },
  createCommand: { alias: 'edge', action: 'ping' },
  listCommands: {},
  readCommand: {},
  listDevices: {},
  readHeartbeats: {},
  createJob: { where: '', action: 'ping', dry_run: true },
  listJobs: {},
  readJob: {},
  listMembers: {},
  labelSelection: { where: '', labels: { a: '1' }, dry_run: true },
  publishBuild: {},
  listBuilds: {},
  audit: {},
  readEvents: {},
}
/** Replaced where something else is meant; of those who sign; read of a ping's answer only; told as request_id; a grammar. */
const LEFT_OUT = ['X-Request-ID', 'X-Signature', 'ping_request_id', 'correlation_id', 'where']

t.test('what lies on a bound of the document is taken, what lies beyond is refused', async (t) => {
  const service = await startService(t, {
    env: { COMMAND_ACTIONS: `ping,a,${'a'.repeat(64)}`, RATE_LIMIT_TOKENS_PER_HOUR: '10000' },
  })
  const { deviceId, token } = await service.enroll('edge')
  const unbound = { aliases: [null], uses_allowed: 1_000 }
  const issued = await service.call('POST', '/v1/enroll-tokens', { body: unbound })
  const credentials: Readonly<Record<string, string>> = {
    admin: ADMIN,
    device: token,
    enrollment: issued.body.tokens[0].token,
  }
  const raw = APK
  const ids: Readonly<Record<string, string>> = { device_id: deviceId, request_id: 'none' }

  /** Whether this value was. */
  async function isRefused(operation: (typeof operations)[number], named: Named, value: unknown) {
    const { operationId, method, requestBody } = operation
    const isJson = requestBody?.content[JSON_TYPE] !== undefined
    const said = {
      query: isJson ? {} : { ...BESIDE[operationId] },
      header: {},
      body: isJson ? { ...BESIDE[operationId] } : {},
    }
    const isNumber = named.where === 'body' && typeof value === 'bigint'
    Object.assign(said[named.where], { [named.name]: isNumber ? Number(value) : value })
    const path = operation.path.replace(/{(\w+)}/g, (_, name) => ids[name] ?? 'edge')
    const query = new URLSearchParams()
    for (const [name, one] of Object.entries(said.query)) query.set(name, String(one))
    const guard = Object.keys(operation.security[0] ?? {})[0] ?? ''
    const response = await service.call(method.toUpperCase(), `${path}?${query}`, {
      token: credentials[guard] ?? null,
      headers: said.header,
      ...(requestBody && (isJson ? { body: said.body } : { raw })),
    })
    const { status, body } = response
    t.ok(status < 500, `${operationId} ${named.name}: ${status}`)
    const isNamed = body?.errors?.[0].field === named.name.toLowerCase()
    const isIgnored = body?.ignored?.includes(named.name) === true
    return (status === 422 && body.code === 'invalid_field' && isNamed) || isIgnored
  }

  const tried: Record<string, number> = {}
  for (const operation of operations) {
    for (const named of namesOf(operation)) {
      const { within, beyond } = edgesOf(named.schema)
      if (LEFT_OUT.includes(named.name) || within.length === 0) continue
      const { operationId } = operation
      tried[operationId] = (tried[operationId] ?? 0) + 1
      const title = `${operationId}: ${named.name}`
      const shown = (value: unknown) => `${title}, ${String(value).slice(0, 20)}`
      for (const value of within) {
        t.equal(await isRefused(operation, named, value), false, shown(value))
      }
      for (const value of beyond) {
        // An upload takes an empty parameter for an absent one: scripts pass on what is not set.
        if (value === '' && operationId === 'publishBuild') continue
        t.equal(await isRefused(operation, named, value), true, `${shown(value)}: beyond`)
      }
    }
  }
  t.same(Object.keys(tried).toSorted(), Object.keys(BESIDE).toSorted())
})
