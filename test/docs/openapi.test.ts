/** openapi.json says what the route table and the error table say: no route, scope, limit or code more or less. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { COMMAND_STATUSES, OUTCOMES } from '../../src/core/command.ts'
import { ADMIN_SCOPES } from '../../src/core/identity.ts'
import { STATUS } from '../../src/http/errors.ts'
import type { Route } from '../../src/http/route.ts'
import { type RouteDeps, routeTable } from '../../src/routes/index.ts'

interface Operation {
  readonly operationId: string
  readonly security: readonly Readonly<Record<string, readonly string[]>>[]
  readonly parameters: readonly Json[]
  readonly 'x-max-body-bytes'?: number
  readonly responses: Readonly<Record<string, Json>>
}
type Json = Readonly<Record<string, unknown>>

const TEXT = readFileSync(
  fileURLToPath(new URL('openapi.json', import.meta.resolve('#package.json'))),
  'utf8',
)
// Checked where it is read: what is missing reads as undefined and fails its assertion.
const DOCUMENT = JSON.parse(TEXT) as {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: {
    readonly responses: Readonly<Record<string, { description: string; content: Json }>>
    readonly schemas: Readonly<Record<string, Json>>
  }
}
/** Factories only keep what they are given, so the table can be made without a service. */
const ROUTES = routeTable({ isMetricsEnabled: true } as RouteDeps)
const operations = Object.entries(DOCUMENT.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
)
const nameOf = (ref: unknown) => String(ref).split('/').at(-1) ?? ''

function resolve(ref: string): unknown {
  const names = ref.replace(/^#\//, '').split('/')
  return names.reduce<unknown>((at, name) => Object(at)[name], DOCUMENT)
}

/** What the guard asks for, in the words of the document. */
function securityOf(route: Route): readonly Readonly<Record<string, readonly string[]>>[] {
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

t.test('each route stands in the document, and nothing else', async (t) => {
  const documented = operations.map(({ path, method }) => `${method.toUpperCase()} ${path}`)
  const served = ROUTES.map(({ method, path }) => `${method} ${path}`)
  t.same(documented.toSorted(), served.toSorted())
  const ids = operations.map(({ operation }) => operation.operationId)
  t.equal(new Set(ids).size, ids.length, 'each operationId once')
})

t.test('who may call, and how much they may send, is what the route says', async (t) => {
  for (const route of ROUTES) {
    const operation = DOCUMENT.paths[route.path]?.[route.method.toLowerCase()]
    t.same(operation?.security, securityOf(route), `${route.method} ${route.path}`)
    const limit = typeof route.body === 'number' && route.body > 0 ? route.body : undefined
    t.equal(operation?.['x-max-body-bytes'], limit, `${route.method} ${route.path}, body`)
    const named = operation?.parameters
      .map((parameter) => resolve(String(parameter['$ref'])) ?? parameter)
      .filter((parameter) => Object(parameter).in === 'path')
      .map((parameter) => `{${Object(parameter).name}}`)
    t.same(named, route.path.match(/\{\w+\}/g) ?? [], `${route.method} ${route.path}, path`)
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

t.test('each reference leads somewhere, and each component is used', async (t) => {
  const refs = new Set([...TEXT.matchAll(/"\$ref": "([^"]+)"/g)].map(([, ref = '']) => ref))
  for (const ref of refs) t.ok(resolve(ref), ref)
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
  const command = Object(schemas['Command'])
  t.same(command.properties.result.oneOf[0].properties.outcome.enum, OUTCOMES)
  const scopes = operations.flatMap(({ operation }) =>
    operation.security.flatMap((s) => s['admin'] ?? []),
  )
  t.same([...new Set(scopes)].toSorted(), ADMIN_SCOPES.toSorted())
})
