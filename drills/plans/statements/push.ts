/** Single commands: created, claimed, pushed, handed over, ended. */
import { createHash, randomUUID } from 'node:crypto'
import { commandStore } from '../../../src/db/commands/commands.ts'
import { mailbox } from '../../../src/db/commands/mailbox.ts'
import { commandOutbox } from '../../../src/db/commands/outbox.ts'
import { pushReportStore } from '../../../src/db/commands/push-reports.ts'
import { commandResultStore } from '../../../src/db/commands/results.ts'
import { storeHeartbeats } from '../../../src/db/heartbeats/heartbeats.ts'
import type { Database } from '../../../src/db/postgres/pool.ts'
import type { AttemptRecord, Claim, Outbox } from '../../../src/domain/delivery/outbox.ts'
import { heartbeatItem } from '../../../testkit/database/heartbeat-item.ts'
import { deviceId, type Installation, tokenHash } from '../installation.ts'
import { BOTH, type Statement } from './statement.ts'

const GROUP = 64
/** One of them has builds. */
const APPS = { 'com.example.app': 42, 'com.example.none': 1 }
const CLAIMED = 64
/** A small fleet's planner may read all open commands. */
export const FEW_OPEN = 510
/** With no more due, a claim may read and sort them all. */
const FEW_DUE = 2_000
const INSTANCE = 'drill'
/** FCM lowered the priority: the device's row is written too. */
const REPORT = {
  receivedAt: new Date(),
  priority: 'normal',
  originalPriority: 'high',
} as const
export const BY = { admin: 'drill', requestId: 'r', ip: null, instance: INSTANCE }
export const RESULT = {
  outcome: 'success',
  message: null,
  output: null,
  exitCode: null,
  finishedAt: null,
  push: null,
  httpRequestId: 'r',
} as const
export const ATTEMPT: AttemptRecord = {
  ...{ fcmHttpCode: 200, fcmStatus: 'OK', latencyMs: 1, retryInMs: null, reason: null },
  pushState: 'sent',
  pushKind: 'token',
}

export const claim: Statement = {
  title: 'claim of due commands',
  modes: BOTH,
  run: (database) => commandOutbox(database, INSTANCE).claim(CLAIMED, randomUUID()),
  index: 'commands_due',
  mostRows: 3 * CLAIMED + FEW_DUE,
  mostPages: 60 * CLAIMED, // each is inserted into all indexes
}

// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a table
export function pushStatements({ devices }: Installation): readonly Statement[] {
  return [
    claim,
    {
      title: 'attempt recorded',
      modes: BOTH,
      run: ofOneClaim((outbox, one) => outbox.record(one, ATTEMPT)),
      index: 'commands_pkey',
      mostRows: 12 + FEW_DUE,
      mostPages: 400,
    },
    {
      title: 'attempt recorded: dead push token',
      modes: BOTH,
      run: ofOneClaim((outbox, one) => outbox.recordDeadToken(one, ATTEMPT)),
      index: 'commands_pkey',
      mostRows: 12 + FEW_DUE,
      mostPages: 400,
    },
    {
      title: 'attempt recorded: no push token',
      modes: BOTH,
      run: ofOneClaim((outbox, one) => outbox.recordNoToken(one)),
      index: 'commands_pkey',
      mostRows: 12 + FEW_DUE,
      mostPages: 400,
    },
    {
      title: 'claim handed back',
      modes: BOTH,
      run: ofOneClaim((outbox, one) => outbox.handBack([one])),
      index: 'commands_pkey',
      mostRows: 12 + FEW_DUE,
      mostPages: 400,
    },
    {
      title: 'group of heartbeats',
      modes: ['generic'],
      run: (database) => storeHeartbeats(database, 10, 300)(group(devices)),
      index: 'commands_mailbox',
      mostRows: GROUP + FEW_OPEN,
    },
    {
      title: 'mailbox: hand-over',
      modes: BOTH,
      run: (database) => mailbox(database, INSTANCE).handOver(tokenHash(1)),
      index: 'commands_mailbox',
      mostRows: 20,
    },
    {
      title: 'result',
      modes: BOTH,
      run: (database) => recordResult(database, 'open-1'),
      index: 'commands_pkey',
      mostRows: 4,
    },
    {
      title: 'report of a push message',
      modes: BOTH,
      run: (database) =>
        pushReportStore(database).note({ requestId: 'open-1', deviceId: deviceId(1) }, REPORT),
      index: 'command_events_story',
      mostRows: 10,
    },
    {
      title: 'late result',
      modes: BOTH,
      run: (database) => recordResult(database, 'done-1'),
      index: 'commands_pkey',
      mostRows: 4,
    },
    {
      title: 'result of a command that is not there',
      modes: BOTH,
      run: (database) => recordResult(database, 'none'),
      index: 'commands_pkey',
      mostRows: 2,
    },
    ...[
      { deviceId: null, alias: 'S1' },
      { deviceId: deviceId(1), alias: null },
    ].map((device) => ({
      title: `command made by ${device.alias === null ? 'device_id' : 'alias'}`,
      modes: BOTH,
      run: (database: Database) =>
        commandStore(database).accept(device, {
          ...BY,
          requestId: 'made',
          action: 'ping',
          params: {},
          contentHash: createHash('sha256').digest(),
          ttlS: 60,
          isPushOn: true,
        }),
      index: 'commands_pkey',
      mostRows: 10,
    })),
    {
      title: 'one command',
      modes: BOTH,
      run: (database) => commandStore(database).find('done-1'),
      index: 'commands_pkey',
      mostRows: 3,
    },
    {
      title: 'timeline of a command',
      modes: BOTH,
      run: (database) => commandStore(database).timeline('done-1'),
      index: 'command_events_story',
      mostRows: 3,
    },
    {
      title: 'command cancelled',
      modes: BOTH,
      run: (database) => commandStore(database).cancel('open-1', BY),
      index: 'commands_pkey',
      mostRows: 6,
    },
  ]
}

function ofOneClaim(work: (outbox: Outbox, claim: Claim) => Promise<unknown>) {
  return async (database: Database) => {
    const outbox = commandOutbox(database, INSTANCE)
    const [one] = await outbox.claim(1, randomUUID())
    if (one === undefined) throw new Error('no command is due')
    await work(outbox, one)
  }
}

function recordResult(database: Database, requestId: string) {
  const about = { ...RESULT, requestId, deviceId: deviceId(1) }
  return commandResultStore(database, INSTANCE).record(about)
}

/** Heartbeats of so many devices, spread over the fleet; some have open commands. */
export function group(devices: number) {
  return Array.from({ length: GROUP }, (_, n) =>
    heartbeatItem(tokenHash(n * Math.floor(devices / GROUP) + 1), 'r', { appVersions: APPS }),
  )
}
