/** The statements of the service that must not slow down as history piles up, each as the service asks it. */
import { createHash, randomUUID } from 'node:crypto'
import type { Heartbeat } from '../src/core/heartbeat.ts'
import type { Claim } from '../src/core/outbox.ts'
import { type AuditFilter, auditStore, type ListPage } from '../src/db/audit.ts'
import type { CommandFilter } from '../src/db/command-lists.ts'
import { commandQueue } from '../src/db/command-queue.ts'
import { commandResultStore } from '../src/db/command-results.ts'
import { commandStore } from '../src/db/commands.ts'
import { type DeviceFilter, deviceStore } from '../src/db/devices.ts'
import { enrollmentTokenStore } from '../src/db/enrollment-tokens.ts'
import { storeHeartbeats } from '../src/db/heartbeats.ts'
import { mailbox } from '../src/db/mailbox.ts'
import type { Database } from '../src/db/pool.ts'
import type { Explained, PlanMode } from './plans-explain.ts'
import {
  BUSY_ADMIN,
  BUSY_ALIAS,
  DEVICES,
  deviceId,
  ISSUED,
  LEFT_ADMIN,
  OPEN,
  RARE_ACTION,
  RARE_ADMIN,
  tokenHash,
} from './plans-history.ts'

export interface Statement {
  readonly title: string
  /** Where the service knows: the hot path asks for generic plans. */
  readonly modes: readonly PlanMode[]
  readonly run: (database: Database) => Promise<unknown>
  /** The index that must serve it; null: whichever the planner likes. */
  readonly index: string | null
  /** Rows of the tables that grow that it may read at most, however many they hold. */
  readonly mostRows: number
  /** Pages that it may touch at most. Default: what its rows may cost, PAGES_PER_ROW each. */
  readonly mostPages?: number
}

const BOTH: readonly PlanMode[] = ['custom', 'generic']
const PAGE = 51
/** A row that is looked up costs the levels of an index and its own page; a command is told with its device. */
const PAGES_PER_ROW = 12
const MIN_PAGES = 200
const GROUP = 64
/** The planner may read all that is open, in small fleets above all: that is bounded by what the fleet has to do. */
const ALL_OPEN = OPEN + 10
const CLAIMED = 64
/** Of those that were made a minute apart, each is valid for a day. */
const UNEXPIRED = ISSUED + 24 * 60
const DAY_MS = 86_400_000
const NO_FILTER: CommandFilter = { deviceId: null, status: null, action: null }
export const BY = { admin: 'drill', requestId: 'r', ip: null, instance: 'drill' }
/** A phone reports success. */
export const RESULT = {
  outcome: 'success',
  message: null,
  output: null,
  exitCode: null,
  finishedAt: null,
  httpRequestId: 'r',
} as const
/** FCM takes a push. */
export const ATTEMPT = {
  fcmHttpCode: 200,
  fcmStatus: 'OK',
  latencyMs: 1,
  retryInMs: null,
  reason: null,
}

export const claim: Statement = {
  title: 'claim',
  modes: BOTH,
  run: (database) => commandQueue(database, 'drill').claim(CLAIMED, randomUUID()),
  index: 'commands_due',
  mostRows: 3 * CLAIMED,
  mostPages: 60 * CLAIMED, // each is entered anew into all indexes
}

/** What is wrong with how it ran; empty where nothing is. */
export function faultsOf(statement: Statement, explained: readonly Explained[]): readonly string[] {
  const faults: string[] = []
  const { index, mostRows } = statement
  for (const { name, seqScans } of explained) {
    if (seqScans.length > 0) faults.push(`${name} reads all of ${seqScans.join(', ')}`)
  }
  if (index !== null && !explained.some(({ indexes }) => indexes.has(index))) {
    faults.push(`${index} is not used`)
  }
  const rows = rowsOf(explained)
  if (rows > mostRows) faults.push(`${rows} rows read, ${mostRows} allowed`)
  const pages = pagesOf(explained)
  const mostPages = statement.mostPages ?? MIN_PAGES + mostRows * PAGES_PER_ROW
  if (pages > mostPages) faults.push(`${pages} pages touched, ${mostPages} allowed`)
  return faults
}

/** All that its statements read. */
export const rowsOf = (explained: readonly Explained[]) =>
  explained.reduce((sum, { rowsRead }) => sum + rowsRead, 0)

export const pagesOf = (explained: readonly Explained[]) =>
  explained.reduce((sum, { pages }) => sum + pages, 0)

export const STATEMENTS: readonly Statement[] = [
  claim,
  {
    title: 'record of an attempt',
    modes: BOTH,
    run: (database) =>
      commandQueue(database, 'drill').record(claimOf('open-1'), { ...ATTEMPT, pushState: 'sent' }),
    index: 'commands_pkey',
    mostRows: 3,
  },
  {
    title: 'hand-back',
    modes: BOTH,
    run: (database) =>
      commandQueue(database, 'drill').handBack([claimOf('open-1'), claimOf('open-2')]),
    index: 'commands_pkey',
    mostRows: ALL_OPEN,
  },
  {
    title: 'expiry sweep',
    modes: BOTH,
    run: (database) => commandQueue(database, 'drill').expire(500),
    index: 'commands_sweep',
    mostRows: 10,
  },
  {
    title: 'a group of heartbeats: is there mail?',
    modes: ['generic'],
    run: (database) => storeHeartbeats(database, 10, 300)(group()),
    index: 'commands_mailbox',
    mostRows: GROUP + ALL_OPEN,
  },
  {
    title: 'mailbox: hand-over',
    modes: BOTH,
    run: (database) => mailbox(database, 'drill').handOver(tokenHash(1)),
    index: 'commands_mailbox',
    mostRows: 10,
  },
  {
    title: 'a new push token makes commands due',
    modes: BOTH,
    run: (database) =>
      deviceStore(database).setPushToken({ deviceId: deviceId(1), enrollmentNo: 1 }, 'new', 'r'),
    index: 'commands_mailbox',
    mostRows: 10,
  },
  {
    title: 'result',
    modes: BOTH,
    run: (database) =>
      commandResultStore(database, 'drill').record({
        ...RESULT,
        requestId: 'open-1',
        deviceId: deviceId(1),
      }),
    index: 'commands_pkey',
    mostRows: 3,
  },
  {
    title: 'accept',
    modes: BOTH,
    run: (database) =>
      commandStore(database).accept(
        { deviceId: null, alias: 'D1' },
        {
          ...BY,
          requestId: 'made',
          action: 'ping',
          params: {},
          contentHash: createHash('sha256').digest(),
          ttlS: 60,
          isPushOn: true,
        },
      ),
    index: 'commands_pkey',
    mostRows: 10,
  },
  {
    title: 'one command',
    modes: BOTH,
    run: (database) => commandStore(database).find('done-1'),
    index: 'commands_pkey',
    mostRows: 3,
  },
  {
    title: 'timeline',
    modes: BOTH,
    run: (database) => commandStore(database).timeline('done-1'),
    index: 'command_events_story',
    mostRows: 3,
  },
  {
    title: 'cancel',
    modes: BOTH,
    run: (database) => commandStore(database).cancel('open-1', BY),
    index: 'commands_pkey',
    mostRows: 5,
  },
  {
    title: 'deletion of a device',
    modes: BOTH,
    run: (database) => deviceStore(database).delete(deviceId(1), BY, () => {}),
    index: 'commands_mailbox',
    mostRows: 20,
  },
  ...lists(),
  ...deviceLists(),
  ...auditLists(),
  ...enrollmentTokens(),
]

/** Present, rare and absent, each on its first page and far behind it. */
function lists(): readonly Statement[] {
  const rare = { ...NO_FILTER, action: RARE_ACTION.name }
  const absent = { ...NO_FILTER, action: 'none' }
  const device = { ...NO_FILTER, deviceId: deviceId(1) }
  const states = ['completed', 'cancelled', 'expired'] as const
  const open = ['queued', 'sent', 'delivered', 'push_failed'] as const
  const cases: readonly [what: string, filter: CommandFilter, mostRows: number][] = [
    ['newest', NO_FILTER, 2 * PAGE],
    ['of a device', device, 2 * PAGE + ALL_OPEN],
    ['of a common action', { ...NO_FILTER, action: 'ping' }, 5 * PAGE],
    ['of a rare action', rare, 5 * PAGE],
    ['of an unknown action', absent, 0],
    ...[...states, ...open].flatMap((status): [string, CommandFilter, number][] => [
      [status, { ...NO_FILTER, status }, 4 * PAGE + ALL_OPEN],
      [`${status}, of a device`, { ...device, status }, 2 * PAGE + ALL_OPEN],
      [
        `${status}, of a common action`,
        { ...NO_FILTER, action: 'ping', status },
        4 * PAGE + ALL_OPEN,
      ],
      [`${status}, of a rare action`, { ...rare, status }, 3 * PAGE],
      [`${status}, of an unknown action`, { ...absent, status }, 0],
    ]),
  ]
  const pages: readonly [string, ListPage['after']][] = [
    ['', null],
    [', far behind', { at: new Date(Date.now() - 100 * DAY_MS).toISOString(), id: 'z' }],
  ]
  return cases.flatMap(([what, filter, mostRows]) =>
    pages.map(([where, after]) => ({
      title: `list: ${what}${where}`,
      modes: BOTH,
      run: (database: Database) => commandStore(database).list({ limit: PAGE, after }, filter),
      index: null,
      mostRows,
    })),
  )
}

function deviceLists(): readonly Statement[] {
  const none = { alias: null, offlineForS: null }
  const cases: readonly [what: string, filter: DeviceFilter, mostPages: number][] = [
    ['newest', none, 500],
    ['of an alias', { ...none, alias: `D${DEVICES}` }, 20],
    ['of an unknown alias', { ...none, alias: 'none' }, 20],
    ['offline, most of them', { ...none, offlineForS: 60 }, DEVICES / 5],
    ['offline, none of them', { ...none, offlineForS: 604_800 }, DEVICES / 5],
    ['of an alias, offline', { offlineForS: 60, alias: 'D1' }, 20],
  ]
  return cases.map(([what, filter, mostPages]) => ({
    title: `devices: ${what}`,
    modes: BOTH,
    run: (database) => deviceStore(database).list({ limit: PAGE, after: null }, filter),
    index: null,
    mostRows: PAGE,
    mostPages,
  }))
}

function auditLists(): readonly Statement[] {
  const since = new Date(Date.now() - DAY_MS)
  const after = { at: since.toISOString(), id: '1' }
  const any: AuditFilter = { since: null, admin: null, subject: null, alias: null }
  const cases: readonly [what: string, after: ListPage['after'], filter: Partial<AuditFilter>][] = [
    ['newest', null, {}],
    ['a later page', after, {}],
    ['since a day', null, { since }],
    ['of an admin', null, { admin: BY.admin }],
    ['of a rare admin', null, { admin: RARE_ADMIN }],
    ['of an admin who left', null, { admin: LEFT_ADMIN }],
    ['of an unknown admin', null, { since, admin: 'none' }],
    ['of a subject', null, { subject: 'done-8' }],
    ['of a busy subject', null, { subject: BUSY_ALIAS }],
    ['of an unknown subject', null, { subject: 'none' }],
    [
      'of a subject, an alias and an admin',
      null,
      { subject: 'done-8', alias: 'D1', admin: 'none' },
    ],
    ['of an alias', null, { alias: 'D1' }],
    ['of a busy alias', null, { alias: BUSY_ALIAS }],
    ['of a busy alias, a later page', after, { alias: BUSY_ALIAS }],
    ['of an unknown alias', null, { alias: 'none' }],
    ['of an alias and an unknown admin', null, { alias: 'D1', admin: 'none' }],
  ]
  return cases.map(([what, after, filter]) => ({
    title: `audit log: ${what}`,
    modes: BOTH,
    run: (database) => auditStore(database).list({ limit: PAGE, after }, { ...any, ...filter }),
    index: null,
    mostRows: PAGE,
  }))
}

function enrollmentTokens(): readonly Statement[] {
  const store = (database: Database) => enrollmentTokenStore(database)
  const token = { tokenId: randomUUID(), tokenHash: tokenHash(0), alias: null }
  const about = { expiresInS: 60, usesAllowed: 1, note: null, maxPerHour: 200 }
  const options = { ...BY, ...about, batch: undefined }
  const batch = { idempotencyKey: 'key-7', contentHash: tokenHash(0), seed: tokenHash(0) }
  const page = { limit: PAGE, after: null }
  return [
    {
      title: 'a batch of enrollment tokens',
      modes: BOTH,
      run: (database) => store(database).issue([token], options),
      index: 'enrollment_tokens_by_admin',
      mostRows: 1,
    },
    {
      title: 'a batch of enrollment tokens beyond the limit',
      modes: BOTH,
      run: (database) => store(database).issue([token], { ...options, admin: BUSY_ADMIN }),
      index: 'enrollment_tokens_by_admin',
      mostRows: 2 * options.maxPerHour,
    },
    {
      title: 'a batch of enrollment tokens whose Idempotency-Key was used',
      modes: BOTH,
      run: (database) => store(database).issue([token], { ...options, batch }),
      index: 'enrollment_batches_pkey',
      mostRows: 2,
    },
    {
      title: 'an enrollment token is judged',
      modes: BOTH,
      run: (database) => store(database).judge(tokenHash(0)),
      index: 'enrollment_tokens_token_hash_key',
      mostRows: 1,
    },
    ...([null, 'active', 'exhausted', 'expired', 'revoked'] as const).map((status) => ({
      title: `enrollment tokens: ${status ?? 'newest'}`,
      modes: BOTH,
      run: (database: Database) => store(database).list(page, { status, alias: null }),
      index: null,
      mostRows: UNEXPIRED + 2 * PAGE,
    })),
    ...(['D1', BUSY_ALIAS, 'none'] as const).map((alias) => ({
      title: `enrollment tokens: of alias ${alias}`,
      modes: BOTH,
      run: (database: Database) => store(database).list(page, { status: null, alias }),
      index: 'enrollment_tokens_alias',
      mostRows: PAGE,
    })),
  ]
}

function claimOf(requestId: string): Claim {
  return {
    requestId,
    leaseId: randomUUID(),
    deviceId: deviceId(1),
    alias: 'D1',
    action: 'ping',
    params: {},
    attempt: 1,
    pushFailures: 0,
    expiresAt: new Date(),
    fcmToken: 'push-1',
    enrollmentNo: 1,
    hmacSecretId: 'default',
  }
}

/** Heartbeats of as many devices, each with open commands or without. */
function group() {
  const heartbeat: Heartbeat = {
    status: 'ok',
    batteryPct: null,
    networkType: null,
    uptimeS: null,
    isPlugged: null,
    tempC: null,
    signalDbm: null,
    ramUsedMb: null,
    appVersion: null,
    agentVersion: null,
    reportedAt: null,
    fcmToken: null,
    pingRequestId: null,
  }
  return Array.from({ length: GROUP }, (_, n) => ({
    tokenHash: tokenHash(n * 15 + 1),
    heartbeat,
    requestId: 'r',
  }))
}
