/** PATCH /admin/devices/{device_id} and POST /admin/devices/labels: labels of one device, or of a selection. */
import type { LabelledBy } from '../../db/devices/labels.ts'
import { asObject, booleanField } from '../../http/fields.ts'
import { type Endpoint, json, type Request } from '../../http/route.ts'
import { deviceId, deviceJson, deviceUnknown } from './device-json.ts'
import type { Devices } from './feature.ts'
import { readLabelChange } from './label-fields.ts'
import { readSelection } from './selection-fields.ts'

export function changeDeviceEndpoint(deps: Devices): Endpoint<'admin'> {
  return {
    async handle(request) {
      const id = deviceId(request)
      const labels = readLabelChange(asObject(request.body))
      const labelled = await deps.labels.change(id, labels, by(request))
      if (labelled === undefined) throw deviceUnknown()
      const { device, isChanged } = labelled
      const { admin, context } = request
      context.deviceId = id
      context.alias = device.alias
      if (isChanged) {
        request.log({ event: 'device.label', fields: { admin, devices: 1 } })
      }
      return json(200, deviceJson(device, deps))
    },
  }
}

export function labelSelectionEndpoint(deps: Devices): Endpoint<'admin'> {
  return {
    async handle(request) {
      const body = asObject(request.body)
      const change = { ...readSelection(body), labels: readLabelChange(body) }
      const isDryRun = booleanField(body, 'dry_run') ?? false
      const { devices, changed, sample } = isDryRun
        ? await deps.labels.preview(change, deps)
        : await deps.labels.changeSelected(change, deps, by(request))
      if (!isDryRun && changed > 0) {
        const { admin } = request
        request.log({ event: 'device.label', fields: { admin, devices: changed } })
      }
      return json(200, { devices, changed, dry_run: isDryRun, sample })
    },
  }
}

function by({ admin, context }: Request<'admin'>): LabelledBy {
  return { admin, requestId: context.requestId, ip: context.ip }
}
