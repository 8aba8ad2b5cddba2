/** `history`: the heartbeats of a phone, in steps, with the battery as a line. */
import type { Operations } from '../api/openapi.ts'
import { minute, onePage, printList, secondsOf, timeAfter } from '../terminal/list.ts'
import { visible } from '../terminal/text.ts'
import { EXIT, type Verb } from '../verb.ts'
import { findDevice } from '../why/phone.ts'

type Steps = Extract<Operations['readHeartbeats']['response'], { readonly steps: unknown }>['steps']

const DAY_S = 86_400
/** Rows that the step is chosen for. */
const ROWS = 48
/** Seconds that divide a day, as the API wants. */
const STEPS = [60, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400]
const BARS = [...'▁▂▃▄▅▆▇█']

export const historyVerb: Verb = {
  name: 'history',
  summary: "show a phone's heartbeats over time, with its battery as a line",
  words: 'ALIAS | DEVICE_ID',
  count: [1, 1],
  options: { since: { value: '2d', help: 'how far back; default 1d' } },
  calls: ['readHeartbeats', 'listDevices', 'readDevice'],
  examples: ['history D01', 'history D01 --since 2d --json'],
  async run(context) {
    const { args, terminal, isJson } = context
    const [name = ''] = args.words
    const sinceS = secondsOf(args.text('since'), '--since', DAY_S)
    const api = context.api()
    const device = await findDevice(api, name)
    if (device === undefined) {
      terminal.note(`No phone has the name ${visible(name)}.`)
      return EXIT.no
    }
    const step_s = STEPS.find((step) => step >= sinceS / ROWS) ?? DAY_S
    const since = timeAfter(-sinceS, api.now())
    const page = await api.call('readHeartbeats', {
      path: { device_id: device.device_id },
      query: { since, step_s, limit: 500 },
    })
    const steps = 'steps' in page ? page.steps : []
    if (!isJson && steps.length > 0) await terminal.print(batteryLine(steps, terminal.width))
    await printList(context, LIST, onePage(steps))
    return EXIT.ok
  },
}

const LIST = {
  columns: [
    { title: 'FROM (UTC)', isFixed: true },
    { title: 'BEATS', align: 'right', isFixed: true },
    { title: 'BATTERY', align: 'right', isFixed: true },
    { title: 'STATUS' },
    { title: 'NETWORK' },
    { title: 'APP' },
  ] as const,
  nothing: 'No heartbeat is kept from that time.',
  row: ({ from, heartbeats, min, max, last }: Steps[number]) => [
    ...[minute(from), heartbeats, rangeOf(min.battery_pct, max.battery_pct)],
    ...[last.status, last.network_type, last.app_version],
  ],
}

function rangeOf(least: number | null, most: number | null): string | null {
  if (least === null || most === null) return null
  return least === most ? `${least} %` : `${least}-${most} %`
}

/** The oldest step first, a space for an unknown value; on a terminal the newest that fit. */
function batteryLine(steps: Steps, width = Number.POSITIVE_INFINITY): string {
  const values = steps.map(({ last }) => last.battery_pct).toReversed()
  const bars = values.map((value) =>
    value === null ? ' ' : BARS[Math.min(BARS.length - 1, Math.floor((value * BARS.length) / 100))],
  )
  return `battery ${bars.slice(-Math.max(1, width - 'battery '.length)).join('')}`
}
