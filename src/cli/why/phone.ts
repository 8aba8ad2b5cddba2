/** Explains why a phone is offline, and lists its open commands. */
import { ago, duration } from './ago.ts'
import { ALIAS, type Api, plain } from './api.ts'
import { type Command, findCommand } from './command.ts'

/** From GET /admin/devices. */
export interface Phone {
  readonly device_id: string
  readonly alias: string
  readonly enrollment_no: number
  readonly enrolled_at: string
  readonly push_token: 'live' | 'dead' | 'none'
  readonly push_kind: 'token' | 'fid' | null
  readonly last_seen_at: string | null
  readonly offline_after_s: number
  readonly last_status: {
    readonly status: string | null
    readonly battery_pct: number | null
    readonly plugged: boolean | null
    readonly network_type: string | null
    readonly app_version: string | null
  }
}

interface Phones {
  readonly devices: readonly Phone[]
  readonly next_cursor: string | null
}

const LOW_BATTERY_PCT = 15
/** Open commands with a verdict, out of the latest COMMANDS. */
const MAX_OPEN = 3
const COMMANDS = 20
const ENDED = ['completed', 'expired', 'cancelled']
const PUSH_TOKEN = {
  live: 'live',
  dead: 'dead, the app was removed or its data cleared; heartbeats still bring commands',
  none: 'none, only heartbeats bring commands',
} as const

const DEVICE_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

export async function findPhoneById(api: Api, deviceId: string): Promise<Phone | undefined> {
  return DEVICE_ID.test(deviceId) ? await api.get(`/admin/devices/${deviceId}`) : undefined
}

/** A phone that was deleted, as the audit log has it. */
export interface DeletedPhone {
  readonly device_id: string
  readonly alias: string
  readonly deleted_at: string
}

interface Deletions {
  readonly audit: readonly { readonly at: string; readonly detail: { readonly alias: string } }[]
}

export async function findDeletedPhone(
  api: Api,
  deviceId: string,
): Promise<DeletedPhone | undefined> {
  if (!DEVICE_ID.test(deviceId)) return undefined
  const id = deviceId.toLowerCase()
  const path = `/admin/audit?subject=${id}&what=device.delete&limit=1`
  const [deletion] = (await api.get<Deletions>(path))?.audit ?? []
  return deletion && { device_id: id, alias: deletion.detail.alias, deleted_at: deletion.at }
}

export async function findPhone(api: Api, alias: string): Promise<Phone | undefined> {
  if (!ALIAS.test(alias)) return undefined
  return (await api.get<Phones>(`/admin/devices?alias=${alias}`))?.devices[0]
}

export async function describePhone(api: Api, phone: Phone): Promise<readonly string[]> {
  const now = api.now()
  const { alias, device_id, enrollment_no, enrolled_at, last_seen_at } = phone
  const times = enrollment_no === 1 ? 'once' : `${enrollment_no} times`
  const superseded =
    enrollment_no === 1 ? '' : '; what it carried before is refused, 401 token_superseded'
  return [
    `phone ${alias} (${device_id}): ${presence(phone, now)}`,
    ...(last_seen_at === null ? [] : [`  it said: ${lastStatus(phone)}`]),
    ...(await whySilent(api, phone)),
    `  push ${phone.push_kind === 'fid' ? 'FID' : 'token'}: ${PUSH_TOKEN[phone.push_token]}`,
    `  enrolled ${times}, ${times === 'once' ? '' : 'last '}${ago(enrolled_at, now)}${superseded}`,
    ...(await waitingFor(api, phone)),
  ].map(plain)
}

function isOffline({ last_seen_at, offline_after_s }: Phone, now: Date): boolean {
  return last_seen_at === null || now.getTime() - Date.parse(last_seen_at) > offline_after_s * 1_000
}

function presence(phone: Phone, now: Date): string {
  const { last_seen_at } = phone
  if (last_seen_at === null) return 'never heard of since it enrolled'
  const heard = `last heard of ${ago(last_seen_at, now)}`
  return isOffline(phone, now) ? `offline, ${heard}` : `online, ${heard}`
}

function lastStatus({ last_status }: Phone): string {
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
async function whySilent(api: Api, phone: Phone): Promise<readonly string[]> {
  if (!isOffline(phone, api.now())) return []
  const { offline_after_s: silentS } = phone
  const silent = await api.get<Phones>(`/admin/devices?offline_for_s=${silentS}&limit=500`)
  const isOther = ({ device_id }: Phone) => device_id !== phone.device_id
  const others = silent?.devices.filter(isOther).length ?? 0
  const most = silent?.next_cursor === null ? '' : 'at least '
  const company = others === 0 ? 'no other phone' : `${most}${others} other phones`
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

async function waitingFor(api: Api, phone: Phone): Promise<readonly string[]> {
  const path = `/admin/commands?device_id=${phone.device_id}&limit=${COMMANDS}`
  const page = await api.get<{ readonly commands: readonly Omit<Command, 'verdict'>[] }>(path)
  const commands = page?.commands ?? []
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
