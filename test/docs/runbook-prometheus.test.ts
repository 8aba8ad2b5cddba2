/** Prometheus takes the documented configuration and expressions, and the expected rates follow from the intervals. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { CONFIG_FILE, missingTools, TOKEN_FILE } from '../../drills/shared/prometheus.ts'
import { parseConfig } from '../../src/config/config.ts'
import { documentedBlock, readPage } from '../helpers/pages.ts'
import { blocksOf, codesOf, sectionOf, tableOf } from './markdown.ts'
import { writeFiles } from './prometheus-files.ts'

const MONITORING = readPage('docs/operate/monitoring.md')
const METRICS = tableOf(readPage('docs/reference/metrics.md')).flatMap(
  ([name = '', type, labels = '']) =>
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
    t.ok(documentedBlock(CONFIG_FILE).includes(`credentials_file: ${TOKEN_FILE}\n`))
  },
)

t.test('the expected rates name our counters, and follow from the intervals', async (t) => {
  const section = sectionOf(readPage('RUNBOOK.md'), 'Expected rates')
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

t.test(
  'promtool accepts each documented expression, over metrics and labels that are there',
  { skip: missingTools() },
  async (t) => {
    const rows = tableOf(sectionOf(MONITORING, 'Questions for Prometheus'))
    const expressions = rows.map(([, expression = '']) => codesOf(expression)[0] ?? '')
    t.ok(expressions.length > 10)
    const series = new Map(
      METRICS.flatMap(({ family, labels }) => [
        [family, labels],
        [`${family}_bucket`, labels],
      ]),
    )
    for (const expression of expressions) {
      const names = expression.match(/\b(?:[a-z]+_)+[a-z]+(?=[[{)])/g) ?? []
      for (const name of names) t.ok(series.has(name), `${name} of ${expression}`)
      const labels = expression.matchAll(/(\w+)=~?"/g)
      for (const [, label = ''] of labels) {
        const isThere = label === 'job' || names.some((name) => series.get(name)?.includes(label))
        t.ok(isThere, `${label} of ${expression}`)
      }
    }
    const rules = expressions.map((expr, index) => ({ record: `question:${index}`, expr }))
    const file = join(writeFiles(t, 'any'), 'rules.yml')
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'fleetloop', rules }] })) // YAML, too
    const { status, stderr } = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' })
    t.equal(status, 0, stderr)
  },
)

t.test("Docker's options are JSON", async (t) => {
  const [block] = blocksOf(sectionOf(MONITORING, 'Log rotation')).filter(
    ({ language }) => language === 'json',
  )
  t.match(JSON.parse(block?.text ?? ''), { 'log-driver': 'json-file' })
})
