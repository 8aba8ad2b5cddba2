/** The running service and its other replicas, as a client sees them: reach, release, readiness, credential, clock. */
import { connect } from 'node:tls'
import { type Api, ApiError, createApi } from '../api/client.ts'
import type { Connection } from '../api/connection.ts'
import { duration } from '../terminal/ago.ts'
import { type Finding, fault, good, skipped } from './finding.ts'

const AREA = 'service'
const MAX_CLOCK_MS = 30_000
const TLS_MS = 2_000
const MIN_CERTIFICATE_DAYS = 14
const DAY_MS = 86_400_000

export interface ServiceOptions {
  readonly connection: Connection
  /** Whether somebody named the service; else it may not run yet. */
  readonly isNamed: boolean
  readonly replicas: readonly string[]
  readonly version: string
  readonly now: () => Date
}

export async function checkService(options: ServiceOptions): Promise<readonly Finding[]> {
  const { connection, isNamed, replicas, version, now } = options
  const { origin } = connection
  const api = createApi(connection)
  let instanceId: string | null
  const findings: Finding[] = []
  try {
    const health = await api.call('healthz', {})
    instanceId = health.instance_id
    findings.push(...clockFaults(api, now), ...versionFaults(origin, health.version, version))
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    if (!isNamed && / ECONNREFUSED\./.test(error.message)) {
      return [skipped(AREA, `nothing runs at ${origin} yet`)]
    }
    return [fault(AREA, `${error.message} Is it running, and is the address right?`)]
  }
  findings.push(...(await readinessFaults(api)), ...(await credentialFaults(api)))
  if (origin.startsWith('https:')) findings.push(...(await certificateFaults(origin, now)))
  for (const url of replicas) {
    findings.push(...(await replicaFaults({ ...connection, origin: url }, version, instanceId)))
  }
  if (findings.length > 0) return findings
  const others = replicas.length === 0 ? '' : `, with ${replicas.length} other replicas`
  return [good(AREA, `${origin} is ready, version ${version}${others}`)]
}

function versionFaults(origin: string, found: string, own: string): readonly Finding[] {
  if (found === own) return []
  const text = `${origin} runs version ${found}, this is ${own}`
  return [fault('versions', `${text}: roll every replica to one release (docs/operate/upgrade.md)`)]
}

function clockFaults(api: Api, now: () => Date): readonly Finding[] {
  const offMs = api.now().getTime() - now().getTime()
  if (Math.abs(offMs) <= MAX_CLOCK_MS) return []
  const which = offMs > 0 ? 'behind' : 'ahead of'
  const text = `this machine's clock is ${duration(Math.abs(offMs))} ${which} the service's`
  return [fault('clock', `${text}: synchronize both (chronyc tracking, timedatectl)`)]
}

async function readinessFaults(api: Api): Promise<readonly Finding[]> {
  const reasons = await api.unreadiness()
  return reasons.map((reason) => fault(AREA, `not ready: ${reason}. RUNBOOK.md, Database trouble`))
}

async function credentialFaults(api: Api): Promise<readonly Finding[]> {
  try {
    await api.call('listDevices', { query: { limit: 1 } })
    return []
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    if (error.code === 'https_required') {
      const text = 'the service sees plain http: the proxy in front is not in TRUSTED_PROXIES'
      return [fault('proxies', `${text}, or does not set X-Forwarded-Proto: https`)]
    }
    if (error.failure === 'unavailable') return [] // readiness has told it
    return [fault('token', `${error.message} Give a token of ADMIN_TOKENS with the scope read.`)]
  }
}

async function replicaFaults(
  connection: Connection,
  version: string,
  instanceId: string | null,
): Promise<readonly Finding[]> {
  const { origin } = connection
  try {
    const health = await createApi(connection).call('healthz', {})
    if (health.instance_id === instanceId) return versionFaults(origin, health.version, version)
    const text = `${origin} belongs to another installation (${health.instance_id})`
    return [fault('replicas', `${text}: give all replicas one DATABASE_URL`)]
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    return [fault('replicas', `${error.message} Is this replica running?`)]
  }
}

/** fetch has verified it; this is how long it still holds. */
async function certificateFaults(origin: string, now: () => Date): Promise<readonly Finding[]> {
  const { hostname, port } = new URL(origin)
  const validTo = await new Promise<string | undefined>((resolve) => {
    const options = { host: hostname, port: Number(port || 443), servername: hostname }
    const socket = connect({ ...options, timeout: TLS_MS }, () => {
      resolve(socket.getPeerCertificate().valid_to)
      socket.end()
    })
    socket.once('timeout', () => socket.destroy()).once('error', () => resolve(undefined))
    socket.once('close', () => resolve(undefined))
  })
  if (validTo === undefined) return []
  const days = Math.floor((Date.parse(validTo) - now().getTime()) / DAY_MS)
  if (days >= MIN_CERTIFICATE_DAYS) return []
  return [
    fault('tls', `the certificate of ${hostname} ends in ${days} days (${validTo}): renew it`),
  ]
}
