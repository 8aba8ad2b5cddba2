/** GET and DELETE /admin/devices…: the fleet with its last status; never a secret. */

import type { DeviceRow } from '../../db/devices/lists.ts'
import { ALIAS, isUuid } from '../../domain/ids.ts'
import { DEVICE_ORDERS, type DeviceOrder, NEVER_SEEN_AT } from '../../domain/selection/order.ts'
import { parseSelection } from '../../domain/selection/parse.ts'
import type { Selection } from '../../domain/selection/terms.ts'
import { queryEnum, queryInt, queryString } from '../../http/fields.ts'
import { type PageKey, pageOf, readPage } from '../../http/page.ts'
import { type Endpoint, json } from '../../http/route.ts'
import { isSafe } from '../../lib/text.ts'
import { deviceId, deviceJson, deviceUnknown } from './device-json.ts'
import type { Devices } from './feature.ts'

const OFFLINE_FOR_S = { min: 0, max: 31_536_000 } as const
/** A cursor belongs to its order. */
const LIST_NAMES: Readonly<Record<DeviceOrder, string>> = {
  created: 'devices',
  alias: 'devices by alias',
  seen: 'devices by last contact',
}
const KEYS: Readonly<Record<DeviceOrder, (row: DeviceRow) => PageKey>> = {
  created: (row) => ({ at: row.createdAt, id: row.deviceId }),
  alias: (row) => ({ at: row.createdAt, id: row.alias }),
  seen: (row) => ({ at: row.lastSeenAt ?? NEVER_SEEN_AT, id: row.deviceId }),
}

export function listDevicesEndpoint(deps: Devices): Endpoint<'admin'> {
  return {
    async handle({ query }) {
      const order = queryEnum(query, 'order', DEVICE_ORDERS) ?? 'created'
      const page = readPage(query, LIST_NAMES[order], order === 'alias' ? isSafe : isUuid)
      const offlineForS = query.has('offline_for_s')
        ? queryInt(query, 'offline_for_s', OFFLINE_FOR_S, 0)
        : null
      const alias = queryString(query, 'alias', 64, ALIAS) ?? null
      const where = parseSelection(query.get('where') ?? '')
      const selection = [...where, ...filterTerms(alias, offlineForS)]
      const read =
        where.length === 0 && order === 'created'
          ? await deps.devices.list(page, { alias, offlineForS })
          : await deps.devices.select(page, { selection, order }, deps)
      const shown = pageOf(read, page, KEYS[order])
      const devices = shown.rows.map((row) => deviceJson(row, deps))
      return json(200, { devices, next_cursor: shown.nextCursor })
    },
  }
}

/** The filters beside `where` as terms; an alias has no character that needs quotes. */
function filterTerms(alias: string | null, offlineForS: number | null): Selection {
  return [
    ...(alias === null ? [] : parseSelection(`alias:${alias}`)),
    ...(offlineForS === null ? [] : parseSelection(`seen>${offlineForS}s`)),
  ]
}

export function readDeviceEndpoint(deps: Devices): Endpoint<'admin'> {
  return {
    async handle(request) {
      const device = await deps.devices.find(deviceId(request))
      if (device === undefined) throw deviceUnknown()
      request.context.deviceId = device.deviceId
      request.context.alias = device.alias
      return json(200, deviceJson(device, deps))
    },
  }
}

export function deleteDeviceEndpoint(deps: Devices): Endpoint<'admin'> {
  return {
    async handle(request) {
      const id = deviceId(request)
      const isErased = queryEnum(request.query, 'erase', ['true', 'false']) === 'true'
      const { context, admin } = request
      const { requestId, ip } = context
      const by = { admin, requestId, ip, instance: deps.instance }
      const outcome = await deps.devices.delete(id, by, (alias, cancelled) => {
        context.deviceId = id
        context.alias = alias
        for (const { requestId, action } of cancelled) {
          const fields = { action, admin, reason: 'device_deleted' }
          request.log({ event: 'command.cancelled', fields }, requestId)
          deps.commandChanged(requestId)
        }
      })
      if (outcome.kind === 'unknown') throw deviceUnknown()
      if (outcome.kind === 'deleted') request.log({ event: 'device.delete', fields: { admin } })
      if (isErased) {
        const erased = await deps.eraser.erase(id, { admin, requestId, ip })
        if (erased === 'erased') request.log({ event: 'device.erase', fields: { admin } })
      }
      return { kind: 'empty', status: 204 }
    },
  }
}
