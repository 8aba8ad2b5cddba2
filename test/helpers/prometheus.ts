/** A Prometheus of a test, with the runbook's own files. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { CONFIG_FILE, TOKEN_FILE } from '../../drills/prometheus.ts'
import { blocksOf } from './markdown.ts'

const RUNBOOK = fileURLToPath(new URL('RUNBOOK.md', import.meta.resolve('#package.json')))

/** The block of the runbook with this name, as it stands there. */
export function runbookFile(name: string): string {
  const [block, ...more] = blocksOf(readFileSync(RUNBOOK, 'utf8')).filter(
    ({ rest }) => rest === name,
  )
  if (block === undefined || more.length > 0) throw new Error(`RUNBOOK.md has no one block ${name}`)
  return block.text
}

/** A directory with the runbook's files and the token, removed at the end of `t`. */
export function writeFiles(t: Test, token: string, config = runbookFile(CONFIG_FILE)): string {
  const directory = mkdtempSync(join(tmpdir(), 'fleetloop-prometheus-'))
  t.teardown(() => rmSync(directory, { recursive: true, force: true }))
  writeFileSync(join(directory, CONFIG_FILE), config)
  writeFileSync(join(directory, TOKEN_FILE), token)
  return directory
}
