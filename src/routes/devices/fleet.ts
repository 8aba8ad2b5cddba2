/** GET /admin/fleet: the devices of a selection, counted. */
import type { Facts, FleetSummary } from '../../db/devices/fleet.ts'
import { OPEN_STATUSES } from '../../domain/commands/command.ts'
import { HEARTBEAT_STATUSES } from '../../domain/heartbeat.ts'
import { parseSelection } from '../../domain/selection/parse.ts'
import { PUSH_STATES } from '../../domain/selection/terms.ts'
import { type Endpoint, json } from '../../http/route.ts'
import type { Devices } from './feature.ts'

const BATTERY = ['0-19', '20-49', '50-100', 'unknown'] as const
/** The longest time since the last contact; each counts what the one before does not. */
const LAST_CONTACT = ['5m', '30m', '1d', '7d', 'older', 'never'] as const

export function readFleetEndpoint(deps: Devices): Endpoint<'admin'> {
  return {
    async handle({ query }) {
      const selection = parseSelection(query.get('where') ?? '')
      return json(200, summaryJson(await deps.devices.summarize(selection, deps)))
    },
  }
}

function summaryJson({ at, facts, texts, appVersions, openCommands, openJobs }: FleetSummary) {
  const count = (holds: (each: Facts) => boolean) =>
    facts.filter(holds).reduce((sum, { devices }) => sum + devices, 0)
  const by = (values: readonly string[], pick: (each: Facts) => string) =>
    Object.fromEntries(values.map((value) => [value, count((each) => pick(each) === value)]))
  return {
    at,
    devices: count(() => true),
    online: count(({ isOnline }) => isOnline),
    status: by([...HEARTBEAT_STATUSES, 'unknown'], ({ status }) => status),
    push: by(PUSH_STATES, ({ push }) => push),
    push_lowered: count(({ isPushLowered }) => isPushLowered),
    battery: by(BATTERY, ({ battery }) => battery),
    last_contact: by(LAST_CONTACT, ({ lastContact }) => lastContact),
    app_version: texts.appVersion,
    agent_version: texts.agentVersion,
    app_versions: Object.fromEntries(appVersions),
    model: texts.model,
    android_version: texts.androidVersion,
    network_type: texts.networkType,
    open_commands: Object.fromEntries(
      OPEN_STATUSES.map((status) => [status, openCommands.get(status) ?? 0]),
    ),
    open_jobs: openJobs,
  }
}
