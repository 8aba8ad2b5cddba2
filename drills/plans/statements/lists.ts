/** Every list with every filter (common, rare, absent), its first page and its hundredth; device-lists.ts has devices. */
import { apkStore, type Build } from '../../../src/db/apks/apks.ts'
import { type AuditFilter, type AuditRow, auditStore } from '../../../src/db/audit.ts'
import { type CommandRow, commandStore } from '../../../src/db/commands/commands.ts'
import type { CommandFilter } from '../../../src/db/commands/lists.ts'
import type {
  EnrollmentTokenFilter,
  EnrollmentTokenRow,
} from '../../../src/db/enrollment/token-lists.ts'
import { enrollmentTokenStore } from '../../../src/db/enrollment/tokens.ts'
import type { Database } from '../../../src/db/postgres/pool.ts'
import { OUTCOMES } from '../../../src/domain/commands/command.ts'
import {
  BUILD_TYPE,
  BUSY,
  BUSY_ALIAS,
  CROWDED,
  deviceId,
  type Installation,
  LEFT_ADMIN,
  RARE_ACTION,
  RARE_ADMIN,
  RARE_BUILD,
} from '../installation.ts'
import { deviceLists } from './device-lists.ts'
import { type Bounds, PAGE, pages, WORKERS } from './pages.ts'
import { FEW_OPEN } from './push.ts'
import { BOTH, type Statement } from './statement.ts'

/** How often a list may read what has expired and was not swept yet, by status. */
const UNSWEPT_READS: Readonly<Record<string, number>> = { expired: 4, queued: 1 }
/** Valid enrollment tokens, which the hourly limit keeps few, and those checked before them. */
const VALID_TOKENS = 5_000
/** In a small table, a generic plan may read and sort all rows of one subject. */
const SORTED: Bounds = { mostRows: 10_000, mostPages: 5_000 }
const DAY_MS = 86_400_000
const NO_FILTER: CommandFilter = {
  ...{ deviceId: null, alias: null },
  ...{ status: null, outcome: null, action: null },
}

export function listStatements(installation: Installation): readonly Statement[] {
  return [
    ...commandLists(installation),
    ...deviceLists(installation),
    ...auditLists(),
    ...tokenLists(),
    ...buildLists(installation),
  ]
}

function commandLists({ busy, crowded, unswept }: Installation): readonly Statement[] {
  const rare = { ...NO_FILTER, action: RARE_ACTION.name }
  const absent = { ...NO_FILTER, action: 'none' }
  const device = { ...NO_FILTER, deviceId: deviceId(1) }
  const ended = ['completed', 'cancelled', 'expired'] as const
  const open = ['queued', 'sent', 'delivered', 'push_failed'] as const
  // All commands of one device may be read, whatever the filter.
  const ofBusy = { mostRows: busy + 4 * PAGE, mostPages: busy + 1_000 }
  const ofCrowded = { mostRows: crowded + 4 * PAGE, mostPages: crowded + 1_000 }
  // Expired commands are read as a whole until they are swept, within seconds; if they are a large part of the open
  // ones, all of those are. Queued ones come after them.
  const bounded = (status: string, mostRows: number): Bounds => ({
    mostRows: mostRows + FEW_OPEN + (UNSWEPT_READS[status] ?? 0) * unswept,
  })
  const cases: readonly [what: string, filter: CommandFilter, bounds: Bounds][] = [
    ['newest', NO_FILTER, { mostRows: (1 + WORKERS) * PAGE }],
    ['of a device', device, { mostRows: 2 * PAGE + FEW_OPEN }],
    ['of a common action', { ...NO_FILTER, action: 'ping' }, { mostRows: 5 * PAGE }],
    ['of a rare action', rare, { mostRows: 5 * PAGE }],
    ['of an unknown action', absent, { mostRows: 0 }],
    ['of a busy device', { ...NO_FILTER, deviceId: deviceId(BUSY) }, { mostRows: 2 * PAGE }],
    ['of a busy device, unknown action', { ...absent, deviceId: deviceId(BUSY) }, ofBusy],
    [
      'of a busy device, expired',
      { ...NO_FILTER, deviceId: deviceId(BUSY), status: 'expired' },
      ofBusy,
    ],
    [
      'of a device with many open ones, delivered',
      { ...NO_FILTER, deviceId: deviceId(CROWDED), status: 'delivered' },
      ofCrowded,
    ],
    ...OUTCOMES.flatMap((outcome): [string, CommandFilter, Bounds][] => [
      [outcome, { ...NO_FILTER, outcome }, { mostRows: 4 * PAGE }],
      [
        `${outcome}, of a common action`,
        { ...NO_FILTER, action: 'ping', outcome },
        { mostRows: 4 * PAGE },
      ],
      [`${outcome}, of a rare action`, { ...rare, outcome }, { mostRows: 4 * PAGE }],
      [`${outcome}, of a device`, { ...device, outcome }, { mostRows: 2 * PAGE + FEW_OPEN }],
    ]),
    ['of an alias', { ...NO_FILTER, alias: 'S1' }, { mostRows: 2 * PAGE + FEW_OPEN }],
    ...[...ended, ...open].flatMap((status): [string, CommandFilter, Bounds][] => [
      [status, { ...NO_FILTER, status }, bounded(status, 4 * PAGE + FEW_OPEN)],
      [`${status}, of a device`, { ...device, status }, { mostRows: 2 * PAGE + FEW_OPEN }],
      [
        `${status}, of a common action`,
        { ...NO_FILTER, action: 'ping', status },
        bounded(status, 4 * PAGE + FEW_OPEN),
      ],
      [`${status}, of a rare action`, { ...rare, status }, bounded(status, 3 * PAGE)],
      [`${status}, of an unknown action`, { ...absent, status }, bounded(status, 0)],
    ]),
  ]
  return cases.flatMap(([what, filter, bounds]) =>
    pages<CommandRow>(
      `commands: ${what}`,
      (database, page) => commandStore(database).list(page, filter),
      ({ createdAtText, requestId }) => ({ at: createdAtText, id: requestId }),
      bounds,
    ),
  )
}

function auditLists(): readonly Statement[] {
  const since = new Date(Date.now() - DAY_MS).toISOString()
  const none = { since: null, until: null, admin: null, what: null }
  const any: AuditFilter = { ...none, subject: null, alias: null }
  const cases: readonly [what: string, filter: Partial<AuditFilter>][] = [
    ['newest', {}],
    ['since a day', { since }],
    ['since now', { since: new Date().toISOString() }],
    ['of an admin', { admin: 'drill' }],
    ['of an admin, since a day', { since, admin: 'drill' }],
    ['of a rare admin', { admin: RARE_ADMIN }],
    ['of an admin who left', { admin: LEFT_ADMIN }],
    ['of an unknown admin', { admin: 'none' }],
    ['until a day ago', { until: since }],
    ['of a common kind', { what: 'command.create' }],
    ['of a kind, until a day ago', { until: since, what: 'command.create' }],
    ['of a kind without entries', { what: 'device.erase' }],
    ['of a common kind and a rare admin', { what: 'command.create', admin: RARE_ADMIN }],
    ['of a kind without entries and an admin', { what: 'device.erase', admin: 'drill' }],
    ['of a subject', { subject: 'done-8' }],
    ['of an unknown subject', { subject: 'none' }],
    ['of a subject, an alias and an admin', { subject: 'done-8', alias: 'S1', admin: 'none' }],
    ['of an alias', { alias: 'S1' }],
    ['of an unknown alias', { alias: 'none' }],
    ['of an alias and an unknown admin', { alias: 'S1', admin: 'none' }],
  ]
  const busy: readonly [what: string, filter: Partial<AuditFilter>][] = [
    ['of a busy subject', { subject: BUSY_ALIAS }],
    ['of a busy alias', { alias: BUSY_ALIAS }],
  ]
  const list = (what: string, filter: Partial<AuditFilter>, bounds: Bounds) =>
    pages<AuditRow>(
      `audit log: ${what}`,
      (database, page) => auditStore(database).list(page, { ...any, ...filter }),
      ({ at, id }) => ({ at, id }),
      bounds,
    )
  return [
    ...cases.flatMap(([what, filter]) => list(what, filter, { mostRows: PAGE })),
    // Where most entries are of the kind, an index without it may serve as well.
    ...list(
      'of a common kind and an admin',
      { what: 'command.create', admin: 'drill' },
      { mostRows: 2 * PAGE },
    ),
    ...busy.flatMap(([what, filter]) => list(what, filter, SORTED)),
  ]
}

function tokenLists(): readonly Statement[] {
  const any: EnrollmentTokenFilter = { status: null, alias: null }
  const valid = { mostRows: VALID_TOKENS, mostPages: VALID_TOKENS }
  const cases: readonly [what: string, filter: Partial<EnrollmentTokenFilter>, bounds: Bounds][] = [
    ['newest', {}, { mostRows: PAGE }],
    ...(['active', 'exhausted', 'expired', 'revoked'] as const).map(
      (status): [string, Partial<EnrollmentTokenFilter>, Bounds] => [status, { status }, valid],
    ),
    ['of an alias', { alias: 'S1' }, { mostRows: PAGE }],
    ['of a busy alias', { alias: BUSY_ALIAS }, SORTED],
    ...(['active', 'exhausted', 'expired', 'revoked'] as const).map(
      (status): [string, Partial<EnrollmentTokenFilter>, Bounds] => [
        `of a busy alias, ${status}`,
        { status, alias: BUSY_ALIAS },
        { mostRows: 5 * PAGE },
      ],
    ),
    ['of an unknown alias', { alias: 'none' }, { mostRows: PAGE }],
  ]
  return cases.flatMap(([what, filter, bounds]) =>
    pages<EnrollmentTokenRow>(
      `enrollment tokens: ${what}`,
      (database, page) => enrollmentTokenStore(database).list(page, { ...any, ...filter }),
      ({ issuedAt, tokenId }) => ({ at: issuedAt, id: tokenId }),
      bounds,
    ),
  )
}

/** There are few builds, each a hundred times larger than its row: a rare type is searched among all of them. */
function buildLists({ builds }: Installation): readonly Statement[] {
  const types = [undefined, BUILD_TYPE, RARE_BUILD.type, 'none']
  return [
    ...types.flatMap((type) =>
      pages<Build>(
        `builds: ${type ?? 'newest'}`,
        (database, page) => apkStore(database).list(page, type),
        ({ publishedAt, buildId }) => ({ at: publishedAt, id: buildId }),
        { mostRows: PAGE, mostPages: 500 + builds },
      ),
    ),
    ...types.slice(1).flatMap((type = '') =>
      [undefined, 'com.example.app', 'com.example.none'].map((packageName) => ({
        title: `latest build: ${type}, ${packageName ?? 'without a package'}`,
        modes: BOTH,
        run: (database: Database) => apkStore(database).latest(type, packageName),
        mostRows: 4,
        mostPages: 50 + builds,
      })),
    ),
  ]
}
