/** Gives each row of the route table its code, and each feature's endpoints what they use. */
import type { Route } from '../http/route.ts'
import {
  downloadBuildEndpoint,
  listBuildsEndpoint,
  releaseBuildEndpoint,
  withdrawBuildEndpoint,
} from './apks/builds.ts'
import { downloadLatestEndpoint, downloadOfferedEndpoint } from './apks/download-latest.ts'
import type { Apks } from './apks/feature.ts'
import { uploadBuildEndpoint } from './apks/upload.ts'
import {
  cancelCommandEndpoint,
  listCommandsEndpoint,
  readCommandEndpoint,
} from './commands/commands.ts'
import type { Commands } from './commands/feature.ts'
import { resultEndpoint } from './commands/result.ts'
import { sendCommandEndpoint } from './commands/send.ts'
import { deleteDeviceEndpoint, listDevicesEndpoint, readDeviceEndpoint } from './devices/devices.ts'
import type { Devices } from './devices/feature.ts'
import { readFleetEndpoint } from './devices/fleet.ts'
import { heartbeatEndpoint } from './devices/heartbeat.ts'
import { readHistoryEndpoint } from './devices/history.ts'
import { changeDeviceEndpoint, labelSelectionEndpoint } from './devices/labels.ts'
import { pushIdEndpoint } from './devices/push-id.ts'
import type { Enrollment } from './enrollment/feature.ts'
import { registerEndpoint } from './enrollment/register.ts'
import {
  createTokensEndpoint,
  listTokensEndpoint,
  revokeTokenEndpoint,
} from './enrollment/tokens.ts'
import { readEventsEndpoint } from './events/events.ts'
import type { Events } from './events/feature.ts'
import { createJobEndpoint } from './jobs/create.ts'
import type { Jobs } from './jobs/feature.ts'
import {
  controlJobEndpoint,
  listJobsEndpoint,
  listMembersEndpoint,
  readJobEndpoint,
} from './jobs/jobs.ts'
import { listAuditEndpoint } from './operations/audit.ts'
import type { Operations } from './operations/feature.ts'
import {
  healthzEndpoint,
  metricsEndpoint,
  openApiEndpoint,
  readyzEndpoint,
} from './operations/monitoring.ts'
import { ROUTES } from './table.ts'

export interface Features {
  readonly devices: Devices
  readonly enrollment: Enrollment
  readonly commands: Commands
  readonly jobs: Jobs
  readonly apks: Apks
  readonly events: Events
  readonly operations: Operations
}

type GuardOf<Name extends keyof typeof ROUTES> = (typeof ROUTES)[Name]['guard']
type Endpoints = {
  readonly [Name in keyof typeof ROUTES]: Extract<Route, { readonly guard: GuardOf<Name> }>
}

/** In the order of the table. */
export function routesOf(features: Features): readonly Route[] {
  const { devices, enrollment, commands, jobs, apks, events, operations } = features
  const { metrics, ...served }: Endpoints = {
    register: { ...ROUTES.register, ...registerEndpoint(enrollment) },
    heartbeat: { ...ROUTES.heartbeat, ...heartbeatEndpoint(devices) },
    actionResult: { ...ROUTES.actionResult, ...resultEndpoint(commands) },
    deviceAck: { ...ROUTES.deviceAck, ...resultEndpoint(commands) },
    ack: { ...ROUTES.ack, ...resultEndpoint(commands) },
    pushToken: { ...ROUTES.pushToken, ...pushIdEndpoint(devices) },
    pushId: { ...ROUTES.pushId, ...pushIdEndpoint(devices) },
    downloadLatest: { ...ROUTES.downloadLatest, ...downloadLatestEndpoint(apks) },
    downloadOffered: { ...ROUTES.downloadOffered, ...downloadOfferedEndpoint() },
    createTokens: { ...ROUTES.createTokens, ...createTokensEndpoint(enrollment) },
    listTokens: { ...ROUTES.listTokens, ...listTokensEndpoint(enrollment) },
    revokeToken: { ...ROUTES.revokeToken, ...revokeTokenEndpoint(enrollment) },
    sendCommand: { ...ROUTES.sendCommand, ...sendCommandEndpoint(commands) },
    createCommand: { ...ROUTES.createCommand, ...sendCommandEndpoint(commands) },
    listCommands: { ...ROUTES.listCommands, ...listCommandsEndpoint(commands) },
    readCommand: { ...ROUTES.readCommand, ...readCommandEndpoint(commands) },
    cancelCommand: { ...ROUTES.cancelCommand, ...cancelCommandEndpoint(commands) },
    createJob: { ...ROUTES.createJob, ...createJobEndpoint(jobs) },
    listJobs: { ...ROUTES.listJobs, ...listJobsEndpoint(jobs) },
    readJob: { ...ROUTES.readJob, ...readJobEndpoint(jobs) },
    listMembers: { ...ROUTES.listMembers, ...listMembersEndpoint(jobs) },
    pauseJob: { ...ROUTES.pauseJob, ...controlJobEndpoint(jobs, 'pause') },
    resumeJob: { ...ROUTES.resumeJob, ...controlJobEndpoint(jobs, 'resume') },
    abortJob: { ...ROUTES.abortJob, ...controlJobEndpoint(jobs, 'abort') },
    listDevices: { ...ROUTES.listDevices, ...listDevicesEndpoint(devices) },
    readDevice: { ...ROUTES.readDevice, ...readDeviceEndpoint(devices) },
    readHistory: { ...ROUTES.readHistory, ...readHistoryEndpoint(devices) },
    readFleet: { ...ROUTES.readFleet, ...readFleetEndpoint(devices) },
    changeDevice: { ...ROUTES.changeDevice, ...changeDeviceEndpoint(devices) },
    labelSelection: { ...ROUTES.labelSelection, ...labelSelectionEndpoint(devices) },
    deleteDevice: { ...ROUTES.deleteDevice, ...deleteDeviceEndpoint(devices) },
    uploadBuild: { ...ROUTES.uploadBuild, ...uploadBuildEndpoint(apks) },
    listBuilds: { ...ROUTES.listBuilds, ...listBuildsEndpoint(apks) },
    downloadBuild: { ...ROUTES.downloadBuild, ...downloadBuildEndpoint(apks) },
    releaseBuild: { ...ROUTES.releaseBuild, ...releaseBuildEndpoint(apks) },
    withdrawBuild: { ...ROUTES.withdrawBuild, ...withdrawBuildEndpoint(apks) },
    listAudit: { ...ROUTES.listAudit, ...listAuditEndpoint(operations) },
    readEvents: { ...ROUTES.readEvents, ...readEventsEndpoint(events) },
    openApi: { ...ROUTES.openApi, ...openApiEndpoint(operations) },
    healthz: { ...ROUTES.healthz, ...healthzEndpoint(operations) },
    readyz: { ...ROUTES.readyz, ...readyzEndpoint(operations) },
    metrics: { ...ROUTES.metrics, ...metricsEndpoint(operations) },
  }
  return operations.isMetricsEnabled ? [...Object.values(served), metrics] : Object.values(served)
}
