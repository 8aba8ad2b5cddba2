/** Debian's PgBouncer before the tests' PostgreSQL, both set up as docs/operate says. */

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, existsSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { commandAs } from '../../src/dev/run-user.ts'
import { until } from '../../testkit/until.ts'
import { connect } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { documentedBlock } from '../helpers/pages.ts'
import { readCluster, urlOf } from '../runner/cluster.ts'

const PGBOUNCER = '/usr/sbin/pgbouncer'
export const missingPgBouncer =
  !existsSync(PGBOUNCER) && 'needs pgbouncer: apt-get install pgbouncer (.ci/run does)'
const PASSWORD = 'pgbouncer-password-0123456789'
const NOBODY = { uid: 65_534, gid: 65_534 }

export interface PooledDatabase {
  /** Through PgBouncer, of an ordinary role that owns the database; no table is in it yet. */
  readonly url: string
  /** The same, past PgBouncer. */
  readonly directUrl: string
  /** Of the role and the database. */
  readonly name: string
}

/** A role and a database of its own, and a PgBouncer in front; all gone at the end of `t`. */
export async function startPgBouncer(t: Test): Promise<PooledDatabase> {
  const name = `pooled_${randomBytes(6).toString('hex')}`
  const admin = await connect(t, readCluster().url)
  const ofOurs = (text: string) => text.replaceAll('fleetloop', name).replaceAll('…', PASSWORD)
  for (const block of ['install-database', 'pgbouncer-role']) {
    for (const statement of ofOurs(documentedBlock(block)).trim().split(';\n')) {
      await admin.query(statement)
    }
  }
  t.teardown(() => admin.query(`drop role if exists ${name}`))
  t.teardown(() => admin.query(`drop database if exists ${name} with (force)`))

  const direct = new URL(urlOf(readCluster(), name))
  direct.username = name
  direct.password = PASSWORD
  const socketDirectory = direct.searchParams.get('host')
  const server = socketDirectory ?? direct.hostname
  const ini = ofOurs(documentedBlock('pgbouncer.ini')).replace(/host=\S+ port=\d+/, () => {
    return `host=${server} port=${direct.port || 5432}`
  })

  const user = userOf(socketDirectory)
  const directory = tempDirectory(t)
  const users = join(directory, 'userlist.txt')
  writeFileSync(users, `"${name}" "${PASSWORD}"\n`)
  const settings = join(directory, 'pgbouncer.ini')
  const local = ini
    .replace(/^listen_addr = .*$/m, `unix_socket_dir = ${directory}`)
    .replace(/^auth_file = .*$/m, `auth_file = ${users}`)
  writeFileSync(settings, local)
  if (user !== null) for (const path of [directory, users, settings]) own(path, user)

  const { command, args } = commandAs(user, PGBOUNCER, [settings])
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const exited = once(child, 'exit')
  let notes = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    notes += text
  })
  t.teardown(async () => {
    child.kill('SIGTERM')
    await exited
  })
  const port = /^listen_port = (\d+)$/m.exec(ini)?.[1] ?? ''
  await until(() => {
    if (child.exitCode !== null) throw new Error(`pgbouncer ended:\n${notes}`)
    return existsSync(join(directory, `.s.PGSQL.${port}`))
  })
  const url = new URL(direct)
  url.port = port
  url.search = `?host=${encodeURIComponent(directory)}&sslmode=disable`
  return { url: url.href, directUrl: direct.href, name }
}

/** PgBouncer, too, refuses root: then the user who may enter PostgreSQL's directory of sockets. null: as we are. */
function userOf(socketDirectory: string | null) {
  if (process.geteuid?.() !== 0) return null
  const { uid, gid } = socketDirectory === null ? NOBODY : statSync(socketDirectory)
  return { uid, gid }
}

function own(path: string, { uid, gid }: { readonly uid: number; readonly gid: number }): void {
  chownSync(path, uid, gid)
}
