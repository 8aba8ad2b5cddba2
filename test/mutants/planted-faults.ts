/** Faults that once would have gone unseen, each with the test that sees it. */

export interface Planted {
  readonly name: string
  /** In src or sql. */
  readonly file: string
  /** Occurs there once, and becomes `after`. */
  readonly before: string
  readonly after: string
  readonly test: string
  /** Of the test that fails. */
  readonly title: string
}

const PRUNES = {
  test: 'build/test/db/retention.test.js',
  title: 'each table keeps what is young, and what is still in use whatever its age',
}
const UTC = {
  file: 'src/db/heartbeats/partitions.ts',
  test: 'build/test/db/partitions.test.js',
  title: 'whatever day it is for the session, days are those of UTC',
}
const LEASES = 'build/test/push/dispatcher-lease.test.js'
const ONE_INSTANT = {
  test: 'build/test/commands/lists.test.js',
  title: 'what came at one instant is seen whole, page by page',
}

export const PLANTED: readonly Planted[] = [
  {
    name: 'the idle clock of an upload is never refreshed',
    file: 'src/http/body.ts',
    before: '    idle?.refresh()\n    if (!upload.push',
    after: '    if (!upload.push',
    test: 'build/test/http/upload.test.js',
    title: 'one that is slow but never still is received, however long it takes',
  },
  {
    name: 'a download whose row cannot be written keeps its place',
    file: 'src/routes/apks/download-record.ts',
    before: '    live?.end()\n    throw error',
    after: '    throw error',
    test: 'build/test/apks/download-limits.test.js',
    title: 'a download counts only while it runs, however it ends',
  },
  {
    name: 'a fill of the cache that fails keeps its place',
    file: 'src/apk/cache.ts',
    before: '    } finally {\n      release()\n    }',
    after: '      release()\n    } finally {\n    }',
    test: 'build/test/apks/cache.test.js',
    title: 'fills that fail give their place back',
  },
  {
    name: 'live commands are pruned',
    file: 'src/db/retention.ts',
    before: "`and state <> 'open'`",
    after: "''",
    ...PRUNES,
  },
  {
    name: 'a command does not take its events with it',
    file: 'sql/0003_commands.sql',
    before: 'references commands on delete cascade',
    after: 'references commands',
    ...PRUNES,
  },
  {
    name: 'signatures are not pruned',
    file: 'src/db/retention.ts',
    before:
      "    ['used_signatures', oldest('used_signatures', 'signature', 'used_at'), options.signatureS],\n",
    after: '',
    ...PRUNES,
  },
  {
    name: 'nothing is pruned at all',
    file: 'src/app/parts/maintenance.ts',
    before: "startPeriodic(PRUNE_MS, prune, reporting('prune'))",
    after: "startPeriodic(PRUNE_MS, async () => void prune, reporting('prune'))",
    test: 'build/test/app/maintenance.test.js',
    title: 'each table is pruned, batch by batch, and days are kept up',
  },
  {
    name: 'of two results at once both are first',
    file: 'src/db/commands/results.ts',
    before: 'and result_at is null for update)',
    after: 'and result_at is null)',
    test: 'build/test/commands/results.test.js',
    title: 'of two results that wait for the command’s row the first one is kept',
  },
  {
    name: 'a replica that stops frees the lease of another',
    file: 'src/db/commands/queue.ts',
    before: 'and lease_id = any ($1::uuid[]) and',
    after: 'and $1::uuid[] is not null and',
    test: LEASES,
    title: 'a replica that stops leaves the lease of another alone',
  },
  {
    name: 'a command whose time is over is pushed',
    file: 'src/db/commands/due.ts',
    before: ' and (expires_at > now()) is distinct from false\n',
    after: '\n',
    test: LEASES,
    title: 'a command whose time is over is not claimed before the sweep either',
  },
  {
    name: 'days that are made are those of the session',
    before: "select (now() at time zone 'UTC')::date + $3::int as d",
    after: 'select now()::date + $3::int as d',
    ...UTC,
  },
  {
    name: 'days that are dropped are those of the session',
    before: "select to_char((now() at time zone 'UTC')::date + $2",
    after: 'select to_char(now()::date + $2',
    ...UTC,
  },
  {
    name: 'rows that fell into no day are dropped by the days of the session',
    before: "where bucket < ((now() at time zone 'UTC')::date",
    after: 'where bucket < (now()::date',
    ...UTC,
  },
  {
    name: 'a file that turns out to be another stays open',
    file: 'src/apk/verified-files.ts',
    before: '    await file.close()\n    return undefined',
    after: '    return undefined',
    test: 'build/test/apks/cache-files.test.js',
    title: 'files that turn out to be others leave no descriptor open',
  },
  {
    name: 'a key that nobody waits for any more is kept',
    file: 'src/lib/notifier.ts',
    before: '        if (wakers.size === 0) this.#waiting.delete(key)\n',
    after: '',
    test: 'build/test/lib/timeouts.test.js',
    title: 'nothing is kept of a key that nobody waits for, however the wait ended',
  },
  {
    name: 'a breaker that is still open is not announced again after a pause',
    file: 'src/push/dispatcher.ts',
    before: '    this.#isBreakerOpen = false // reported again if it is still open\n',
    after: '',
    test: 'build/test/push/dead-token-breaker.test.js',
    title: 'while it is shut tokens are kept, commands back off, and an operator is told',
  },
  {
    name: 'a cursor of commands has no second column',
    file: 'src/db/commands/lists.ts',
    before:
      "(c.created_at, c.request_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::text, ''))",
    after: "c.created_at < coalesce($2::timestamptz, 'infinity') and $3::text is distinct from ' '",
    ...ONE_INSTANT,
  },
  {
    name: 'a cursor of the audit log has no second column',
    file: 'src/db/audit.ts',
    before: "(at, audit_id) < (coalesce($2::timestamptz, 'infinity'), coalesce($3::bigint, 0))",
    after: "at < coalesce($2::timestamptz, 'infinity') and $3::bigint is distinct from 0",
    ...ONE_INSTANT,
  },
  {
    name: 'a cursor of builds has no second column',
    file: 'src/db/apks/apks.ts',
    before: '(published_at, build_id) < ($2::timestamptz, $3)\n',
    after: 'published_at < $2::timestamptz and $3::text is not null\n',
    ...ONE_INSTANT,
  },
  {
    name: 'Retry-After may be 0',
    file: 'src/http/errors.ts',
    before: '1 + Math.floor(random() * 5)',
    after: 'Math.floor(random() * 5)',
    test: 'build/test/http/edge.test.js',
    title: 'who is asked to come back later is given one to five seconds, never none',
  },
  {
    name: 'a bucket of the latencies is another one',
    file: 'src/telemetry/metrics/histogram.ts',
    before: '25, 50, 100',
    after: '25, 51, 100',
    test: 'build/test/telemetry/metrics.test.js',
    title: 'a scrape has the buckets of the contract, each up to its bound',
  },
  {
    name: 'a secret of exactly 24 characters is too short',
    file: 'src/config/secrets.ts',
    before: 'secret.length >= MIN_CHARS',
    after: 'secret.length > MIN_CHARS',
    test: 'build/test/config/refusals.test.js',
    title: 'what is just long or strong enough is taken, and one less is not',
  },
  {
    name: 'the end does not wait for what the maintenance is at',
    file: 'src/app/parts/maintenance.ts',
    before: 'await Promise.all(tasks',
    after: 'void Promise.all(tasks',
    test: 'build/test/app/maintenance.test.js',
    title: 'stop() waits for a sweep that is under way',
  },
  {
    name: 'the end closes the pools under what still writes',
    file: 'src/app/lifecycle.ts',
    before: 'await unhurried(drained,',
    after: 'void unhurried(drained,',
    test: 'build/test/app/maintenance.test.js',
    title: 'the service ends step by step, and waits for its heartbeats',
  },
  {
    name: 'a deleted device takes a push token',
    file: 'src/db/devices/devices.ts',
    before: 'enrollment_no = $4 and deleted_at is null',
    after: 'enrollment_no = $4',
    test: 'build/test/enrollment/token-races.test.js',
    title: 'a push token for a device that was deleted meanwhile changes nothing',
  },
  {
    name: 'a command that was cancelled meanwhile is handed over',
    file: 'src/db/commands/mailbox.ts',
    before: "from due)) and state = 'open'",
    after: 'from due))',
    test: 'build/test/enrollment/token-races.test.js',
    title: 'a command that is cancelled while it is handed over is not',
  },
  {
    name: 'a command that has ended is given back to be sent',
    file: 'src/db/commands/queue.ts',
    before: "any ($1::uuid[]) and state = 'open'",
    after: 'any ($1::uuid[])',
    test: 'build/test/push/dispatcher-lease.test.js',
    title: 'a command that ended while it was sent is not given back',
  },
  {
    name: 'a revoked token is listed as expired, too',
    file: 'src/db/enrollment/token-lists.ts',
    before: 'and revoked_at is null and expires_at <= now()',
    after: 'and expires_at <= now()',
    test: 'build/test/enrollment/tokens.test.js',
    title: 'whatever a token is besides, it is one thing to all: revoked, expired, exhausted',
  },
  {
    name: 'what is not found on a server that has lost something counts as unknown',
    file: 'src/db/postgres/pool.ts',
    before: '(query.provesUnknown === true || mayWrite(query))',
    after: 'mayWrite(query)',
    test: 'build/test/db/servers.test.js',
    title: 'a refused write costs no connection',
  },
  {
    name: 'a refused write costs its connection',
    file: 'src/db/postgres/sqlstate.ts',
    before: '55|P0|08R00)',
    after: '55|P0)',
    test: 'build/test/db/servers.test.js',
    title: 'a refused write costs no connection',
  },
  {
    name: 'a loss is forgotten once the log has grown',
    file: 'src/db/health/server-history.ts',
    before: 'timeline, hasLost: true })',
    after: 'timeline })',
    test: 'build/test/db/servers.test.js',
    title: 'a server that is behind is reported once in ten minutes, and marked',
  },
  {
    name: 'a loss is forgotten at a restart',
    file: 'src/app/parts/database.ts',
    before: '      keep().catch(() => {}) // each check that succeeds tries again\n',
    after: '',
    test: 'build/test/events/servers.test.js',
    title: 'a restart remembers the loss until the operator deletes the file',
  },
  {
    name: 'connections to a former primary stay open',
    file: 'src/db/postgres/connections.ts',
    before: '[...this.#open].filter(isOld)',
    after: '[...this.#open].filter((client) => isOld(client) && client.isLost)',
    test: 'build/test/events/servers.test.js',
    title: 'a promoted standby is used, and connections to the old primary are closed',
  },
  {
    name: 'a host whose statements hang is tried first again',
    file: 'src/db/postgres/pool.ts',
    before: '        this.#silent = client.server\n',
    after: '',
    test: 'build/test/db/servers.test.js',
    title: 'a host whose statements hang is tried last',
  },
  {
    name: 'reads wait for a host that is silent',
    file: 'src/db/postgres/connect.ts',
    before: 'if (this.#spare === client) this.#win(client)',
    after: '',
    test: 'build/test/db/servers.test.js',
    title: 'a server that has lost something is used while a host is silent',
  },
]
