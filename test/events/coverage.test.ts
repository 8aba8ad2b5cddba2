/** No event of the vocabulary, and no level of one, is without a test that compares its whole line. */
import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { EVENTS } from '../../src/telemetry/log/events.ts'

const FOLDER = new URL('../../../test/events/', import.meta.url)
/** What the test files of this folder promise to compare: each event with its variants. */
const promised = readdirSync(FOLDER).flatMap((file) => {
  const source = readFileSync(new URL(file, FOLDER), 'utf8')
  const [, table = ''] = /^const \{.*\} = theme\(t, \{\n([\s\S]*?)^\}\)/m.exec(source) ?? []
  return [...table.matchAll(/'([\w.]+)': \[([^\]]*)\]/g)].map(
    ([, event = '', list = '']) => [event, list.match(/(?<=')[A-Z]+/g) ?? []] as const,
  )
})

t.test('one test file has each event', async (t) => {
  t.same(promised.map(([event]) => event).sort(), Object.keys(EVENTS).sort())
})

t.test('each level of each event is compared', async (t) => {
  for (const [event, { levels }] of Object.entries(EVENTS)) {
    const compared = new Set(promised.find(([name]) => name === event)?.[1])
    t.same([...compared].sort(), [...levels].sort(), event)
  }
})
