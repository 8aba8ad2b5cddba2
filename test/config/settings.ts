/** Settings to begin with, and what parsing them gives. */
import { generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Config, ConfigError, parseConfig } from '../../src/config/config.ts'

export const SECRET = 'q7Xv2mRk9sTz4bWc8nYd3fGh6jLp5aVe'
export const OTHER = 'H4uNc8Kz2LwQe7Jr5TmXb9Pd3SyGf6Va'
export const BASE64 = '8Zk3+qWm7/Xv1RtYb5NcLp0sGhJd9Ee2UfAiOo4Tx6Q='
export const PRODUCTION = {
  NODE_ENV: 'production',
  DATABASE_URL:
    'postgres://fleet:pass%40word@db.example:5432/fleet?sslmode=verify-full&password=hidden',
  ADMIN_TOKENS: `ops=${SECRET}`,
  HMAC_SECRET: SECRET,
}
export const PEM = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({
  type: 'pkcs8',
  format: 'pem',
})
export const ACCOUNT = {
  type: 'service_account',
  project_id: 'fleet-1',
  client_email: 'push@fleet-1.iam.gserviceaccount.com',
  private_key: PEM,
}

export type Env = Readonly<Record<string, string | undefined>>

export function parse(env: Env, files: Env = {}): Config {
  return parseConfig(env, (path) => {
    const content = files[path]
    if (content === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' })
    return content
  })
}

export function faults(env: Env, files: Env = {}): readonly string[] {
  try {
    parse(env, files)
  } catch (error) {
    if (error instanceof ConfigError) return error.faults
    throw error
  }
  return []
}

export const example = readFileSync(
  fileURLToPath(new URL('../.env.example', import.meta.resolve('#sql/x'))),
  'utf8',
)

export function verified(query: string): string {
  return `postgres://db.example/d?sslmode=verify-full${query}`
}

export function account(changes: Readonly<Record<string, string>>): string {
  return JSON.stringify({ ...ACCOUNT, ...changes })
}
