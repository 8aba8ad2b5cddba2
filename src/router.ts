/** Method and path → route and parameters, or why there is none. Pure; never throws, whatever the path. */

export type Match<T> =
  | { readonly kind: 'found'; readonly route: T; readonly params: Readonly<Record<string, string>> }
  /** The path exists, but not with this method; `allow` is the value of the Allow header. */
  | { readonly kind: 'method_not_allowed'; readonly route: T; readonly allow: string }
  | { readonly kind: 'not_found' }
  /** A parameter that is no valid percent-encoded UTF-8. */
  | { readonly kind: 'bad_path' }

export interface Routable {
  readonly method: string
  /** Segments are literal or one whole `{parameter}`: `/admin/commands/{request_id}`. */
  readonly path: string
}

interface Node<T> {
  readonly literals: Map<string, Node<T>>
  parameter: Node<T> | undefined
  /** By method; parameter names belong to the route, not to the node. */
  readonly routes: Map<string, { readonly route: T; readonly names: readonly string[] }>
}

/** A longer path finds nothing, at no cost. */
const MAX_PATH_LENGTH = 2_048

/** Phones in the field send runs of slashes here. Elsewhere they find nothing: a proxy's rule for `/admin` would not match `//admin`. */
const FOLDED = /^\/+v1\//

export class Router<T extends Routable> {
  readonly #root: Node<T> = newNode()
  /** Paths without parameters, the hot ones among them, take one look-up. */
  readonly #exact = new Map<string, Node<T>>()

  constructor(routes: readonly T[]) {
    for (const route of routes) this.#add(route)
  }

  /** `path` without its query. HEAD finds GET. Under /v1/ a run of slashes counts as one; a slash at the end counts. */
  find(method: string, path: string): Match<T> {
    const exact = this.#exact.get(path)
    if (exact !== undefined) return choose(exact, method, [])
    if (path.length > MAX_PATH_LENGTH || !path.startsWith('/')) return { kind: 'not_found' }
    if (path.includes('//') && !FOLDED.test(path)) return { kind: 'not_found' }

    const values: string[] = []
    const node = walk(this.#root, segmentsOf(path), 0, values)
    if (node === undefined) return { kind: 'not_found' }
    const decoded: string[] = []
    for (const value of values) {
      const text = decode(value)
      if (text === undefined) return { kind: 'bad_path' }
      // No id has a slash, and a proxy that decodes %2F would see another path.
      if (text.includes('/') || text.includes('\\')) return { kind: 'not_found' }
      decoded.push(text)
    }
    return choose(node, method, decoded)
  }

  #add(route: T): void {
    const segments = segmentsOf(route.path)
    const names: string[] = []
    let node = this.#root
    for (const segment of segments) {
      if (segment.startsWith('{') && segment.endsWith('}')) {
        names.push(segment.slice(1, -1))
        node.parameter ??= newNode()
        node = node.parameter
      } else {
        const next = node.literals.get(segment) ?? newNode<T>()
        node.literals.set(segment, next)
        node = next
      }
    }
    if (node.routes.has(route.method)) {
      throw new Error(`${route.method} ${route.path} stands twice in the route table`)
    }
    node.routes.set(route.method, { route, names })
    if (names.length === 0) this.#exact.set(route.path, node)
  }
}

function newNode<T>(): Node<T> {
  return { literals: new Map(), parameter: undefined, routes: new Map() }
}

function segmentsOf(path: string): readonly string[] {
  const segments = path.split(/\/+/)
  segments.shift() // before the first slash
  return segments
}

/** Tries a literal before a parameter, then goes back: `/v1/devices/ack` must not hide `/v1/devices/{id}/ack`. */
function walk<T>(
  node: Node<T>,
  segments: readonly string[],
  depth: number,
  values: string[],
): Node<T> | undefined {
  const segment = segments[depth]
  if (segment === undefined) return node.routes.size > 0 ? node : undefined
  const literal = node.literals.get(segment)
  const found = literal && walk(literal, segments, depth + 1, values)
  if (found !== undefined || node.parameter === undefined || segment === '') return found
  values.push(segment)
  const below = walk(node.parameter, segments, depth + 1, values)
  if (below === undefined) values.pop()
  return below
}

function choose<T>(node: Node<T>, method: string, values: readonly string[]): Match<T> {
  const entry = node.routes.get(method) ?? (method === 'HEAD' ? node.routes.get('GET') : undefined)
  if (entry === undefined) {
    const methods = [...node.routes.keys()]
    if (methods.includes('GET')) methods.push('HEAD')
    const first = [...node.routes.values()][0]
    if (first === undefined) return { kind: 'not_found' }
    return { kind: 'method_not_allowed', route: first.route, allow: methods.sort().join(', ') }
  }
  if (values.length === 0) return { kind: 'found', route: entry.route, params: NO_PARAMS }
  const pairs = entry.names.map((name, index) => [name, values[index] ?? ''] as const)
  return { kind: 'found', route: entry.route, params: Object.fromEntries(pairs) }
}

const NO_PARAMS: Readonly<Record<string, string>> = Object.freeze({})

function decode(segment: string): string | undefined {
  if (!segment.includes('%')) return segment
  try {
    return decodeURIComponent(segment)
  } catch {
    return undefined
  }
}
