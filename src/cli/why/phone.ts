/** Explains why a phone is offline, and lists its open commands. */
import type { Api } from '../api/client.ts'
import type { Device } from '../api/openapi.ts'
import { ago, duration } from '../terminal/ago.ts'
import { plain } from '../terminal/text.ts'
import { findCommand } from './command.ts'

/** The form of an alias. Other names are not looked up as one. */
export const ALIAS = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

/** The form of the ids of phones and tokens. */
export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

const LOW_BATTERY_PCT = 15
const LOWERED_LATELY_MS = 7 * 86_400_000
/** Open commands with a verdict, out of the latest COMMANDS. */
const MAX_OPEN = 3
const COMMANDS = 20
const ENDED = ['completed', 'expired', 'cancelled']
const PUSH_TOKEN = {
  live: 'live',
  dead: 'dead, the app was removed or its data cleared; heartbeats still bring commands',
  none: 'none, only heartbeats bring commands',
} as const

export async function findPhoneById(api: Api, deviceId: string): Promise<Device | undefined> {
  if (!UUID.test(deviceId)) return undefined
  return await api.find('readDevice', { path: { device_id: deviceId } })
}

/** A phone that was deleted, as the audit log has it. */
export interface DeletedPhone {
  readonly device_id: string
  readonly alias: string
  readonly deleted_at: string
}

export async function findDeletedPhone(
  api: Api,
  deviceId: string,
): Promise<DeletedPhone | undefined> {
  if (!UUID.test(deviceId)) return undefined
  const id = deviceId.toLowerCase()
  const query = { subject: id, what: 'device.delete', limit: 1 } as const
  const [deletion] = (await api.call('audit', { query })).audit
  const alias = deletion?.detail?.['alias']
  return deletion && { device_id: id, alias: String(alias), deleted_at: deletion.at }
}

export async function findPhone(api: Api, alias: string): Promise<Device | undefined> {
  if (!ALIAS.test(alias)) return undefined
  return (await api.call('listDevices', { query: { alias } })).devices[0]
}

/** By id or by alias, deleted ones only by id. */
export async function findDevice(api: Api, name: string): Promise<Device | undefined> {
  return (await findPhoneById(api, name)) ?? (await findPhone(api, name))
}

export async function describePhone(api: Api, phone: Device): Promise<readonly string[]> {
  const now = api.now()
  const { alias, device_id, enrollment_no, enrolled_at, last_seen_at } = phone
  const times = enrollment_no === 1 ? 'once' : `${enrollment_no} times`
  const superseded =
    enrollment_no === 1 ? '' : '; what it carried before is refused, 401 token_superseded'
  return [
    `phone ${alias} (${device_id}): ${lastContact(phone, now)}`,
    ...(last_seen_at === null ? [] : [`  it said: ${lastStatus(phone)}`]),
    ...(await whySilent(api, phone)),
    `  push ${phone.push_kind === 'fid' ? 'FID' : 'token'}: ${PUSH_TOKEN[phone.push_token]}${lowered(phone, now)}`,
    `  enrolled ${times}, ${times === 'once' ? '' : 'last '}${ago(enrolled_at, now)}${superseded}`,
    ...(await waitingFor(api, phone)),
  ].map(plain)
}

export function isOffline({ last_seen_at, offline_after_s }: Device, now: Date): boolean {
  return last_seen_at === null || now.getTime() - Date.parse(last_seen_at) > offline_after_s * 1_000
}

export function presence(device: Device, now: Date): 'offline' | 'online' {
  return isOffline(device, now) ? 'offline' : 'online'
}

/** As the verdict says it: FCM judges an app by its last seven days. */
export function isLowered({ push_lowered_at: at }: Device, now: Date): boolean {
  return at !== null && now.getTime() - Date.parse(at) <= LOWERED_LATELY_MS
}

function lowered(phone: Device, now: Date): string {
  if (phone.push_lowered_at === null || !isLowered(phone, now)) return ''
  return `; FCM lowers the priority of its messages, last ${ago(phone.push_lowered_at, now)}`
}

function lastContact(phone: Device, now: Date): string {
  const { last_seen_at } = phone
  if (last_seen_at === null) return 'never heard of since it enrolled'
  const heard = `last heard of ${ago(last_seen_at, now)}`
  return `${presence(phone, now)}, ${heard}`
}

function lastStatus({ last_status }: Device): string {
  const { status, battery_pct, plugged, network_type, app_version } = last_status
  const power = plugged === null ? '' : plugged ? ', plugged in' : ', not plugged in'
  return [
    status ?? 'status unknown',
    battery_pct === null ? null : `battery ${battery_pct} %${power}`,
    network_type,
    app_version === null ? null : `app ${app_version}`,
  ]
    .filter((part) => part !== null)
    .join(', ')
}

/** Helps to tell a dead phone from a dead network or a dead service. */
async function whySilent(api: Api, phone: Device): Promise<readonly string[]> {
  if (!isOffline(phone, api.now())) return []
  const { offline_after_s: silentS } = phone
  const silent = await api.call('listDevices', { query: { offline_for_s: silentS, limit: 500 } })
  const isOther = ({ device_id }: Device) => device_id !== phone.device_id
  const others = silent.devices.filter(isOther).length
  const most = silent.next_cursor === null ? '' : 'at least '
  const many = others === 1 ? '1 other phone' : `${most}${others} other phones`
  const company = others === 0 ? 'no other phone' : many
  const { battery_pct, plugged } = phone.last_status
  const isEmpty = battery_pct !== null && battery_pct <= LOW_BATTERY_PCT && plugged !== true
  return [
    ...(isEmpty ? ['  its battery was low: likely empty'] : []),
    ...(phone.last_seen_at === null
      ? ['  no heartbeat of it ever came: its network, its clock, the URL it was given']
      : []),
    `  as long silent, ${duration(silentS * 1_000)} or more: ${company}`,
    `  is it refused? jq -c 'select(.alias == "${phone.alias}" and .status_code >= 400)' "$LOG"`,
  ]
}

async function waitingFor(api: Api, phone: Device): Promise<readonly string[]> {
  const query = { device_id: phone.device_id, limit: COMMANDS }
  const { commands } = await api.call('listCommands', { query })
  const open = commands.filter(({ status }) => !ENDED.includes(status))
  if (open.length === 0) {
    const [last] = commands
    if (last === undefined) return ['  no command was ever sent to it']
    const { request_id, action, status, created_at } = last
    return [
      `  no open command; the last: ${request_id} (${action}, ${status}), ${ago(created_at, api.now())}`,
    ]
  }
  const lines: string[] = []
  for (const { request_id, action, created_at } of open.slice(0, MAX_OPEN)) {
    const verdict = (await findCommand(api, request_id))?.verdict
    const asked = `${request_id} (${action}, ${ago(created_at, api.now())})`
    lines.push(`  open command ${asked}: ${verdict?.code}: ${verdict?.detail}`)
  }
  const more = open.length - lines.length
  return more > 0 ? [...lines, `  and ${more} more open commands`] : lines
}
