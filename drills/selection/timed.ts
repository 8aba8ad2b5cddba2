/** How long selections take in a large fleet of random phones: all of it counted, the first page read, summarized. */
import type pg from 'pg'
import { summaryQuery } from '../../src/db/devices/fleet.ts'
import { JOINED } from '../../src/db/devices/lists.ts'
import { selectedQuery } from '../../src/db/devices/selected-list.ts'
import { conditionOf } from '../../src/db/devices/selection.ts'
import type { Query } from '../../src/db/postgres/pool.ts'
import { MAX_TERMS } from '../../src/domain/selection/lexer.ts'
import { DEVICE_ORDERS } from '../../src/domain/selection/order.ts'
import { MAX_TRIED, parseSelection } from '../../src/domain/selection/parse.ts'
import { Dice } from '../../testkit/dice.ts'
import { randomPhones, storePhones } from './phones.ts'
import { OFFLINE_AFTER_S } from './random-terms.ts'

export interface Timed {
  readonly statements: number
  readonly worst: { readonly ms: number; readonly what: string }
}

const CONTEXT = { offlineAfterS: OFFLINE_AFTER_S, isPushOn: true }
const PAGE = { limit: 51, after: null }
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
    'version_code<42',
    'package:com.example.app',
    'package:com.example.app<42',
    'package:com.example.app=1,2,3,4',
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
  Array.from({ length: 16 }, (_, n) => `package:com.example.app!=${n}`).join(' '),
  Array.from({ length: 16 }, (_, n) => `label:site=*${n}*`).join(' '),
  Array.from({ length: 16 }, (_, n) => `-model:*${n}*`).join(' '),
  Array.from({ length: 8 }, () => 'open:true -open:true').join(' '),
]

/**
 * The most that a selection may ask. Negated, so that no value, and no term, ends the search early. Their summaries are not
 * judged: only ordinary ones have a limit.
 */
function slowest(): readonly string[] {
  const list = (length: number, write: (n: number) => string) =>
    Array.from({ length }, (_, n) => write(n)).join(',')
  const terms = (write: (n: number) => string) =>
    Array.from({ length: MAX_TERMS }, (_, n) => write(n)).join(' ')
  const names = ['alias', 'model', 'label:site']
  return [
    ...names.flatMap((name) => {
      const start = name.includes(':') ? `-${name}=` : `-${name}:`
      return [
        `${start}${list(MAX_TRIED, (n) => `Q${n}*`)}`,
        `${start}${list(MAX_TRIED, (n) => `*Q${n}`)}`,
        `${start}${list(MAX_TRIED / 2, (n) => `*Q${n}*`)},${list(100, (n) => `q${n}`)}`,
        `${start}${'*0'.repeat(MAX_TRIED)}`,
      ]
    }),
    terms((n) => `-app:*Q${n},${n}Q*,q,r,s,t,u,v,w,x`),
    terms((n) => `-label:site=*Q${n},${n}Q*,q,r,s,t,u,v,w,x`),
    terms((n) => `-label:never${n},no${n}`),
    terms((n) => `package:com.example.app!=${n + 9_000}`),
    terms((n) => `-push:${list(1 + (n % 10), () => 'dead')}`),
    `-label:${list(MAX_TRIED, (n) => `never${n}`)}`,
    `-package:${list(MAX_TRIED, (n) => `com.never${n}`)}`,
    `-sdk=${list(240, (n) => `${n + 100}`)}`,
    `-battery=${list(240, (n) => `${n + 101}`)}`,
  ]
}

export async function timeSelections(
  db: pg.ClientBase,
  fleet: number,
  seed: number,
  print: (line: string) => void,
): Promise<Timed> {
  await storePhones(db, randomPhones(new Dice(seed), fleet))
  await db.query('vacuum (analyze) devices, device_status, commands')
  print('ms: counted, the first page in each order, summarized')
  let worst = { ms: 0, what: '' }
  let statements = 0
  const ordinary = SELECTIONS.flatMap((each) => (/ |^$/.test(each) ? [each] : [each, `-${each}`]))
  for (const where of [...ordinary, ...slowest()]) {
    const selection = parseSelection(where)
    const { text, values } = conditionOf(selection, CONTEXT, 1)
    const count = { text: `select count(*) from ${JOINED} where ${text}`, values }
    const pages = DEVICE_ORDERS.map((order) => selectedQuery(PAGE, { selection, order }, CONTEXT))
    const times: number[] = []
    const summary = summaryQuery(selection, CONTEXT)
    for (const query of [count, ...pages, summary]) times.push(await medianMs(db, query))
    const what = where.length > 60 ? `${where.slice(0, 60)}…` : where
    print(`${times.map((ms) => ms.toFixed(0).padStart(5)).join('')}  ${what}`)
    const judged = ordinary.includes(where) ? times : times.slice(0, -1)
    for (const ms of judged) if (ms > worst.ms) worst = { ms, what }
    statements += judged.length
  }
  return { statements, worst }
}

async function medianMs(db: pg.ClientBase, { text, values = [] }: Pick<Query, 'text' | 'values'>) {
  const times: number[] = []
  for (let run = 0; run < RUNS; run += 1) {
    const startedAtMs = performance.now()
    await db.query(text, [...values])
    times.push(performance.now() - startedAtMs)
  }
  return times.toSorted((a, b) => a - b)[Math.floor(RUNS / 2)] ?? 0
}
