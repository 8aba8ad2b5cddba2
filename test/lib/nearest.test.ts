import t from 'tap'
import { nearest } from '../../src/lib/nearest.ts'

t.test('a word near a known one finds it, whatever the case', async (t) => {
  const known = ['offline_for_s', 'alias', 'alias_prefix', 'limit', 'cursor']
  for (const [word, meant] of [
    ['limit', 'limit'],
    ['LIMIT', 'limit'],
    ['limits', 'limit'],
    ['limt', 'limit'],
    ['ilmit', 'limit'],
    ['alais', 'alias'],
    ['offline_for', 'offline_for_s'],
    ['alias_prfix', 'alias_prefix'],
    ['aliases', 'alias'],
    ['dry_run', undefined],
    ['a', undefined],
    ['', undefined],
    ['x'.repeat(100_000), undefined],
  ] as const) {
    t.equal(nearest(word, known), meant, word.slice(0, 20))
  }
  t.equal(nearest('limit', []), undefined)
})
