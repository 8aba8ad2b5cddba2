/** The URLs of the database: what they say, where they lead, and what the environment would add to them. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import {
  type DatabaseUrl,
  DatabaseUrlError,
  isLocal,
  parseDatabaseUrl,
} from '../db/postgres/database-url.ts'
import { type EnvReader, shown } from './env-reader.ts'
import type { Config } from './types.ts'

type Name = 'DATABASE_URL' | 'MIGRATE_DATABASE_URL'

/** Variables of PostgreSQL's own that `pg` took for a part that the URL leaves out. PGPASSWORD still is. */
const FILLED_BY = {
  PGHOST: 'host',
  PGPORT: 'port',
  PGUSER: 'user',
  PGDATABASE: 'database',
  PGSSLMODE: 'sslmode',
} as const
/** Those that `pg` sends to the server whatever the URL says. */
const SENT = ['PGOPTIONS', 'PGREPLICATION'] as const

/** `isProduction` makes TLS a must on the way to another host. */
export function readDatabaseUrls(
  read: EnvReader,
  isProduction: boolean,
): Pick<Config, 'databaseUrl' | 'migrateDatabaseUrl' | 'allowPlaintextDatabase'> {
  const allowPlaintextDatabase = read.flag('ALLOW_PLAINTEXT_DATABASE')
  const mustVerify = isProduction && !allowPlaintextDatabase
  return {
    databaseUrl: readUrl(read, 'DATABASE_URL', mustVerify),
    migrateDatabaseUrl: readUrl(read, 'MIGRATE_DATABASE_URL', mustVerify),
    allowPlaintextDatabase,
  }
}

function readUrl(read: EnvReader, name: Name, mustVerify: boolean): string | null {
  const text = read.text(name)
  if (text === undefined) return null
  try {
    const url = parseDatabaseUrl(text)
    for (const fault of faultsOf(url, read, mustVerify)) read.fault(name, fault)
  } catch (error) {
    if (!(error instanceof DatabaseUrlError)) throw error
    read.fault(name, error.message)
  }
  return text
}

function faultsOf(url: DatabaseUrl, read: EnvReader, mustVerify: boolean): readonly string[] {
  const named = {
    ...url,
    host: url.hosts.every(({ host }) => host !== undefined) || undefined,
    port: url.hosts.every(({ port }) => port !== undefined) || undefined,
  }
  const filled = Object.entries(FILLED_BY).filter(
    ([variable, part]) => named[part] === undefined && read.isSet(variable),
  )
  const sent = SENT.filter((variable) => read.isSet(variable))
  return [
    ...filled.map(
      ([variable, part]) =>
        `it names no ${part}, and ${variable} does not count here; put the ${part} into the URL, or unset ${variable}`,
    ),
    ...sent.map(
      (variable) => `${variable} would change every session; unset it, or use ALTER ROLE … SET`,
    ),
    ...(mustVerify ? plaintextFault(url) : []),
    ...sslFileFaults(url, read),
  ]
}

function plaintextFault({ hosts, sslmode }: DatabaseUrl): readonly string[] {
  const other = hosts.find((host) => !isLocal(host))
  if (other === undefined || sslmode === 'verify-full') return []
  const risk =
    sslmode === 'no-verify'
      ? 'sslmode=no-verify takes any server for it'
      : 'the password and all data would cross the network unencrypted'
  return [
    `${shown(other.host ?? '')} is another host, and ${risk}; add sslmode=verify-full (and sslrootcert=/path/of/ca.pem for a CA of your own), or set ALLOW_PLAINTEXT_DATABASE=true`,
  ]
}

/** What could never connect would be tried for ever. */
function sslFileFaults({ sslFiles }: DatabaseUrl, read: EnvReader): readonly string[] {
  const faults: string[] = []
  const content = (key: keyof typeof sslFiles): string | undefined => {
    const path = sslFiles[key]
    if (path === undefined) return undefined
    const text = read.file(path)
    if (text === undefined) faults.push(`its ${key} ${shown(path)} cannot be read`)
    return text
  }
  const ca = content('sslrootcert')
  const cert = content('sslcert')
  const key = content('sslkey')
  if (ca !== undefined && !holds(() => Boolean(new X509Certificate(ca)))) {
    faults.push(`its sslrootcert ${shown(sslFiles.sslrootcert ?? '')} holds no certificate in PEM`)
  }
  const isPair = (certificate: string, privateKey: string) =>
    new X509Certificate(certificate).checkPrivateKey(createPrivateKey(privateKey))
  if (cert !== undefined && key !== undefined && !holds(() => isPair(cert, key))) {
    faults.push(
      `its sslcert ${shown(sslFiles.sslcert ?? '')} and sslkey ${shown(sslFiles.sslkey ?? '')} are no certificate and its key, in PEM and without a passphrase`,
    )
  }
  return faults
}

/** Whether it is true; false where it throws. */
function holds(check: () => boolean): boolean {
  try {
    return check()
  } catch {
    return false
  }
}
