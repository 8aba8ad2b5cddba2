/** The running service and its other replicas, as a client sees them: reach, release, readiness, credential, clock. */
import { connect } from 'node:tls'
import { type Api, ApiError, createApi, type Deadline } from '../api/client.ts'
import type { Connection } from '../api/connection.ts'
import { duration } from '../terminal/ago.ts'
import { type Finding, fault, good, skipped } from './finding.ts'

const AREA = 'service'
const MAX_CLOCK_MS = 30_000
/** Of all requests together, milliseconds. */
const DEADLINE_MS = 4_000
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

/** The replicas are asked at the same time, and all within one deadline. */
export async function checkService(options: ServiceOptions): Promise<readonly Finding[]> {
  const { connection, replicas, version } = options
  const deadline = { ms: DEADLINE_MS, signal: AbortSignal.timeout(DEADLINE_MS) }
  const own = checkOne(options, deadline)
  const others = replicas.map((origin) =>
    checkReplica(createApi({ ...connection, origin }, deadline), version, own),
  )
  const findings = [...(await own).findings, ...(await Promise.all(others)).flat()]
  if (findings.length > 0) return findings
  const more = replicas.length === 0 ? '' : `, with ${replicas.length} other replicas`
  return [good(AREA, `${connection.origin} is ready, version ${version}${more}`)]
}

interface Examined {
  /** undefined: nothing of ours responded. */
  readonly instanceId: string | null | undefined
  /** Faults, or what was skipped. */
  readonly findings: readonly Finding[]
}

async function checkOne(options: ServiceOptions, deadline: Deadline): Promise<Examined> {
  const { connection, isNamed, version, now } = options
  const { origin } = connection
  const api = createApi(connection, deadline)
  try {
    const { instance_id: instanceId, version: found } = await api.call('healthz', {})
    const parts = [
      ...[clockFaults(api, now), versionFaults(origin, found, version)],
      ...(await Promise.all([
        readinessFaults(api),
        credentialFaults(api),
        origin.startsWith('https:') ? certificateFaults(origin, now) : [],
      ])),
    ]
    return { instanceId, findings: parts.flat() }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    const isIdle = !isNamed && / ECONNREFUSED\./.test(error.message)
    const finding = isIdle
      ? skipped(AREA, `nothing runs at ${origin} yet`)
      : fault(AREA, `${error.message} Is it running, and is the address right?`)
    return { instanceId: undefined, findings: [finding] }
  }
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

async function checkReplica(
  api: Api,
  version: string,
  own: Promise<Examined>,
): Promise<readonly Finding[]> {
  const { origin } = api
  try {
    const health = await api.call('healthz', {})
    const { instanceId } = await own
    if (instanceId === undefined || health.instance_id === instanceId) {
      return versionFaults(origin, health.version, version)
    }
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
