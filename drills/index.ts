/** Every drill, by what it is about. `npm run drill` prints this list; figures so far are in bench/RESULTS.md. */
import { packagesDrill } from './apk/package.ts'
import { apkDrill } from './apk.ts'
import { attacksDrill } from './attacks/attacks.ts'
import { commandsDrill } from './commands.ts'
import type { Drill } from './drill.ts'
import { fcmDownDrill } from './fcm-down.ts'
import { fleet100Drill, fleet2000Drill } from './fleet.ts'
import { fuzzDrill } from './fuzz.ts'
import { growthDrill } from './growth.ts'
import { stormDrill } from './ha/storm.ts'
import { syncStandbyDrill } from './ha/sync-standby.ts'
import {
  databaseFrozenDrill,
  databaseKillsDrill,
  databaseStoppedDrill,
  troubleDrill,
} from './outages.ts'
import { partitionsDrill } from './partitions.ts'
import { patroniDrill } from './patroni/patroni.ts'
import { pitrDrill } from './pitr/pitr.ts'
import { plansDrill } from './plans/plans.ts'
import { previousReleaseDrill } from './previous-release.ts'
import { returnDrill } from './return.ts'
import { rollingDrill } from './rolling.ts'
import { serviceKillsDrill } from './service-kills.ts'
import { socketsDrill } from './sockets.ts'
import { stdoutDrill } from './stdout.ts'
import { truthDrill } from './truth.ts'
import { writersDrill } from './writers.ts'

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
