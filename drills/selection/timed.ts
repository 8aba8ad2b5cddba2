/** How long selections take in a large fleet of random phones: all of it counted, and the first page read. */
import type pg from 'pg'
import { JOINED } from '../../src/db/devices/lists.ts'
import { conditionOf } from '../../src/db/devices/selection.ts'
import { parseSelection } from '../../src/domain/selection/parse.ts'
import { Dice } from '../../testkit/dice.ts'
import { randomPhones, storePhones } from './phones.ts'
import { OFFLINE_AFTER_S } from './random-terms.ts'

export interface Timed {
  readonly statements: number
  readonly worst: { readonly ms: number; readonly what: string }
}

/** Of a statement the median counts. */
const RUNS = 5

/** One term of each kind, some common, some rare, then long ones. */
const SELECTIONS = [
  '',
  ...[
    'alias:STORE-1*',
    'alias:*99',
    'alias:STORE-7',
    'model:R4S',
    'model:*4*5*',
    'manufacturer:never',
  ],
  ...[
    'android:13',
    'app:1.0.25*',
    'agent:2',
    'network:wifi',
    'status:warn,error',
    'sdk>=33',
    'battery<20',
  ],
  ...[
    'uptime>7d',
    'seen<1h',
    'seen>30m',
    'enrolled<7d',
    'online:true',
    'online:false',
    'push:live',
    'push:none',
  ],
  ...[
    'open:true',
    'open:false',
    'label:site',
    'label:site=R4S',
    'label:site=R*',
    'label:never',
    'label:never=x',
  ],
  'label:site=R4S,XYZ -label:ring online:true open:false',
  'model:never battery<1 seen>30m',
  Array.from({ length: 16 }, (_, n) => `label:site=*${n}*a*b*c*`).join(' '),
  Array.from({ length: 16 }, (_, n) => `-model:*${n}*a*b*c*d*e*f*`).join(' '),
  `alias:${'*a'.repeat(400)}`,
  Array.from({ length: 8 }, () => 'open:true -open:true').join(' '),
]

export async function timeSelections(
  db: pg.ClientBase,
  fleet: number,
  seed: number,
  print: (line: string) => void,
): Promise<Timed> {
  await storePhones(db, randomPhones(new Dice(seed), fleet))
  await db.query('vacuum (analyze) devices, device_status, commands')
  let worst = { ms: 0, what: '' }
  let statements = 0
  for (const where of SELECTIONS.flatMap((each) =>
    / |^$/.test(each) ? [each] : [each, `-${each}`],
  )) {
    const condition = conditionOf(
      parseSelection(where),
      { offlineAfterS: OFFLINE_AFTER_S, isPushOn: true },
      1,
    )
    const from = `from ${JOINED} where ${condition.text}`
    const counted = await medianMs(db, `select count(*) ${from}`, condition.values)
    const page = await medianMs(
      db,
      `select d.device_id ${from} order by d.created_at desc, d.device_id desc limit 51`,
      condition.values,
    )
    const what = where.length > 60 ? `${where.slice(0, 60)}…` : where
    print(
      `${counted.toFixed(0).padStart(5)} ms counted ${page.toFixed(0).padStart(5)} ms page  ${what}`,
    )
    for (const ms of [counted, page]) if (ms > worst.ms) worst = { ms, what }
    statements += 2
  }
  return { statements, worst }
}

async function medianMs(db: pg.ClientBase, text: string, values: readonly unknown[]) {
  const times: number[] = []
  for (let run = 0; run < RUNS; run += 1) {
    const startedAtMs = performance.now()
    await db.query(text, [...values])
    times.push(performance.now() - startedAtMs)
  }
  return times.toSorted((a, b) => a - b)[Math.floor(RUNS / 2)] ?? 0
}
