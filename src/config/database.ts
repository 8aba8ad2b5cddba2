/** The URLs of the database: what they say, where they lead, and what the environment would add to them. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import {
  type DatabaseUrl,
  DatabaseUrlError,
  isLocal,
  parseDatabaseUrl,
} from '../db/postgres/database-url.ts'
import { type EnvReader, shown } from './env-reader.ts'

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

/** Returns the reader of one URL. In production, other hosts need TLS that verifies, unless ALLOW_PLAINTEXT_DATABASE is true. */
export function readDatabaseUrl(
  name: string,
): (reader: EnvReader, isProduction: boolean) => string | null {
  return (reader, isProduction) => {
    const mustVerify = !reader.flag('ALLOW_PLAINTEXT_DATABASE', false) && isProduction
    const text = reader.text(name)
    if (text === undefined) return null
    try {
      const url = parseDatabaseUrl(text)
      for (const fault of faultsOf(url, reader, mustVerify)) reader.fault(name, fault)
    } catch (error) {
      if (!(error instanceof DatabaseUrlError)) throw error
      reader.fault(name, error.message)
    }
    return text
  }
}

/** Without the password. The directory of a socket is percent-encoded. */
export function maskedUrl(text: string): string {
  const { hosts, user, database, sslmode } = parseDatabaseUrl(text)
  const addresses = hosts.map(({ host = 'localhost', port = 5432 }) => {
    return `${host.includes(':') ? `[${host}]` : encodeURIComponent(host)}:${port}`
  })
  const front = user === undefined ? '' : `${encodeURIComponent(user)}@`
  return `postgres://${front}${addresses.join(',')}/${database ?? ''}?sslmode=${sslmode ?? 'disable'}`
}

function faultsOf(url: DatabaseUrl, reader: EnvReader, mustVerify: boolean): readonly string[] {
  const named = {
    ...url,
    host: url.hosts.every(({ host }) => host !== undefined) || undefined,
    port: url.hosts.every(({ port }) => port !== undefined) || undefined,
  }
  const filled = Object.entries(FILLED_BY).filter(
    ([variable, part]) => named[part] === undefined && reader.foreign(variable),
  )
  const sent = SENT.filter((variable) => reader.foreign(variable))
  return [
    ...filled.map(
      ([variable, part]) =>
        `it names no ${part}, and ${variable} does not count here; put the ${part} into the URL, or unset ${variable}`,
    ),
    ...sent.map(
      (variable) => `${variable} would change every session; unset it, or use ALTER ROLE … SET`,
    ),
    ...(mustVerify ? plaintextFault(url) : []),
    ...sslFileFaults(url, reader),
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

/** Without these checks the service would retry a connection that can never succeed. */
function sslFileFaults({ sslFiles }: DatabaseUrl, reader: EnvReader): readonly string[] {
  const faults: string[] = []
  const content = (key: keyof typeof sslFiles): string | undefined => {
    const path = sslFiles[key]
    if (path === undefined) return undefined
    const text = reader.file(path)
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
