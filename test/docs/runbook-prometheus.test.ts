/** What the runbook gives Prometheus is valid, and its expected rates follow from the intervals. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { CONFIG_FILE, missingTools, TOKEN_FILE } from '../../drills/prometheus.ts'
import { parseConfig } from '../../src/config.ts'
import { blocksOf, codesOf, sectionOf, tableOf } from '../helpers/markdown.ts'
import { runbookFile, writeFiles } from '../helpers/prometheus.ts'

const RUNBOOK = readFileSync(
  fileURLToPath(new URL('RUNBOOK.md', import.meta.resolve('#package.json'))),
  'utf8',
)
const METRICS = tableOf(sectionOf(RUNBOOK, 'Metrics')).flatMap(([name = '', type, labels = '']) =>
  codesOf(name).map((family) => ({ family, type, labels: codesOf(labels) })),
)

t.test(
  'promtool accepts the scrape configuration as it stands there',
  { skip: missingTools() },
  async (t) => {
    const directory = writeFiles(t, 'any')
    const args = ['check', 'config', join(directory, CONFIG_FILE)]
    const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' })
    t.same({ status, stderr }, { status: 0, stderr: '' }, stdout)
    t.match(stdout, 'SUCCESS')
    t.ok(runbookFile(CONFIG_FILE).includes(`credentials_file: ${TOKEN_FILE}\n`))
  },
)

t.test('the expected rates name our counters, and follow from the intervals', async (t) => {
  const section = sectionOf(RUNBOOK, 'Expected rates')
  const [beats, ...rows] = tableOf(section)
  const names = new Set(METRICS.flatMap(({ family }) => [family, `${family}_count`]))
  const values = new Set(['/v1/heartbeat', '/v1/register', '200', '4xx', '5xx'])
  for (const [counter = ''] of [beats ?? [], ...rows]) {
    for (const name of codesOf(counter)) t.ok(names.has(name) || values.has(name), name)
  }
  const [, expected = '', acceptable = ''] = beats ?? []
  const { heartbeatIntervalS } = parseConfig({}, () => '')
  for (const intervalS of [600, heartbeatIntervalS]) {
    const perS = 100 / intervalS
    t.match(expected, `${perS.toFixed(3)}/s at ${intervalS} s`)
    t.match(acceptable, `${(0.8 * perS).toFixed(3)}/s to ${(1.1 * perS).toFixed(3)}/s`)
  }
})

t.test("Docker's options are JSON", async (t) => {
  const [block] = blocksOf(sectionOf(RUNBOOK, 'Log rotation')).filter(
    ({ language }) => language === 'json',
  )
  t.match(JSON.parse(block?.text ?? ''), { 'log-driver': 'json-file' })
})
