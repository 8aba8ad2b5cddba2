/** `npm run drill -- packages`: the reader of APKs against mutated files, a large file, and apksigner. */
import { defineDrill } from '../drill.ts'
import { runPackages } from './package-run.ts'

export const packagesDrill = defineDrill({
  name: 'packages',
  promise:
    'no mutated APK crashes or stalls the reader, or is accepted where apksigner refuses it; 200 MiB take 2 s',
  options: {
    count: { standard: 1_000_000, what: 'mutated files' },
    seed: { standard: 1, what: 'of the mutations' },
    sample: { standard: 500, what: 'accepted ones that apksigner judges, if it is installed' },
    mib: { standard: 200, what: 'of the large file' },
  },
  run: (options, { dir, print }) => runPackages({ ...options, dir, print }),
})
