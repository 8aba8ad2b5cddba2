/**
 * The table of endpoints: method, path, who may call it and the file that answers. The newcomer's first
 * stop. Vocabulary: a device enrolls with an enrollment token and then carries a device token; a command
 * is pushed (FCM is the doorbell) and handed over in a heartbeat's answer (the database is the mailbox);
 * a result ends it; a build is an APK with its bytes.
 */
import type { Route } from '../http/route.ts'
import { apkBuildDownloadRoute, apkBuildsRoute, apkBuildWithdrawRoute } from './apks/builds.ts'
import { apkDownloadRoute } from './apks/download-latest.ts'
import type { DownloadResponseDeps } from './apks/download-response.ts'
import { type ApkBuildUploadDeps, apkBuildUploadRoute } from './apks/upload.ts'
import {
  type CancelCommandDeps,
  cancelCommandRoute,
  listCommandsRoute,
  type ReadCommandDeps,
  readCommandRoute,
} from './commands/commands.ts'
import {
  type ActionResultDeps,
  ackRoute,
  actionEndedRoute,
  deviceAckRoute,
} from './commands/result.ts'
import { type CommandDeps, commandRoute } from './commands/send.ts'
import { deleteDeviceRoute, listDevicesRoute, readDeviceRoute } from './devices/devices.ts'
import { type HeartbeatDeps, heartbeatRoute } from './devices/heartbeat.ts'
import { fcmTokenRoute } from './devices/push-token.ts'
import { type RegisterDeps, registerRoute } from './enrollment/register.ts'
import {
  type CreateEnrollTokensDeps,
  createEnrollTokensRoute,
  listEnrollTokensRoute,
  revokeEnrollTokenRoute,
} from './enrollment/tokens.ts'
import { auditRoute } from './operations/audit.ts'
import {
  type HealthzDeps,
  healthzRoute,
  type MetricsDeps,
  metricsRoute,
  readyzRoute,
} from './operations/monitoring.ts'

type Deps<F extends (deps: never) => Route> = Parameters<F>[0]

/** All that any endpoint uses; each factory takes only its own part. */
export type RouteDeps = RegisterDeps &
  HeartbeatDeps &
  ActionResultDeps &
  Deps<typeof fcmTokenRoute> &
  DownloadResponseDeps &
  Deps<typeof apkDownloadRoute> &
  CreateEnrollTokensDeps &
  Deps<typeof listEnrollTokensRoute> &
  Deps<typeof revokeEnrollTokenRoute> &
  CommandDeps &
  ReadCommandDeps &
  CancelCommandDeps &
  Deps<typeof listCommandsRoute> &
  Deps<typeof listDevicesRoute> &
  Deps<typeof readDeviceRoute> &
  Deps<typeof deleteDeviceRoute> &
  ApkBuildUploadDeps &
  Deps<typeof apkBuildsRoute> &
  Deps<typeof apkBuildDownloadRoute> &
  Deps<typeof apkBuildWithdrawRoute> &
  Deps<typeof auditRoute> &
  HealthzDeps &
  Deps<typeof readyzRoute> &
  MetricsDeps & {
    /** METRICS_ENABLED: off, /metrics is a path that nobody serves. */
    readonly isMetricsEnabled: boolean
  }

export function routeTable(deps: RouteDeps): readonly Route[] {
  return [
    // devices
    registerRoute(deps), //            POST   /v1/register                       enrollment/register.ts
    heartbeatRoute(deps), //           POST   /v1/heartbeat                      devices/heartbeat.ts
    actionEndedRoute(deps), //        POST   /v1/action-result                  commands/result.ts
    deviceAckRoute(deps), //           POST   /v1/devices/{device_id}/ack        commands/result.ts
    ackRoute(deps), //                 POST   /v1/devices/ack                    commands/result.ts
    fcmTokenRoute(deps), //            POST   /v1/devices/fcm-token              devices/push-token.ts
    apkDownloadRoute(deps), //         GET    /v1/apk/download-latest            apks/download-latest.ts
    // admins
    createEnrollTokensRoute(deps), //  POST   /v1/enroll-tokens                  enrollment/tokens.ts
    listEnrollTokensRoute(deps), //    GET    /v1/enroll-tokens                  enrollment/tokens.ts
    revokeEnrollTokenRoute(deps), //   DELETE /v1/enroll-tokens/{token_id}       enrollment/tokens.ts
    commandRoute(deps), //             POST   /admin/command                     commands/send.ts
    listCommandsRoute(deps), //        GET    /admin/commands                    commands/commands.ts
    readCommandRoute(deps), //         GET    /admin/commands/{request_id}       commands/commands.ts
    cancelCommandRoute(deps), //       DELETE /admin/commands/{request_id}       commands/commands.ts
    listDevicesRoute(deps), //         GET    /admin/devices                     devices/devices.ts
    readDeviceRoute(deps), //          GET    /admin/devices/{device_id}         devices/devices.ts
    deleteDeviceRoute(deps), //        DELETE /admin/devices/{device_id}         devices/devices.ts
    apkBuildUploadRoute(deps), //      PUT    /admin/apk/builds/{build_id}       apks/upload.ts
    apkBuildsRoute(deps), //           GET    /admin/apk/builds                  apks/builds.ts
    apkBuildDownloadRoute(deps), //    GET    /admin/apk/builds/{build_id}/download apks/builds.ts
    apkBuildWithdrawRoute(deps), //    DELETE /admin/apk/builds/{build_id}       apks/builds.ts
    auditRoute(deps), //               GET    /admin/audit                       operations/audit.ts
    // operations
    healthzRoute(deps), //             GET    /healthz                           operations/monitoring.ts
    readyzRoute(deps), //              GET    /readyz                            operations/monitoring.ts
    ...(deps.isMetricsEnabled ? [metricsRoute(deps)] : []), // GET /metrics      operations/monitoring.ts
  ]
}
