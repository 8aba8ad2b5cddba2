/** `npm run drill -- fleet-100` and `-- fleet-2000`: the acceptance runs on the simulator. */
import { defineDrill } from '../drill.ts'
import { runHerds } from './herd-run.ts'
import { runFleet } from './run.ts'

const COMMON = ['--late-by', '5', '--parallel-drains', '0.1']

export const fleet100Drill = defineDrill({
  name: 'fleet-100',
  promise:
    'acceptance: 100 phones live through enrollment, heartbeats, commands, results and APKs; no phone wiped, lines, counters and rows are what happened, telemetry within its budget',
  options: {
    devices: { standard: 100, what: 'phones' },
    heartbeats: { standard: 30, what: 'acknowledged of each phone' },
    interval: { standard: 2, what: 'seconds between them' },
    commands: { standard: 500, what: 'in all' },
  },
  needs: 'postgres',
  run: ({ devices, heartbeats, interval, commands }, environment) =>
    runFleet({
      ...environment,
      simulate: [
        ...['--devices', `${devices}`, '--heartbeats', `${heartbeats}`],
        ...['--interval', `${interval}`, '--commands', `${commands}`],
        ...['--commands-per-minute', '600', '--apk-share', '0.5', ...COMMON],
      ],
    }),
})

export const fleet2000Drill = defineDrill({
  name: 'fleet-2000',
  promise:
    '2,000 phones and a service that restarts, in order and by kill -9, with all phones at once at its door: no phone wiped, nothing lost, all back within 30 s',
  options: {
    devices: { standard: 2_000, what: 'phones' },
    interval: { standard: 10, what: 'seconds between the heartbeats of each' },
    commands: { standard: 300, what: 'a minute' },
    restarts: { standard: 2, what: 'SIGTERM and SIGKILL in turn' },
    away: { standard: 5, what: 'seconds without a service at each' },
    moments: { standard: 10, what: 'at which the fleet summary is recounted' },
  },
  needs: 'postgres',
  run: ({ devices, interval, commands, restarts, away, moments }, environment) =>
    runHerds({
      ...environment,
      simulate: [
        ...['--devices', `${devices}`, '--heartbeats', '1', '--interval', `${interval}`],
        ...['--commands-per-minute', `${commands}`, '--apk-share', '0.05', ...COMMON],
      ],
      restarts,
      awayS: away,
      moments: { count: moments, pauseS: interval / 2 },
    }),
})
