/** The roll from the release with the previous schema in its short form; `npm run drill -- previous-release` is the long one. */

import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import t from 'tap'
import { buildRelease, missingHistory } from '../../drills/releases/checkout.ts'
import { runPreviousRelease } from '../../drills/releases/previous-release.ts'
import { connect } from '../helpers/database.ts'
import { drillEnvironment } from '../helpers/drill.ts'
import { readCluster, urlOf } from '../runner/cluster.ts'

t.test(
  'a replica of the previous schema runs on, and restarts, beside one of this release',
  { skip: missingHistory() },
  async (t) => {
    const environment = drillEnvironment(t)
    const admin = await connect(t, readCluster().url)
    const name = `test_${randomBytes(6).toString('hex')}`
    await admin.query(`create database ${name}`) // empty: the previous release makes the schema
    t.teardown(() => admin.query(`drop database if exists ${name} with (force)`))
    const figures = await runPreviousRelease({
      ...environment,
      databaseUrl: urlOf(readCluster(), name),
      release: buildRelease(join(environment.dir, 'release')),
      devices: 2,
      phones: 2,
      intervalS: 0.5,
      probeMs: 250,
      drainMs: 1_500,
    })
    for (const { promise, measured, isHeld } of figures) t.ok(isHeld, `${promise}: ${measured}`)
  },
)
