/** openapi.json is OpenAPI 3.1, and says what the route table and the error table say: no route, scope, limit or code more or less. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { AUDIT_WHATS } from '../../src/domain/audit.ts'
import { COMMAND_STATUSES, OUTCOMES } from '../../src/domain/commands/command.ts'
import {
  RESERVED_PARAM_NAMES,
  RESERVED_PARAM_PREFIXES,
} from '../../src/domain/delivery/command-message.ts'
import { EVENT_TYPES } from '../../src/domain/fleet-event.ts'
import { ADMIN_SCOPES } from '../../src/domain/identity.ts'
import { STATUS } from '../../src/http/errors.ts'
import type { RouteShape } from '../../src/http/route.ts'
import { ROUTE_LIST } from '../../src/routes/table.ts'
import { answerFaults, resolveRef } from '../helpers/contract.ts'
import { type Schema, schemaFaults } from '../helpers/json-schema.ts'

interface Operation {
  readonly operationId: string
  readonly security: readonly Readonly<Record<string, readonly string[]>>[]
  readonly parameters: readonly Json[]
  readonly 'x-max-body-bytes'?: number
  readonly requestBody?: {
    readonly content: Readonly<
      Record<string, { readonly schema?: Schema; readonly example?: unknown }>
    >
  }
  readonly responses: Readonly<Record<string, Json>>
}
type Json = Readonly<Record<string, unknown>>

const readFile = (path: string) =>
  readFileSync(fileURLToPath(new URL(path, import.meta.resolve('#package.json'))), 'utf8')
const TEXT = readFile('openapi.json')
/** Of each object in it, by name: OpenAPI 3.1.0, section 4.8. */
const FORM: Readonly<Record<string, unknown>> = JSON.parse(
  readFile('test/docs/fixtures/openapi-form.json'),
)
// Checked where it is read: what is missing reads as undefined and fails its assertion.
const DOCUMENT = JSON.parse(TEXT) as {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: {
    readonly responses: Readonly<Record<string, { description: string; content: Json }>>
    readonly schemas: Readonly<Record<string, Json>>
  }
}
const operations = Object.entries(DOCUMENT.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
)
const nameOf = (ref: unknown) => String(ref).split('/').at(-1) ?? ''

/** What the guard asks for, in the words of the document. */
function securityOf(route: RouteShape): readonly Readonly<Record<string, readonly string[]>>[] {
  const device = [{ device: [] }, { deviceHeader: [] }]
  const admin = (scopes: readonly string[]) =>
    [...new Set([...scopes.filter((scope) => scope !== 'admin'), 'admin'])].map((scope) => ({
      admin: [scope],
    }))
  switch (route.guard) {
    case 'open':
      return []
    case 'device':
    case 'device-token':
      return device
    case 'enrollment-token':
      return [{ enrollment: [] }]
    case 'admin':
      return admin(route.scopes)
    case 'downloader':
      return [{ enrollment: [] }, ...device, ...admin(['apk'])]
  }
}

t.test('it has the form of OpenAPI 3.1, as much of it as is used here', async (t) => {
  const names = (ref: string) => Object(FORM[ref])
  t.same(schemaFaults({ $ref: 'Document' }, DOCUMENT, names), [])
  const { version } = JSON.parse(readFile('package.json'))
  t.match(DOCUMENT, { info: { version } })
})

t.test('each route stands in the document, and nothing else', async (t) => {
  const documented = operations.map(({ path, method }) => `${method.toUpperCase()} ${path}`)
  const served = ROUTE_LIST.map(({ method, path }) => `${method} ${path}`)
  t.same(documented.toSorted(), served.toSorted())
  const ids = operations.map(({ operation }) => operation.operationId)
  t.equal(new Set(ids).size, ids.length, 'each operationId once')
})

t.test('who may call, and how much they may send, is what the route says', async (t) => {
  for (const route of ROUTE_LIST) {
    const operation = DOCUMENT.paths[route.path]?.[route.method.toLowerCase()]
    t.same(operation?.security, securityOf(route), `${route.method} ${route.path}`)
    const limit = typeof route.body === 'number' && route.body > 0 ? route.body : undefined
    t.equal(operation?.['x-max-body-bytes'], limit, `${route.method} ${route.path}, body`)
    const named = operation?.parameters
      .map(({ $ref, ...parameter }) => (typeof $ref === 'string' ? resolveRef($ref) : parameter))
      .filter((parameter) => Object(parameter).in === 'path')
      .map((parameter) => `{${Object(parameter).name}}`)
    t.same(named, route.path.match(/\{\w+\}/g) ?? [], `${route.method} ${route.path}, path`)
  }
})

t.test('an admin route knows the names that the document lists, no more and no less', async (t) => {
  const strict = ROUTE_LIST.flatMap((route) =>
    route.guard === 'admin' && route.takes !== 'anything' ? [{ ...route, takes: route.takes }] : [],
  )
  const lenient = ROUTE_LIST.filter((route) => !strict.some(({ path }) => path === route.path))
  t.same(
    lenient.filter(({ guard }) => guard === 'admin').map(({ path }) => path),
    ['/metrics'],
  )
  for (const { method, path, body, takes } of strict) {
    const what = `${method} ${path}`
    const operation = DOCUMENT.paths[path]?.[method.toLowerCase()]
    const parameters = (operation?.parameters ?? []).map(({ $ref, ...parameter }) =>
      typeof $ref === 'string' ? resolveRef($ref) : parameter,
    )
    const query = parameters.filter((parameter) => parameter['in'] === 'query')
    t.same(
      query.map((parameter) => String(parameter['name'])).toSorted(),
      takes.query.toSorted(),
      `${what}, query`,
    )
    const { schema } = operation?.requestBody?.content['application/json'] ?? {}
    const { properties = {}, additionalProperties } =
      schema === undefined ? {} : Object(resolveRef(String(schema['$ref'])))
    t.same(Object.keys(properties).toSorted(), takes.fields.toSorted(), `${what}, body`)
    if (schema !== undefined) t.equal(additionalProperties, false, `${what} is closed`)
    t.equal(operation?.requestBody === undefined, body === 0, `${what} has a body or none`)
    t.match(operation?.responses, { '422': { $ref: /invalid_field/ } }, `${what}, 422`)
    t.equal(
      new Set([...takes.query, ...takes.fields]).size,
      takes.query.length + takes.fields.length,
    )
  }
})

t.test('each code has the status of the error table', async (t) => {
  const problem = Object(DOCUMENT.components.schemas['Problem'])
  t.same(problem.properties.code.enum, Object.keys(STATUS))
  const statuses: Readonly<Record<string, number>> = STATUS
  const used = new Set<string>()
  for (const { path, method, operation } of operations) {
    for (const [status, response] of Object.entries(operation.responses)) {
      const name = nameOf(response['$ref'])
      const found = DOCUMENT.components.responses[name]
      if (response['$ref'] === undefined || found === undefined) continue
      for (const code of name.split('.')) {
        used.add(code)
        t.equal(statuses[code], Number(status), `${method} ${path} ${code}`)
        t.match(found.description, `\`${code}\``)
      }
    }
  }
  const nowhere = Object.keys(STATUS).filter((code) => !used.has(code))
  // Of any path, and so of no operation.
  t.same(nowhere, ['method_not_allowed', 'expectation_failed'])
})

t.test('each example of a request is one by its schema', async (t) => {
  for (const { path, method, operation } of operations) {
    const given = operation.parameters.map(({ $ref, ...parameter }) =>
      typeof $ref === 'string' ? resolveRef($ref) : parameter,
    )
    for (const { schema, example } of [
      ...Object.values(operation.requestBody?.content ?? {}),
      ...given.map((parameter) => Object(parameter)),
    ]) {
      if (example === undefined) continue
      t.same(schemaFaults(schema ?? {}, example, resolveRef), [], `${method} ${path}`)
    }
  }
})

t.test('each reference leads somewhere, and each component is used', async (t) => {
  const refs = new Set([...TEXT.matchAll(/"\$ref": "([^"]+)"/g)].map(([, ref = '']) => ref))
  for (const ref of refs) t.ok(resolveRef(ref), ref)
  for (const [kind, components] of Object.entries(DOCUMENT.components)) {
    if (kind === 'securitySchemes') continue
    for (const name of Object.keys(components)) {
      t.ok(refs.has(`#/components/${kind}/${name}`), `${kind}/${name} is used`)
    }
  }
})

t.test('closed lists are those of the code', async (t) => {
  const { schemas } = DOCUMENT.components
  t.same(schemas['CommandStatus']?.['enum'], COMMAND_STATUSES)
  t.same(schemas['EventType']?.['enum'], EVENT_TYPES)
  t.same(schemas['AuditWhat']?.['enum'], AUDIT_WHATS)
  const command = Object(schemas['Command'])
  t.same(command.properties.result.oneOf[0].properties.outcome.enum, OUTCOMES)
  const scopes = operations.flatMap(({ operation }) =>
    operation.security.flatMap((s) => s['admin'] ?? []),
  )
  t.same([...new Set(scopes)].toSorted(), ADMIN_SCOPES.toSorted())
})

t.test('the names that no param may have are those of the code', async (t) => {
  const { params } = Object(DOCUMENT.components.schemas['NewCommand']).properties
  const { propertyNames, description } = params
  const names = RESERVED_PARAM_NAMES.join('|')
  const prefixes = RESERVED_PARAM_PREFIXES.join('|')
  t.equal(propertyNames.pattern, `^(?!(${names})$|${prefixes})[a-z][a-z0-9_]{0,63}$`)
  t.match(description, RESERVED_PARAM_NAMES.join(', '))
  for (const prefix of RESERVED_PARAM_PREFIXES) t.match(description, prefix)
})

/** An answer of GET /admin/commands/{request_id}, told apart by what is changed in it. */
const STORY_PATH = '/admin/commands/{request_id}'
const story = () =>
  structuredClone(
    Object(operations.find(({ path }) => path === STORY_PATH)?.operation.responses['200']).content[
      'application/json'
    ].example,
  )
const HEADERS: Readonly<Record<string, string>> = {
  'x-request-id': 'r-1',
  'content-type': 'application/json',
  'retry-after': '1',
  'www-authenticate': 'Bearer',
}
function faultsIn(change: {
  readonly method?: string
  readonly path?: string
  readonly status?: number
  readonly headers?: Readonly<Record<string, string | undefined>>
  readonly body?: unknown
  readonly text?: string
}) {
  const { method = 'GET', path = '/admin/commands/ring-1?wait_ms=1', status = 200 } = change
  const isProblem = status >= 400 && { 'content-type': 'application/problem+json' }
  const headers = { ...HEADERS, ...isProblem, ...change.headers }
  const header = (name: string) => Reflect.get(headers, name)
  const text = change.text ?? `${JSON.stringify(change.body ?? story())}\n`
  return answerFaults({ method, path }, { status, header, text })
}
const problem = (status: number, code: string) => ({
  status,
  body: { type: 'about:blank', title: 'T', status, code, detail: 'D', request_id: 'r-1' },
})

t.test('an answer that the document describes has no fault', async (t) => {
  t.same(faultsIn({}), [])
  t.same(faultsIn({ method: 'HEAD' }), [])
  t.same(faultsIn(problem(404, 'command_unknown')), [])
  t.same(faultsIn(problem(503, 'overloaded')), [])
  t.same(faultsIn({ path: '/nowhere', ...problem(404, 'not_found') }), [])
  t.same(faultsIn({ path: '//admin/devices', ...problem(404, 'not_found') }), [])
  t.same(faultsIn({ path: '//v1//enroll-tokens', ...problem(403, 'forbidden') }), [])
  const headers = { allow: 'GET, HEAD, DELETE' }
  t.same(faultsIn({ method: 'PUT', headers, ...problem(405, 'method_not_allowed') }), [])
})

t.test('each way to leave the document is found', async (t) => {
  const changed = (change: (body: ReturnType<typeof story>) => void) => {
    const body = story()
    change(body)
    return { body }
  }
  for (const [fault, change] of [
    ['$.verdict is missing', changed((body) => delete body.verdict)],
    ['$.more is not in the document', changed((body) => Object.assign(body, { more: 1 }))],
    ['$.push.more is not', changed((body) => Object.assign(body.push, { more: 1 }))],
    ['$.timeline[1].at is soon, no date-time', changed((b) => (b.timeline[1].at = 'soon'))],
    ['$.deliveries is number, not integer', changed((body) => (body.deliveries = 1.5))],
    ['$.status is done, of no', changed((body) => (body.status = 'done'))],
    ['$.result fits 0 of oneOf', changed((body) => delete body.result.late)],
    ['$.request_id is ?, against', changed((body) => (body.request_id = '?'))],
    ['$ is array, not object', { body: [] }],
    ['no X-Request-ID', { headers: { 'x-request-id': undefined } }],
    ['X-Request-ID: $ is ä', { headers: { 'x-request-id': 'ä' } }],
    ['content-type text/html', { headers: { 'content-type': 'text/html' } }],
    ['418 is not documented', problem(418, 'not_found')],
    ['201 is not documented', { status: 201 }],
    ['apk_none is not documented here', problem(404, 'apk_none')],
    ['its status is 500', { ...problem(500, 'internal'), status: 503 }],
    ['no Retry-After', { headers: { 'retry-after': undefined }, ...problem(503, 'overloaded') }],
    [
      'Retry-After: $ is number',
      { headers: { 'retry-after': 'soon' }, ...problem(503, 'overloaded') },
    ],
    [
      'no www-authenticate',
      { headers: { 'www-authenticate': undefined }, ...problem(401, 'token_unknown') },
    ],
    ['no allow', { method: 'PUT', ...problem(405, 'method_not_allowed') }],
    ['200 is not documented', { path: '/admin/nothing' }],
    ['$.errors is missing', problem(422, 'invalid_field')],
    ['does not end in one newline', { text: JSON.stringify(story()) }],
    ['does not end in one newline', { text: `${JSON.stringify(story())}\n\n` }],
  ] as const) {
    t.match(faultsIn(change).join('\n'), fault, fault)
  }
  t.throws(
    () => schemaFaults({ minProperties: 1 }, {}, resolveRef),
    /does not know "minProperties"/,
  )
})
