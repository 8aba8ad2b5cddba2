/** GET /admin/devices/{device_id}/heartbeats: what a device reported, heartbeat by heartbeat or in steps of time. */
import type { HistoryRow, HistoryStep, NumberName } from '../../db/heartbeats/history.ts'
import { invalidField } from '../../domain/errors.ts'
import { STATUS_FIELDS, STATUS_NAMES, type StatusName } from '../../domain/heartbeat.ts'
import { queryInt, queryTimeRange } from '../../http/fields.ts'
import { listReply, pageOf, readPage } from '../../http/page.ts'
import { type Endpoint, json } from '../../http/route.ts'
import { deviceId, deviceUnknown, statusJson } from './device-json.ts'
import type { Devices } from './feature.ts'

const DAY_S = 86_400
const STEP_S = { min: 60, max: DAY_S } as const
const LIST = 'heartbeats'

/** `seq` of a heartbeat: 0, or random. */
const isSeq = (id: string) => /^\d{1,9}$|^[12]\d{9}$/.test(id) && Number(id) < 2 ** 31

export function readHistoryEndpoint(deps: Devices): Endpoint<'admin'> {
  return {
    async handle(request) {
      const { query, context } = request
      const id = deviceId(request)
      const stepS = readStep(query)
      const page = readPage(query, stepS === undefined ? LIST : `${LIST} by ${stepS} s`, isSeq)
      const filter = queryTimeRange(query)
      const device = await deps.devices.find(id)
      if (device === undefined) throw deviceUnknown()
      context.deviceId = id
      context.alias = device.alias
      if (stepS === undefined) {
        const read = await deps.history.read(id, page, filter)
        return listReply(read, page, ({ bucket, seq }) => ({ at: bucket, id: `${seq}` }), rowJson)
      }
      const read = await deps.history.steps(id, page, filter, stepS)
      const shown = pageOf(read, page, ({ from }) => ({ at: from, id: '0' }))
      return json(200, { steps: shown.rows.map(stepJson), next_cursor: shown.nextCursor })
    },
  }
}

/** Steps begin at midnight UTC, so that each lies within one day. */
function readStep(query: URLSearchParams): number | undefined {
  if (!query.has('step_s')) return undefined
  const stepS = queryInt(query, 'step_s', STEP_S, DAY_S)
  if (DAY_S % stepS === 0) return stepS
  throw invalidField('step_s', 'must divide a day, such as 300, 900, 3600 or 86400')
}

function rowJson(row: HistoryRow) {
  return {
    received_at: row.receivedAt,
    reported_at: row.reportedAt,
    ...statusJson(row),
    request_id: row.requestId,
  }
}

function stepJson({ from, heartbeats, min, max, last }: HistoryStep) {
  return { from, heartbeats, min: numbersJson(min), max: numbersJson(max), last: rowJson(last) }
}

function numbersJson(numbers: Readonly<Record<NumberName, number | null>>) {
  const values: Readonly<Partial<Record<StatusName, number | null>>> = numbers
  return Object.fromEntries(
    STATUS_NAMES.flatMap((name) =>
      name in values ? [[STATUS_FIELDS[name].column, values[name]]] : [],
    ),
  )
}
