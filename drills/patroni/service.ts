/**
 * Two replicas of the service on the cluster, behind the page's HAProxy; they reach the database through HAProxy or by
 * a multi-host URL.
 */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createSend } from '../../testkit/http/client.ts'
import { type Replica, startReplica } from '../../testkit/service.ts'
import { HMAC_SECRET, serviceSettings } from '../../testkit/service-settings.ts'
import { until } from '../../testkit/until.ts'
import type { Network } from './network.ts'
import { pageFile, replaced } from './page.ts'
import { endOfLog, startProgram } from './programs.ts'

export interface ServiceOptions {
  readonly dir: string
  readonly network: Network
  /** `role:password@` of the database. */
  readonly credential: string
  readonly machines: readonly { readonly address: string }[]
  readonly isMultiHost: boolean
}

export interface Service {
  /** HAProxy's, for the phones. */
  readonly origin: string
  readonly seats: readonly Seat[]
  /** SIGTERM, then a new process. */
  restart(seat: Seat): Promise<void>
  /** Unexpected exits and responses 500 so far. */
  faults(): readonly string[]
  stop(): Promise<readonly (number | null)[]>
}

export type DatabaseEvent = 'unavailable' | 'recovered' | 'ended'

export interface Seat {
  readonly name: string
  /** A `db.unavailable` or `db.recovered` line, or a process that ended before the database was back. */
  readonly databaseEvents: readonly DatabaseEvent[]
}

/** The last numbers of their addresses, as on the page. */
export const APP_HOSTS = [21, 22] as const
const PORT = 8080
const FRONT_PORT = 8000
const BACK = '127.0.0.1:5000'

export async function startService(options: ServiceOptions): Promise<Service> {
  const { network, isMultiHost } = options
  const haproxy = await startHaproxy(options)
  const hosts = isMultiHost
    ? options.machines.map(({ address }) => `${address}:5432`).join(',')
    : haproxy.back
  const query = isMultiHost ? '?target_session_attrs=read-write&sslmode=disable' : ''
  const url = `postgres://${options.credential}${hosts}/fleetloop${query}`
  const seats = APP_HOSTS.map((host) => takeSeat(`${network.prefix}.${host}`, url, options))
  for (const seat of seats) await seat.start() // the first one migrates
  return {
    origin: `http://${haproxy.front}`,
    seats,
    restart: async (seat) => {
      const own = seats.find((each) => each === seat)
      await own?.stop()
      await own?.start()
    },
    faults: () => [...seats.flatMap(({ faults }) => faults()), ...haproxy.faults()],
    async stop() {
      const codes = await Promise.all(seats.map((seat) => seat.stop()))
      await haproxy.stop()
      return codes
    },
  }
}

export interface Haproxy {
  /** host:port for phones, and for the service's connections to the database. */
  readonly front: string
  readonly back: string
  faults(): readonly string[]
  stop(): Promise<void>
}

/** Resolves when it listens. */
export async function startHaproxy(
  options: Pick<ServiceOptions, 'dir' | 'network' | 'isMultiHost'>,
): Promise<Haproxy> {
  const { network, isMultiHost } = options
  const own = `${network.prefix}.${APP_HOSTS[0]}`
  const front = `${own}:${FRONT_PORT}`
  const back = network.isPrivate ? BACK : BACK.replace('127.0.0.1', own)
  const directory = join(options.dir, 'haproxy')
  mkdirSync(directory)
  const isRoot = process.geteuid?.() === 0
  const phones = replaced(pageFile('haproxy.cfg'), [
    [':443 ssl crt /etc/haproxy/fleetloop.pem', front],
    ...(isRoot ? [] : [['  user haproxy\n  group haproxy\n', ''] as const]),
  ])
  const database = replaced(pageFile('haproxy-postgres.cfg'), [[BACK, back]])
  const files = isMultiHost ? [phones] : [phones, database]
  const args = files.flatMap((text, index) => {
    const file = join(directory, `${index}.cfg`)
    writeFileSync(file, text.replaceAll('10.0.0.', `${network.prefix}.`))
    return ['-f', file]
  })
  const log = join(directory, 'log')
  const program = startProgram(['haproxy', '-db', ...args], log)
  const faults = () => (program.hasEnded() ? [`HAProxy ended: ${endOfLog(log)}`] : [])
  const send = createSend(`http://${front}`)
  await until(() => {
    const [fault] = faults()
    if (fault !== undefined) throw new Error(fault)
    return send({ method: 'GET', path: '/' }).then(Boolean, () => false)
  })
  return {
    front,
    back,
    faults,
    async stop() {
      program.signal('SIGTERM')
      await program.ended
    },
  }
}

interface OwnSeat extends Seat {
  start(): Promise<void>
  stop(): Promise<number | null>
  faults(): readonly string[]
}

function takeSeat(address: string, url: string, { dir, network }: ServiceOptions): OwnSeat {
  const dataDir = join(dir, address)
  const settings = {
    ...serviceSettings(url, dataDir),
    HMAC_SECRET: HMAC_SECRET.secret,
    HOST: address,
    TRUSTED_PROXIES: network.cidr,
    HEARTBEAT_DEDUP_WINDOW_S: '0',
    RATE_LIMIT_TOKENS_PER_HOUR: '1000000',
    SHUTDOWN_DRAIN_MS: '5000', // production's default: HAProxy notices an unready replica within two seconds
  }
  const databaseEvents: DatabaseEvent[] = []
  const lives: Replica[] = []
  const ends: string[] = []
  let expected: Replica | undefined
  const onLine = (line: string) => {
    if (line.includes('"event":"db.unavailable"')) databaseEvents.push('unavailable')
    if (line.includes('"event":"db.recovered"')) databaseEvents.push('recovered')
  }
  return {
    name: address,
    databaseEvents,
    async start() {
      const life = startReplica({ settings, port: PORT, onLine })
      lives.push(life)
      void life.ended.then(({ code, signal }) => {
        if (databaseEvents.at(-1) === 'unavailable') databaseEvents.push('ended')
        if (expected !== life) ends.push(`ended with ${signal ?? code}: ${life.notes()}`)
      })
      await life.ready
    },
    async stop() {
      const life = lives.at(-1)
      expected = life
      life?.signal('SIGTERM')
      return (await life?.ended)?.code ?? null
    },
    faults: () => [...ends, ...lives.flatMap(({ faultLines }) => faultLines)],
  }
}

/** Lets PostgreSQL's user enter our directory. */
export function openDirectory(dir: string): void {
  chmodSync(dir, 0o711)
}
