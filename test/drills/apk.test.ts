/** Uploads in a row, cut off and killed while phones pull the latest, in the short form; `npm run drill -- apk` is the long one. */

import t from 'tap'
import { runApks } from '../../drills/apk/run.ts'
import { seededRandom } from '../../testkit/random.ts'
import { databaseEnvironment, held } from '../helpers/drill.ts'

t.test('no build without all its bytes, whatever breaks off or is killed', async (t) => {
  const figures = await runApks({
    ...(await databaseEnvironment(t)),
    uploads: 5,
    minBytes: 1_000_000,
    maxBytes: 2_500_000,
    cuts: 1,
    phones: 3,
    random: seededRandom(1),
  })
  held(t, figures)
})
