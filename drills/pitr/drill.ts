/** `npm run drill -- pitr`: a mistake under load, and the database as it was before, restored as docs/operate/scale.md says. */
import { defineDrill } from '../drill.ts'
import { missingPrograms } from '../patroni/programs.ts'
import { runPitr } from './run.ts'

export const pitrDrill = defineDrill({
  name: 'pitr',
  promise:
    'base backup under load, WAL archive, restore to a moment, phones go on: nothing acknowledged before it is missing, zero 401',
  options: {
    seconds: {
      standard: 10,
      what: 'of load before the backup, before the moment, behind it and after the restore',
    },
    rate: { standard: 100, what: 'requests a second: heartbeats, commands, results, reads' },
    phones: { standard: 20, what: 'that enroll before the moment, and as many behind it' },
  },
  async run({ seconds, rate, phones }, { dir, print }) {
    const missing = missingPrograms([])
    if (missing !== false) return [{ promise: 'it runs', measured: missing, isHeld: false }]
    return runPitr({ dir, seconds, ratePerS: rate, phones, print })
  },
})
