/** Makes an admin token and an HMAC secret for the embedded database if the environment sets none, and keeps them. */
import { randomBytes } from 'node:crypto'
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type Config, ConfigError } from '../config/config.ts'
import { errorText } from '../lib/error-text.ts'

/**
 * Fills empty `adminTokens` and `hmacSecrets` from files of `config.dataDir` (mode 0600), which the first start makes and
 * later ones reuse. Prints paths and commands, never a value. In production, and with a database of the operator's,
 * returns the configuration unchanged. Throws ConfigError.
 */
export function firstRunSecrets(config: Config, printNotice: (text: string) => void): Config {
  if (config.isProduction || config.databaseUrl !== null) return config
  const kept = (file: string, what: string): string => {
    const path = join(config.dataDir, file)
    const secret = keptSecret(path)
    printNotice(`${what}: kept in ${path} (show it: cat ${quoted(path)})`)
    return secret
  }
  const adminTokens =
    config.adminTokens.length > 0
      ? config.adminTokens
      : [
          Object.freeze({
            name: 'local',
            scopes: Object.freeze(['admin'] as const),
            secret: kept('admin-token', 'admin token "local"'),
          }),
        ]
  const hmacSecrets =
    config.hmacSecrets.length > 0
      ? config.hmacSecrets
      : [Object.freeze({ id: 'default', secret: kept('hmac-secret', 'HMAC secret "default"') })]
  return Object.freeze({
    ...config,
    adminTokens: Object.freeze(adminTokens),
    hmacSecrets: Object.freeze(hmacSecrets),
  })
}

/** The content of the file; makes a missing one with 32 random bytes as base64url. */
function keptSecret(path: string): string {
  const found = readSecret(path)
  if (found !== undefined) return found
  // Written under another name, then linked: link() never replaces a file, so if two processes start at once only one makes
  // it, and a kill never leaves half a file.
  const draft = `${path}.${randomBytes(6).toString('hex')}`
  try {
    mkdirSync(dirname(path), { recursive: true })
    const text = `${randomBytes(32).toString('base64url')}\n`
    writeFileSync(draft, text, { flag: 'wx', mode: 0o600, flush: true })
    linkSync(draft, path)
  } catch (error) {
    if (!isCode(error, 'EEXIST')) {
      throw unusable(
        `${path} cannot be made (${errorText(error)}): give another directory, which this user may write to`,
      )
    }
  } finally {
    rmSync(draft, { force: true })
  }
  const made = readSecret(path)
  if (made === undefined) throw new Error(`${path} vanished while it was being made`)
  return made
}

/** undefined: there is no such file. */
function readSecret(path: string): string | undefined {
  let secret: string
  try {
    secret = readFileSync(path, 'utf8').trim()
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined
    throw unusable(
      `${path} cannot be read (${errorText(error)}): start as the user that it belongs to, or give another directory`,
    )
  }
  if (/^[\x21-\x7e]{24,}$/.test(secret)) return secret
  throw unusable(
    `${path} holds no secret of at least 24 characters: restore it; with another HMAC secret no enrolled phone is known any more`,
  )
}

function unusable(fault: string): ConfigError {
  return new ConfigError([`DATA_DIR: ${fault}`])
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}

/** Quotes `text` for a shell. */
function quoted(path: string): string {
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`
}
