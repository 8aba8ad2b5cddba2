/** The tests' PostgreSQL: started once by main.ts (or given by TEST_DATABASE_URL), found by all test files. */

export interface Cluster {
  /** Of a superuser, to any database of the cluster. */
  readonly url: string
  /** A migrated database that test files clone. */
  readonly template: string
}

const VARIABLE = 'FLEETLOOP_TEST_CLUSTER'

export function clusterEnv(cluster: Cluster): Readonly<Record<string, string>> {
  return { [VARIABLE]: JSON.stringify(cluster) }
}

export function readCluster(): Cluster {
  const text = process.env[VARIABLE]
  if (text === undefined) throw new Error('run tests by: npm test -- build/test/loop.test.js')
  return JSON.parse(text)
}

/** The same server, another database. */
export function urlOf(cluster: Pick<Cluster, 'url'>, database: string): string {
  const url = new URL(cluster.url)
  url.pathname = `/${database}`
  return url.href
}
