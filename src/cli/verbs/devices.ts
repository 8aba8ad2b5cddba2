/** `devices` and `device`: the phones, and everything of one. */
import type { Device } from '../api/openapi.ts'
import { duration } from '../terminal/ago.ts'
import { agoOrNever, minute, onePage, printList } from '../terminal/list.ts'
import { type Cell, factLines } from '../terminal/table.ts'
import { jsonLine, visible } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'
import { EXIT, type Verb } from '../verb.ts'
import { findDevices, type Order, WHERE_NOTES, whereOf } from '../where.ts'
import { findDevice, presence } from '../why/phone.ts'
import { commandList } from './commands.ts'

const COMMANDS = 5
const ORDERS: readonly Order[] = ['alias', 'created', 'seen']

const percent = (value: number | null) => (value === null ? null : `${value} %`)

const deviceList = (now: () => Date) => ({
  columns: [
    { title: 'ALIAS' },
    { title: 'STATE', isFixed: true },
    { title: 'LAST SEEN', isFixed: true },
    { title: 'BATTERY', align: 'right', isFixed: true },
    { title: 'NETWORK' },
    { title: 'STATUS' },
    { title: 'APP' },
    { title: 'PUSH', isFixed: true },
    { title: 'MODEL' },
    { title: 'ANDROID' },
    { title: 'DEVICE ID', isFixed: true },
  ] as const,
  nothing: 'No phone matches.',
  row: (device: Device): readonly Cell[] => {
    const { alias, last_seen_at, last_status, push_token, model } = device
    const { battery_pct, network_type, status, app_version } = last_status
    return [
      ...[alias, presence(device, now()), agoOrNever(last_seen_at, now()), percent(battery_pct)],
      ...[network_type, status, app_version, push_token, model],
      ...[device.android_version, device.device_id],
    ]
  },
})

export const devicesVerb: Verb = {
  name: 'devices',
  summary: 'list phones with what they last said',
  words: '[WHERE …]',
  count: [0, 16],
  options: { order: { value: 'ORDER', help: 'alias (default), created, seen; the latest first' } },
  calls: ['listDevices'],
  examples: ['devices', "devices 'STORE-*' 'battery<20'", "devices 'seen>30m'", 'devices --json'],
  notes: WHERE_NOTES,
  async run(context) {
    const api = context.api()
    const where = whereOf(context.args.words)
    const order = orderOf(context.args.text('order'))
    await printList(context, deviceList(api.now), findDevices(api, where, order))
    return EXIT.ok
  },
}

function orderOf(text = 'alias'): Order {
  const order = ORDERS.find((each) => each === text)
  if (order === undefined) throw new UsageError(`--order takes ${ORDERS.join(', ')}.`)
  return order
}

export const deviceVerb: Verb = {
  name: 'device',
  summary: 'show everything of one phone, and its last commands',
  words: 'ALIAS | DEVICE_ID',
  count: [1, 1],
  options: {},
  calls: ['listDevices', 'readDevice', 'listCommands'],
  examples: ['device D01', 'device D01 --json'],
  async run(context) {
    const { terminal, args, isJson } = context
    const api = context.api()
    const [name = ''] = args.words
    const device = await findDevice(api, name)
    if (device === undefined) {
      terminal.note(`No phone has the name ${visible(name)}. fleetloop why ${visible(name)}`)
      return EXIT.no
    }
    if (isJson) {
      await terminal.print(jsonLine(device))
      return EXIT.ok
    }
    for (const line of factLines(factsOf(device, api.now()), terminal.width)) {
      await terminal.print(line)
    }
    const query = { device_id: device.device_id, limit: COMMANDS }
    const { commands } = await api.call('listCommands', { query })
    await terminal.print('')
    await printList(
      context,
      { ...commandList(api.now), nothing: 'No command was ever sent to it.' },
      onePage(commands),
    )
    return EXIT.ok
  },
}

function factsOf(device: Device, now: Date): readonly (readonly [string, Cell])[] {
  const { last_status: last, last_seen_at } = device
  const hardware = [device.manufacturer, device.model].filter((part) => part !== null).join(' ')
  return [
    ['alias', device.alias],
    ['device id', device.device_id],
    ['hardware id', device.hardware_id],
    ['model', hardware],
    ['Android', device.android_version],
    ['SDK', device.sdk_int],
    [
      'labels',
      Object.entries(device.labels)
        .map((pair) => pair.join('='))
        .join(' '),
    ],
    ['enrolled', `${minute(device.enrolled_at)}, enrollment ${device.enrollment_no}`],
    ...(device.deleted_at === null ? [] : [['deleted', minute(device.deleted_at)] as const]),
    ['state', `${presence(device, now)}, last seen ${agoOrNever(last_seen_at, now)}`],
    ['push token', device.push_token],
    ['status', last.status],
    ['battery', batteryOf(last)],
    ['network', last.network_type],
    ['signal', last.signal_dbm === null ? null : `${last.signal_dbm} dBm`],
    ['temperature', last.temp_c === null ? null : `${last.temp_c} °C`],
    ['memory used', last.ram_used_mb === null ? null : `${last.ram_used_mb} MB`],
    ['up for', last.uptime_s === null ? null : duration(last.uptime_s * 1_000)],
    ['app', last.app_version],
    ['agent', last.agent_version],
  ]
}

function batteryOf({ battery_pct, plugged }: Device['last_status']): Cell {
  if (battery_pct === null || plugged === null) return percent(battery_pct)
  return `${battery_pct} %, ${plugged ? 'plugged in' : 'not plugged in'}`
}
