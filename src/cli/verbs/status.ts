/** `status`: the fleet in one screen, each line with the command that digs deeper. */
import type { Api } from '../api/client.ts'
import type { CommandStatus, Device } from '../api/openapi.ts'
import { pages } from '../api/pages.ts'
import { duration } from '../terminal/ago.ts'
import { clip, jsonLine, visible } from '../terminal/text.ts'
import { type Context, EXIT, type Verb } from '../verb.ts'
import { findDevices } from '../where.ts'
import { liveBuilds } from '../why/apk.ts'
import { isLowered, isOffline } from '../why/phone.ts'

const OPEN: readonly CommandStatus[] = ['queued', 'sent', 'delivered', 'push_failed']
/** Values of a line; the rest is summed up. */
const MOST_VALUES = 4
const LOW_BATTERY_PCT = 15
/** Of each status; more are not counted. */
const MOST_COMMANDS = 10_000
const YELLOW = '33'

export const statusVerb: Verb = {
  name: 'status',
  summary: 'show the service and the fleet in one screen',
  words: '',
  count: [0, 0],
  options: {},
  calls: ['healthz', 'readyz', 'listDevices', 'listCommands', 'listBuilds'],
  examples: ['status', 'status --json'],
  notes: ['Exit code 3 while the service is not ready.'],
  async run(context) {
    const { terminal, isJson } = context
    const api = context.api()
    const { version } = await api.call('healthz', {})
    const reasons = await api.unreadiness()
    if (reasons.length > 0) {
      await terminal.print(`service   not ready, version ${version}, ${api.origin}`)
      for (const reason of reasons) await terminal.print(`          ${reason}`)
      return EXIT.unavailable
    }
    const picture = await read(api, context)
    if (isJson) {
      await terminal.print(jsonLine({ version, ...picture }))
      return EXIT.ok
    }
    await terminal.print(line(context, 'service', `ready, version ${version}`, api.origin))
    for (const [name, text, more, isWarning = false] of linesOf(picture)) {
      const shown = line(context, name, text, more)
      await terminal.print(isWarning ? terminal.paint(shown, YELLOW) : shown)
    }
    return EXIT.ok
  },
}

interface Picture {
  readonly devices: number
  readonly online: number
  readonly offline: number
  readonly offline_after_s: number
  readonly never_seen: number
  readonly battery_low: number
  readonly unwell: number
  readonly push: Readonly<Record<string, number>>
  /** Whose messages FCM has lately delivered at lowered priority. */
  readonly push_lowered: number
  readonly app_versions: Readonly<Record<string, number>>
  readonly open_commands: Readonly<Record<string, number>>
  readonly live_builds: readonly string[]
}

async function read(api: Api, { terminal }: Context): Promise<Picture> {
  const devices: Device[] = []
  for await (const { items } of findDevices(api, '')) {
    devices.push(...items)
    terminal.progress(`${devices.length} phones read`)
  }
  const open: Record<string, number> = {}
  for (const status of OPEN) {
    let count = 0
    const found = pages(api, 'listCommands', 'commands', { status }, MOST_COMMANDS)
    for await (const { items } of found) count += items.length
    if (count > 0) open[status] = count
  }
  const builds = await liveBuilds(api)
  terminal.progress('')
  const now = api.now()
  const offline = devices.filter((device) => isOffline(device, now))
  const isLow = ({ last_status: { battery_pct, plugged } }: Device) =>
    battery_pct !== null && battery_pct <= LOW_BATTERY_PCT && plugged !== true
  return {
    devices: devices.length,
    online: devices.length - offline.length,
    offline: offline.length,
    offline_after_s: devices[0]?.offline_after_s ?? 0,
    never_seen: devices.filter(({ last_seen_at }) => last_seen_at === null).length,
    battery_low: devices.filter(isLow).length,
    unwell: devices.filter(({ last_status: { status } }) => status !== null && status !== 'ok')
      .length,
    push: countsOf(devices.map(({ push_token }) => push_token)),
    push_lowered: devices.filter((device) => isLowered(device, now)).length,
    app_versions: countsOf(devices.map(({ last_status }) => last_status.app_version ?? 'unknown')),
    open_commands: open,
    live_builds: builds.map(
      ({ build_type, build_id, version_code }) => `${build_type} ${build_id} (${version_code})`,
    ),
  }
}

/** As `seen>` takes it. */
function durationOf(seconds: number): string {
  return seconds % 60 === 0 ? `${seconds / 60}m` : `${seconds}s`
}

type Line = readonly [name: string, text: string, more: string, isWarning?: boolean]

function linesOf(picture: Picture): readonly Line[] {
  const { devices, online, offline, offline_after_s, live_builds } = picture
  const silence = `fleetloop devices 'seen>${durationOf(offline_after_s)}'`
  const open = Object.values(picture.open_commands).reduce((sum, count) => sum + count, 0)
  const failed = picture.open_commands['push_failed'] ?? 0
  const never = picture.never_seen === 0 ? '' : `, ${picture.never_seen} of them never heard of`
  const warnings: readonly (Line | false)[] = [
    offline > 0 && [
      'attention',
      `${offline} silent for ${duration(offline_after_s * 1_000)} or more${never}`,
      silence,
      true,
    ],
    picture.battery_low > 0 && [
      'attention',
      `${picture.battery_low} with a battery of ${LOW_BATTERY_PCT} % or less, not plugged in`,
      'fleetloop devices',
      true,
    ],
    picture.unwell > 0 && [
      'attention',
      `${picture.unwell} report warn or error`,
      'fleetloop devices',
      true,
    ],
    picture.push_lowered > 0 && [
      'attention',
      `${picture.push_lowered} with lowered push priority: show notifications or beat more often`,
      '',
      true,
    ],
    failed > 0 && [
      'attention',
      `${failed} open commands whose push failed`,
      'fleetloop commands --status push_failed',
      true,
    ],
  ]
  return [
    ['phones', `${devices}: ${online} online, ${offline} offline`, 'fleetloop devices'],
    ['app', summaryOf(picture.app_versions), 'fleetloop devices'],
    ['push', summaryOf(picture.push), ''],
    [
      'commands',
      open === 0 ? 'none open' : `${open} open: ${summaryOf(picture.open_commands)}`,
      'fleetloop commands',
    ],
    ['builds', live_builds.map(visible).join(', ') || 'none is live', 'fleetloop builds'],
    ...warnings.filter((warning) => warning !== false),
  ]
}

/** The command comes at the end where there is room for it. */
function line({ terminal }: Context, name: string, text: string, more: string): string {
  const said = `${name.padEnd(NAME_WIDTH)}${text}`
  if (more === '') return clip(said, terminal.width ?? Number.POSITIVE_INFINITY)
  if (terminal.width === undefined) return `${said}  (${more})`
  const room = terminal.width - more.length - 4
  return room > MIN_TEXT ? `${clip(said, room)}  (${more})` : clip(said, terminal.width)
}

const NAME_WIDTH = 11
const MIN_TEXT = 30

function countsOf(values: readonly string[]): Readonly<Record<string, number>> {
  const counts = new Map<string, number>()
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1)
  return Object.fromEntries([...counts].toSorted(([, a], [, b]) => b - a))
}

/** `1.0.25 40, 1.0.24 2`, the commonest first. */
function summaryOf(counts: Readonly<Record<string, number>>): string {
  const all = Object.entries(counts)
  const rest = all.slice(MOST_VALUES).reduce((sum, [, count]) => sum + count, 0)
  const parts = all.slice(0, MOST_VALUES).map(([value, count]) => `${visible(value)} ${count}`)
  return [...parts, ...(rest > 0 ? [`others ${rest}`] : [])].join(', ') || 'none'
}
