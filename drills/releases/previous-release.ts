/** `npm run drill -- previous-release`: the roll from the release of the previous schema to this one, from git's history. */
import { join } from 'node:path'
import { withPostgres } from '../../testkit/postgres.ts'
import { defineDrill } from '../drill.ts'
import { buildRelease } from './checkout.ts'
import { runPreviousRelease } from './previous-release-run.ts'

export const previousReleaseDrill = defineDrill({
  name: 'previous-release',
  promise:
    'a replica of the previous schema version runs on, and restarts, beside one of this release, while phones live with both',
  options: {
    commit: { standard: '', what: "of the previous release; '': the newest with an older schema" },
    devices: { standard: 50, what: 'phones, one heartbeat a second each' },
    phones: { standard: 20, what: 'more that enroll, re-enroll and report across both releases' },
  },
  run: async ({ commit, devices, phones }, { dir, print }) => {
    const release = buildRelease(join(dir, 'release'), commit)
    print(
      `previous release: ${release.commit.slice(0, 12)}, schema ${release.schema}; this one: schema ${release.ourSchema}`,
    )
    return withPostgres(join(dir, 'postgres'), ({ url }) =>
      runPreviousRelease({
        databaseUrl: url,
        dir,
        release,
        devices,
        phones,
        intervalS: 1,
        probeMs: 1_000,
        drainMs: 2_500,
        print,
      }),
    )
  },
})
