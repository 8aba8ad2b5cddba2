/**
 * The types of the command line's client: what an admin may call and what comes back, as openapi.json describes it.
 * Operations that phones call, and those whose response is neither JSON nor empty, are left out.
 */

const nameOf = ({ $ref }) => $ref.split('/').at(-1)
const jsonOf = ({ content }) => content?.['application/json']?.schema
const keyOf = (name) => (/^[A-Za-z_]\w*$/.test(name) ? name : `'${name}'`)
const literal = (value) => (typeof value === 'string' ? `'${value}'` : String(value))
const arrayOf = (type) => `readonly ${/[|&]/.test(type) ? `(${type})` : type}[]`

/** The text of src/cli/api/openapi.ts. */
export function clientTypes({ paths, components }) {
  const used = new Set()
  const types = createTypes((name) => used.add(name))
  const rows = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item)
      .map(([method, operation]) => rowOf(path, method, operation, components, types))
      .filter((row) => row !== undefined),
  )
  const schemas = []
  for (const name of used) {
    // `used` grows meanwhile.
    schemas.push(`export type ${name} = ${types.typeOf(components.schemas[name])}`)
  }
  const lines = [
    '/** The admin API as openapi.json describes it. `npm run docs` writes this file. */',
    '// biome-ignore-all format: one line a schema, one line an operation',
    '',
    ...schemas.toSorted(),
    '',
    '/** What each operation takes and returns, by its operationId. */',
    ...['export interface Operations {', ...rows.map(({ type }) => type), '}', ''],
    'export const OPERATIONS = {',
    ...rows.map(({ row }) => row),
    '} as const satisfies Readonly<Record<keyof Operations, unknown>>',
  ]
  return `${lines.join('\n')}\n`
}

/** undefined: not for admins. */
function rowOf(path, method, operation, components, { typeOf, fieldsOf }) {
  const { operationId, security, parameters = [], requestBody, responses } = operation
  const scopes = security.flatMap(({ admin = [] }) => admin)
  const [status, response] = Object.entries(responses)[0]
  const isPlain = status === '204' || jsonOf(response) !== undefined
  if (!isPlain || (security.length > 0 && scopes.length !== security.length)) return undefined
  // The client adds these itself.
  const given = parameters
    .map((each) => (each.$ref ? components.parameters[nameOf(each)] : each))
    .filter(({ name }) => !/^X-(Signature|Request-ID)$/.test(name))
  const group = (place, key) => {
    const theirs = given.filter((each) => each.in === place)
    if (theirs.length === 0) return []
    const required = theirs.filter((each) => each.required).map(({ name }) => name)
    const properties = Object.fromEntries(theirs.map(({ name, schema }) => [name, schema]))
    return [`readonly ${key}${required.length > 0 ? '' : '?'}: ${fieldsOf(properties, required)}`]
  }
  const body = requestBody === undefined ? undefined : jsonOf(requestBody)
  const fields = [
    ...[...group('path', 'path'), ...group('query', 'query'), ...group('header', 'headers')],
    ...(body === undefined ? [] : [`readonly body: ${typeOf(body)}`]),
  ]
  const request =
    fields.length === 0 ? 'Readonly<Record<string, never>>' : `{ ${fields.join('; ')} }`
  const keys = status === '204' ? [] : requiredOf(jsonOf(response), components)
  const result = status === '204' ? 'undefined' : typeOf(jsonOf(response))
  return {
    type: `  readonly ${operationId}: { readonly request: ${request}; readonly response: ${result} }`,
    row: `  ${operationId}: { method: '${method.toUpperCase()}', path: '${path}', scopes: [${scopes.map(literal).join(', ')}], keys: [${keys.map(literal).join(', ')}] },`,
  }
}

/** Names that a response must have; of alternatives, those of each. */
function requiredOf({ $ref, required = [], allOf = [], oneOf = [] }, components) {
  const parts = [...($ref ? [components.schemas[nameOf({ $ref })]] : []), ...allOf, ...oneOf]
  return [...new Set([...required, ...parts.flatMap((part) => requiredOf(part, components))])]
}

/** `use` gets the name of each schema that a type refers to. */
function createTypes(use) {
  function fieldsOf(properties, required) {
    const fields = Object.entries(properties).map(([name, schema]) => {
      return `readonly ${keyOf(name)}${required.includes(name) ? '' : '?'}: ${typeOf(schema)}`
    })
    return `{ ${fields.join('; ')} }`
  }
  function ofKind(kind, { items = {}, properties = {}, required = [], additionalProperties }) {
    if (kind === 'array') return arrayOf(typeOf(items))
    if (kind === 'integer') return 'number'
    if (kind !== 'object') return kind
    if (Object.keys(properties).length > 0) return fieldsOf(properties, required)
    const value = additionalProperties ? typeOf(additionalProperties) : 'unknown'
    return `Readonly<Record<string, ${value}>>`
  }
  function typeOf(schema) {
    if (schema.$ref !== undefined) {
      use(nameOf(schema))
      return nameOf(schema)
    }
    const { enum: values, oneOf, allOf, type = [] } = schema
    if (schema.const !== undefined) return literal(schema.const)
    if (values !== undefined) return values.map(literal).join(' | ')
    if (oneOf !== undefined) return oneOf.map(typeOf).join(' | ')
    if (allOf !== undefined) return allOf.map(typeOf).join(' & ')
    const kinds = [type].flat().map((kind) => ofKind(kind, schema))
    return kinds.length === 0 ? 'unknown' : kinds.join(' | ')
  }
  return { typeOf, fieldsOf }
}
