/** The Google service account that may push: what Google's key file says, and what somebody put in its place. */
import { createPrivateKey } from 'node:crypto'
import type { ServiceAccount } from '../domain/identity.ts'
import { type EnvReader, shown } from './env-reader.ts'

const INLINE = 'FIREBASE_SERVICE_ACCOUNT_JSON'
const PATH = 'GOOGLE_APPLICATION_CREDENTIALS'
const GOOGLE_TOKEN_URI = 'https://oauth2.googleapis.com/token'
const KEY_FILE =
  'the JSON key file of a service account (Firebase console, Project settings, Service accounts)'
const FIELDS = {
  project_id: /^[A-Za-z0-9][A-Za-z0-9.:_-]{0,99}$/,
  client_email: /^[^\s@]+@[^\s@]+$/,
  private_key: /./,
} as const

/** From either variable; null where none is given, or none that can be used. */
export function readServiceAccount(read: EnvReader): ServiceAccount | null {
  const path = read.text(PATH)
  const inline = read.text(INLINE)
  if (path !== undefined && inline !== undefined) {
    read.fault(PATH, `${INLINE} is given too; unset one of them`)
  }
  if (path === undefined) return inline === undefined ? null : parse(read, INLINE, inline)
  if (/^\s*\{/.test(path)) {
    read.fault(PATH, `it holds JSON, not a path; give the JSON as ${INLINE}`)
    return null
  }
  const json = read.content(PATH, path, 'it names')
  return json === undefined ? null : parse(read, PATH, json)
}

function parse(read: EnvReader, name: string, json: string): ServiceAccount | null {
  const fields = fieldsOf(json)
  if (fields === undefined) {
    const isPath = name === INLINE && /^[./]/.test(json)
    const cure = isPath ? `it looks like a path: give it as ${PATH}` : `give ${KEY_FILE}`
    read.fault(name, `${name === PATH ? 'the file holds' : 'it is'} no JSON object; ${cure}`)
    return null
  }
  if ('project_info' in fields) {
    read.fault(name, `it is the app's google-services.json; give ${KEY_FILE}`)
    return null
  }
  const { type = 'service_account', token_uri = GOOGLE_TOKEN_URI } = fields
  if (type !== 'service_account') {
    read.fault(name, `its type is ${shown(String(type))}; give ${KEY_FILE}`)
    return null
  }
  const text = (key: keyof typeof FIELDS) => {
    const value = fields[key]
    return typeof value === 'string' && FIELDS[key].test(value) ? value : undefined
  }
  const [projectId, clientEmail, key] = [
    text('project_id'),
    text('client_email'),
    text('private_key'),
  ]
  if (projectId === undefined || clientEmail === undefined || key === undefined) {
    const missing = (['project_id', 'client_email', 'private_key'] as const).filter(
      (each) => text(each) === undefined,
    )
    read.fault(name, `${missing.join(' and ')} of it missing or unusable; give ${KEY_FILE}`)
    return null
  }
  const privateKey = key.replaceAll('\\n', '\n')
  if (!isRsaKey(privateKey)) {
    read.fault(name, `its private_key is no RSA key in PEM; give ${KEY_FILE}, unchanged`)
  }
  const tokenUri = read.httpsUrl(name, String(token_uri), 'token_uri: ')
  return { projectId, clientEmail, privateKey, tokenUri }
}

function fieldsOf(json: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(json)
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? { ...value } : undefined
  } catch {
    return undefined
  }
}

function isRsaKey(pem: string): boolean {
  try {
    return createPrivateKey(pem).asymmetricKeyType === 'rsa'
  } catch {
    return false
  }
}
