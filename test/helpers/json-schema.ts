/**
 * JSON Schema 2020-12, as much of it as openapi.json uses. A keyword that is not known here throws, so that nothing of a
 * schema goes unchecked. Objects are closed, as if each schema said `unevaluatedProperties: false`: a property of our
 * answers that the document does not name is a fault. (Clients must ignore fields that they do not know.)
 */
import { isDeepStrictEqual } from 'node:util'

export type Schema = Readonly<Record<string, unknown>>

/** Names of the properties that a schema, or one that it is made of, speaks of. */
type Named = Set<string>
type Check = (argument: unknown, value: unknown, at: string, schema: Schema) => readonly string[]

const ANNOTATIONS = new Set(['description', 'default', 'examples'])
const PATTERNS: Readonly<Record<string, RegExp>> = {
  uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/, // ours end in Z
}

/** What `value` does wrong, each fault with its place; empty where it is valid. `resolve` gives what a `$ref` names. */
export function schemaFaults(
  schema: Schema,
  value: unknown,
  resolve: (ref: string) => Schema,
): readonly string[] {
  /** Of a value of its own: what no schema named is a fault. */
  function check(schema: Schema, value: unknown, at: string): readonly string[] {
    const named: Named = new Set()
    const faults = apply(schema, value, at, named)
    if (!isObject(value) || named.size === 0 || named.has('*')) return faults
    const unknown = Object.keys(value).filter((name) => !named.has(name))
    return [...faults, ...unknown.map((name) => `${at}.${name} is not in the document`)]
  }

  function apply(schema: Schema, value: unknown, at: string, named: Named): readonly string[] {
    return Object.entries(schema).flatMap(([keyword, argument]) => {
      if (ANNOTATIONS.has(keyword)) return []
      switch (keyword) {
        case '$ref':
          return apply(resolve(String(argument)), value, at, named)
        case 'allOf':
          return schemas(argument).flatMap((part) => apply(part, value, at, named))
        case 'oneOf':
          return oneOf(schemas(argument), value, at, named)
        case 'properties':
          return properties(argument, value, at, named)
        case 'additionalProperties':
          if (argument === false) return [] // closed, as any is
          named.add('*')
          return inside(value).flatMap(([name, one]) =>
            name in Object(schema['properties'])
              ? []
              : check(Object(argument), one, `${at}.${name}`),
          )
        case 'propertyNames':
          return inside(value).flatMap(([name]) => check(Object(argument), name, `${at}, ${name}`))
        case 'items':
          return !Array.isArray(value)
            ? []
            : value.flatMap((one, index) => check(Object(argument), one, `${at}[${index}]`))
      }
      const simple = SIMPLE[keyword]
      if (simple === undefined) throw new Error(`json-schema.ts does not know "${keyword}"`)
      return simple(argument, value, at, schema)
    })
  }

  function oneOf(all: readonly Schema[], value: unknown, at: string, named: Named) {
    const tried = all.map((schema) => {
      const own: Named = new Set()
      const faults = apply(schema, value, at, own)
      return { own, faults: [...faults, ...strangers(schema, value, at, own)] }
    })
    const valid = tried.filter(({ faults }) => faults.length === 0)
    for (const { own } of valid) for (const name of own) named.add(name)
    if (valid.length === 1) return []
    const why = tried.flatMap(({ faults }) => faults).join('; ')
    return [`${at} fits ${valid.length} of oneOf: ${why}`]
  }

  /** A closed schema among several does not fit an object with other names. */
  function strangers(schema: Schema, value: unknown, at: string, named: Named) {
    const ref = schema['$ref']
    const own = ref === undefined ? schema : resolve(String(ref))
    if (own['additionalProperties'] !== false) return []
    return inside(value).flatMap(([name]) => (named.has(name) ? [] : [`${at}.${name} is unknown`]))
  }

  function properties(argument: unknown, value: unknown, at: string, named: Named) {
    return Object.entries(Object(argument)).flatMap(([name, schema]) => {
      named.add(name)
      if (!isObject(value) || !Object.hasOwn(value, name)) return []
      return check(Object(schema), value[name], `${at}.${name}`)
    })
  }

  return check(schema, value, '$')
}

const SIMPLE: Readonly<Record<string, Check>> = {
  type: (types, value, at) => {
    const allowed = [types].flat().map(String)
    const isAllowed = typesOf(value).some((type) => allowed.includes(type))
    return fault(isAllowed, `${at} is ${typesOf(value)[0]}, not ${allowed.join(' or ')}`)
  },
  const: (only, value, at) => fault(isDeepStrictEqual(value, only), `${at} is not ${only}`),
  enum: (list, value, at) =>
    fault([list].flat().includes(value), `${at} is ${value}, of no ${list}`),
  required: (names, value, at) => {
    if (!isObject(value)) return []
    const missing = [names].flat().filter((name) => !Object.hasOwn(value, String(name)))
    return missing.map((name) => `${at}.${name} is missing`)
  },
  pattern: (pattern, value, at) =>
    fault(
      typeof value !== 'string' || new RegExp(String(pattern), 'u').test(value),
      `${at} is ${value}, against ${pattern}`,
    ),
  format: (format, value, at) => {
    const pattern = PATTERNS[String(format)]
    if (pattern === undefined)
      throw new Error(`json-schema.ts does not know the format "${format}"`)
    return fault(
      typeof value !== 'string' || pattern.test(value),
      `${at} is ${value}, no ${format}`,
    )
  },
  minimum: (least, value, at) =>
    fault(typeof value !== 'number' || value >= Number(least), `${at} is below ${least}`),
  maximum: (most, value, at) =>
    fault(typeof value !== 'number' || value <= Number(most), `${at} is above ${most}`),
  minLength: (least, value, at) =>
    fault(typeof value !== 'string' || value.length >= Number(least), `${at} is too short`),
  maxLength: (most, value, at) =>
    fault(typeof value !== 'string' || value.length <= Number(most), `${at} is too long`),
  minItems: (least, value, at) =>
    fault(!Array.isArray(value) || value.length >= Number(least), `${at} has too few`),
  maxItems: (most, value, at) =>
    fault(!Array.isArray(value) || value.length <= Number(most), `${at} has too many`),
  maxProperties: (most, value, at) =>
    fault(inside(value).length <= Number(most), `${at} has too many`),
}

const fault = (holds: boolean, text: string) => (holds ? [] : [text])
const schemas = (argument: unknown) => [argument].flat().map((schema): Schema => Object(schema))
const inside = (value: unknown) => (isObject(value) ? Object.entries(value) : [])

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The most exact first. */
function typesOf(value: unknown): readonly string[] {
  if (value === null) return ['null']
  if (Array.isArray(value)) return ['array']
  return Number.isInteger(value) ? ['integer', 'number'] : [typeof value]
}
