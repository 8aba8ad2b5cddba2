/** A Prometheus of a test, with the files that the documentation shows. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { CONFIG_FILE, TOKEN_FILE } from '../../drills/shared/prometheus.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { documentedBlock } from '../helpers/pages.ts'

/** A directory with the documented configuration and the token, removed at the end of `t`. */
export function writeFiles(t: Test, token: string, config = documentedBlock(CONFIG_FILE)): string {
  const directory = tempDirectory(t)
  writeFileSync(join(directory, CONFIG_FILE), config)
  writeFileSync(join(directory, TOKEN_FILE), token)
  return directory
}
