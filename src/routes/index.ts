/**
 * The table of endpoints: method, path, who may call it and the file that answers. The newcomer's first
 * stop. Vocabulary: a device enrolls with an enrollment token and then carries a device token; a command
 * is pushed (FCM is the doorbell) and handed over in a heartbeat's answer (the database is the mailbox);
 * a result ends it; a build is an APK with its bytes.
 */
import type { Route } from '../http/route.ts'
import {
  type ActionResultDeps,
  ackRoute,
  actionEndedRoute,
  deviceAckRoute,
} from './action-result.ts'
import type { ApkAnswerDeps } from './apk-answer.ts'
import { type ApkBuildUploadDeps, apkBuildUploadRoute } from './apk-build-upload.ts'
import { apkBuildDownloadRoute, apkBuildsRoute, apkBuildWithdrawRoute } from './apk-builds.ts'
import { apkDownloadRoute } from './apk-download.ts'
import { auditRoute } from './audit.ts'
import { type CommandDeps, commandRoute } from './command.ts'
import {
  type CancelCommandDeps,
  cancelCommandRoute,
  listCommandsRoute,
  type ReadCommandDeps,
  readCommandRoute,
} from './commands.ts'
import { deleteDeviceRoute, listDevicesRoute, readDeviceRoute } from './devices.ts'
import {
  type CreateEnrollTokensDeps,
  createEnrollTokensRoute,
  listEnrollTokensRoute,
  revokeEnrollTokenRoute,
} from './enroll-tokens.ts'
import { fcmTokenRoute } from './fcm-token.ts'
import { type HeartbeatDeps, heartbeatRoute } from './heartbeat.ts'
import {
  type HealthzDeps,
  healthzRoute,
  type MetricsDeps,
  metricsRoute,
  readyzRoute,
} from './operations.ts'
import { type RegisterDeps, registerRoute } from './register.ts'

type Deps<F extends (deps: never) => Route> = Parameters<F>[0]

/** All that any endpoint uses; each factory takes only its own part. */
export type RouteDeps = RegisterDeps &
  HeartbeatDeps &
  ActionResultDeps &
  Deps<typeof fcmTokenRoute> &
  ApkAnswerDeps &
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
    registerRoute(deps), //            POST   /v1/register                       register.ts
    heartbeatRoute(deps), //           POST   /v1/heartbeat                      heartbeat.ts
    actionEndedRoute(deps), //        POST   /v1/action-result                  action-result.ts
    deviceAckRoute(deps), //           POST   /v1/devices/{device_id}/ack        action-result.ts
    ackRoute(deps), //                 POST   /v1/devices/ack                    action-result.ts
    fcmTokenRoute(deps), //            POST   /v1/devices/fcm-token              fcm-token.ts
    apkDownloadRoute(deps), //         GET    /v1/apk/download-latest            apk-download.ts
    // admins
    createEnrollTokensRoute(deps), //  POST   /v1/enroll-tokens                  enroll-tokens.ts
    listEnrollTokensRoute(deps), //    GET    /v1/enroll-tokens                  enroll-tokens.ts
    revokeEnrollTokenRoute(deps), //   DELETE /v1/enroll-tokens/{token_id}       enroll-tokens.ts
    commandRoute(deps), //             POST   /admin/command                     command.ts
    listCommandsRoute(deps), //        GET    /admin/commands                    commands.ts
    readCommandRoute(deps), //         GET    /admin/commands/{request_id}       commands.ts
    cancelCommandRoute(deps), //       DELETE /admin/commands/{request_id}       commands.ts
    listDevicesRoute(deps), //         GET    /admin/devices                     devices.ts
    readDeviceRoute(deps), //          GET    /admin/devices/{device_id}         devices.ts
    deleteDeviceRoute(deps), //        DELETE /admin/devices/{device_id}         devices.ts
    apkBuildUploadRoute(deps), //      PUT    /admin/apk/builds/{build_id}       apk-build-upload.ts
    apkBuildsRoute(deps), //           GET    /admin/apk/builds                  apk-builds.ts
    apkBuildDownloadRoute(deps), //    GET    /admin/apk/builds/{build_id}/download apk-builds.ts
    apkBuildWithdrawRoute(deps), //    DELETE /admin/apk/builds/{build_id}       apk-builds.ts
    auditRoute(deps), //               GET    /admin/audit                       audit.ts
    // operations
    healthzRoute(deps), //             GET    /healthz                           operations.ts
    readyzRoute(deps), //              GET    /readyz                            operations.ts
    ...(deps.isMetricsEnabled ? [metricsRoute(deps)] : []), // GET /metrics      operations.ts
  ]
}
