/**
 * Promise R1 in its short form: the process dies under load, at random and at each named failpoint, the next one takes
 * its database and port, and nothing that was acknowledged is missing, lost or run twice. `npm run drill -- R1` is the
 * long one.
 */

import t from 'tap'
import { runServiceKills } from '../../drills/service-kills/run.ts'
import { seededRandom } from '../../testkit/random.ts'
import { startReplica } from '../../testkit/service.ts'
import { call } from '../helpers/client.ts'
import { createDatabase } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { databaseEnvironment, held } from '../helpers/drill.ts'
import { ADMIN, settings } from '../helpers/service.ts'

t.test('deaths at every failpoint and at random lose nothing and run nothing twice', async (t) => {
  const seed = Date.now() % 1_000_000
  t.comment(`seed ${seed}`)
  const figures = await runServiceKills({
    ...(await databaseEnvironment(t)),
    randomKills: 2,
    failpointKills: 1,
    heartbeatsPerS: 50,
    commandsPerS: 20,
    leaseCutS: 5,
    random: seededRandom(seed),
  })
  held(t, figures)
})

t.test('no setting reaches a failpoint of the service as it ships', async (t) => {
  const life = startReplica({
    settings: {
      ...settings(await createDatabase(t)),
      DATA_DIR: tempDirectory(t),
      FAILPOINT: 'after_commit_before_reply',
      FAILPOINT_HIT: '1',
    },
  })
  t.teardown(() => life.signal('SIGKILL')) // where the test breaks
  await life.ready
  const body = { aliases: ['D01'] }
  const response = await call(await life.origin, 'POST', '/v1/enroll-tokens', {
    token: ADMIN,
    body,
  })
  t.equal(response.status, 201)
  life.signal('SIGTERM')
  t.same(await life.ended, { code: 0, signal: null }, 'it serves, and ends in order')
})
