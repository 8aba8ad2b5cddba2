/** All drills. `npm run drill` prints this list; figures are in bench/RESULTS.md. */

import { packagesDrill } from './apk/package.ts'
import { apkDrill } from './apk/run.ts'
import { attacksDrill } from './attacks/run.ts'
import { commandsDrill } from './commands/run.ts'
import type { Drill } from './drill.ts'
import { eventsDrill } from './events/run.ts'
import { fcmDownDrill } from './fcm-down/run.ts'
import { fleet100Drill, fleet2000Drill } from './fleet/drills.ts'
import { growthDrill } from './fleet/growth.ts'
import { truthDrill } from './fleet/truth.ts'
import { fuzzDrill } from './fuzz/service.ts'
import { partitionsDrill } from './heartbeats/partitions.ts'
import { writersDrill } from './heartbeats/writers.ts'
import { identityDrill } from './identity/run.ts'
import { jobsDrill } from './jobs/run.ts'
import {
  databaseFrozenDrill,
  databaseKillsDrill,
  databaseStoppedDrill,
  troubleDrill,
} from './outages/drills.ts'
import { returnDrill } from './outages/return.ts'
import { stormDrill } from './outages/storm.ts'
import { syncStandbyDrill } from './outages/sync-standby.ts'
import { patroniDrill } from './patroni/drill.ts'
import { pitrDrill } from './pitr/run.ts'
import { plansDrill } from './plans/run.ts'
import { previousReleaseDrill } from './releases/previous-release.ts'
import { rollingDrill } from './releases/rolling.ts'
import { selectionDrill } from './selection/drill.ts'
import { serviceKillsDrill } from './service-kills/run.ts'
import { socketsDrill } from './sockets/run.ts'
import { stdoutDrill } from './stdout/drill.ts'

export const DRILLS: readonly Drill[] = [
  serviceKillsDrill,
  databaseKillsDrill,
  databaseStoppedDrill,
  databaseFrozenDrill,
  troubleDrill,
  stormDrill,
  syncStandbyDrill,
  commandsDrill,
  jobsDrill,
  eventsDrill,
  fcmDownDrill,
  stdoutDrill,
  fuzzDrill,
  socketsDrill,
  rollingDrill,
  truthDrill,
  attacksDrill,
  fleet100Drill,
  fleet2000Drill,
  previousReleaseDrill,
  plansDrill,
  selectionDrill,
  growthDrill,
  writersDrill,
  partitionsDrill,
  patroniDrill,
  pitrDrill,
  returnDrill,
  apkDrill,
  packagesDrill,
  identityDrill,
]
