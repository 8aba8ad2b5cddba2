/** No event of the vocabulary, and no level of one, is without a test that compares its whole line. */
import { readFileSync } from 'node:fs'
import t from 'tap'
import { EVENTS } from '../../src/telemetry/log/events.ts'
import { THEMES } from './themes.ts'

const promised = Object.values(THEMES).flatMap((theme) => Object.entries<readonly string[]>(theme))

t.test('each event stands in one theme', async (t) => {
  t.same(promised.map(([event]) => event).sort(), Object.keys(EVENTS).sort())
})

t.test('each level of each event is compared', async (t) => {
  for (const [event, { levels }] of Object.entries(EVENTS)) {
    const variants = promised.find(([name]) => name === event)?.[1] ?? []
    const compared = new Set(variants.map((variant) => variant.split(' ')[0]))
    t.same([...compared].sort(), [...levels].sort(), event)
  }
})

t.test('each theme has the test file that answers for it', async (t) => {
  for (const name of Object.keys(THEMES)) {
    const source = readFileSync(new URL(`./${name}.test.js`, import.meta.url), 'utf8')
    t.match(source, `theme(t, '${name}')`)
  }
})
