/** Every drill, by what it is about. `npm run drill` prints this list; figures so far are in bench/RESULTS.md. */

import { apkDrill } from './apk/drill.ts'
import { packagesDrill } from './apk/package.ts'
import { attacksDrill } from './attacks/drill.ts'
import { commandsDrill } from './commands/drill.ts'
import type { Drill } from './drill.ts'
import { fcmDownDrill } from './fcm-down/drill.ts'
import { fleet100Drill, fleet2000Drill } from './fleet/drills.ts'
import { growthDrill } from './fleet/growth.ts'
import { truthDrill } from './fleet/truth.ts'
import { fuzzDrill } from './fuzz/drill.ts'
import { stormDrill } from './ha/storm.ts'
import { syncStandbyDrill } from './ha/sync-standby.ts'
import { partitionsDrill } from './heartbeats/partitions.ts'
import { writersDrill } from './heartbeats/writers.ts'
import {
  databaseFrozenDrill,
  databaseKillsDrill,
  databaseStoppedDrill,
  troubleDrill,
} from './outages/drills.ts'
import { returnDrill } from './outages/return.ts'
import { patroniDrill } from './patroni/drill.ts'
import { pitrDrill } from './pitr/drill.ts'
import { plansDrill } from './plans/drill.ts'
import { previousReleaseDrill } from './releases/previous-release.ts'
import { rollingDrill } from './releases/rolling.ts'
import { serviceKillsDrill } from './service-kills/drill.ts'
import { socketsDrill } from './sockets/drill.ts'
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
  growthDrill,
  writersDrill,
  partitionsDrill,
  patroniDrill,
  pitrDrill,
  returnDrill,
  apkDrill,
  packagesDrill,
]
