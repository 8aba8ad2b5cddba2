/** Settings with a rule of their own: NODE_ENV, HOST, DATA_DIR, COMMAND_ACTIONS, APK_DEFAULT_BUILD_TYPE, HTTPS_PROXY. */
import { isIP } from 'node:net'
import { resolve } from 'node:path'
import { ACTION, BUILD_TYPE, buildTypeMeant } from '../domain/ids.ts'
import { nearest } from '../lib/nearest.ts'
import { type EnvReader, shown } from './env-reader.ts'

// biome-ignore format: one list
export const DEFAULT_ACTIONS = ['ping', 'launch_app', 'update', 'ring', 'reboot', 'restart_app', 'list_packages']
const MAX_ACTIONS = 64

/** Refuses a typo, which would start an embedded database on a production machine. */
export function readIsProduction(reader: EnvReader): boolean {
  const text = reader.text('NODE_ENV') ?? 'development'
  const isProduction = text === 'production'
  const isMeant = /^pro?d/i.test(text) || nearest(text, ['production']) !== undefined
  if (isMeant && !isProduction) {
    reader.fault('NODE_ENV', `${shown(text)} is not read as production; give production`)
  }
  if (isProduction && reader.foreign('NODE_TLS_REJECT_UNAUTHORIZED') === '0') {
    reader.fault(
      'NODE_ENV',
      'production, with NODE_TLS_REJECT_UNAUTHORIZED=0: FCM and Google would not be verified; unset it',
    )
  }
  return isProduction
}

export function readHost(reader: EnvReader, isProduction: boolean): string {
  const host = reader.text('HOST') ?? (isProduction ? '0.0.0.0' : '127.0.0.1')
  const isName = /^(?![\d.]+$)[A-Za-z0-9._-]{1,253}$/.test(host)
  if (!isName && isIP(host) === 0) {
    const rule = 'an address or a name of this machine, without a port, such as 0.0.0.0'
    reader.fault('HOST', `${shown(host)} cannot be meant; give ${rule}`)
  }
  return host
}

/**
 * Returns an absolute path. Refuses what only a shell would expand (`~`, `$HOME`) and quotes: the service would create a
 * directory of that name and start a new fleet in it.
 */
export function readDataDir(reader: EnvReader): string {
  const path = reader.text('DATA_DIR') ?? 'data'
  if (/^(["'\s~$%]|file:)|\s$/.test(path)) {
    reader.fault(
      'DATA_DIR',
      `${shown(path)} cannot be meant; give a path as it is, such as /var/lib/fleetloop`,
    )
  }
  return resolve(path)
}

export function readCommandActions(reader: EnvReader): readonly string[] {
  const name = 'COMMAND_ACTIONS'
  const given = reader.list(name)
  const unusable = given.filter((action) => !ACTION.test(action))
  if (unusable.length > 0) {
    const names = unusable.slice(0, 5).map(shown).join(', ')
    reader.fault(name, `${names}: give names that match ${ACTION.source}`)
  }
  if (given.length > MAX_ACTIONS) {
    reader.fault(name, `${given.length} actions; give at most ${MAX_ACTIONS}`)
  }
  if (new Set(given).size < given.length) {
    reader.fault(name, 'an action stands there twice; give each once')
  }
  return given.length > 0 ? given : DEFAULT_ACTIONS
}

export function readDefaultBuildType(reader: EnvReader): string {
  const name = 'APK_DEFAULT_BUILD_TYPE'
  const type = reader.matching(name, BUILD_TYPE, 'letters, digits, _ and -, at most 32', 'debug')
  const meant = buildTypeMeant(type)
  if (meant !== undefined) reader.fault(name, `${shown(type)} is not ${meant}; give ${meant}`)
  return type
}

/** Never shown: it may hold a password. */
export function readHttpsProxy(reader: EnvReader): string | null {
  const text = reader.text('HTTPS_PROXY')
  if (text === undefined) return null
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isBare = url !== undefined && url.pathname === '/' && url.search === '' && url.hash === ''
  if (url?.protocol !== 'http:' || url.hostname === '' || !isBare || !isDecodable(url)) {
    reader.fault(
      'HTTPS_PROXY',
      'it is no proxy; give http://host:port, or http://user:password@host:port with both percent-encoded',
    )
    return null
  }
  return url.href
}

function isDecodable({ username, password }: URL): boolean {
  try {
    return decodeURIComponent(username + password) !== undefined
  } catch {
    return false
  }
}
