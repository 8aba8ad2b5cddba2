/** The summary of selections in SQL, and recounted in plain TypeScript over the same random phones. */
import { isDeepStrictEqual } from 'node:util'
import type pg from 'pg'
import { type FleetSummary, fleetSummary, type ValueCounts } from '../../src/db/devices/fleet.ts'
import { parseSelection } from '../../src/domain/selection/parse.ts'
import { plainDatabase } from '../../testkit/database/explain.ts'
import { Dice } from '../../testkit/dice.ts'
import { PACKAGES, type Phone, randomPhones, storePhones } from './phones.ts'
import { OFFLINE_AFTER_S, randomSelection } from './random-terms.ts'

const SELECTIONS = 40
const CONTEXT = { offlineAfterS: OFFLINE_AFTER_S, isPushOn: true }
const MAX_VALUES = 50

/** In a transaction of `db`, which is rolled back. */
export async function compareSummaries(
  db: pg.Client,
  options: { readonly phones: number; readonly seed: number },
): Promise<{ readonly differences: readonly string[]; readonly selections: number }> {
  const dice = new Dice(options.seed)
  const phones = randomPhones(dice, options.phones)
  const differences: string[] = []
  await db.query('begin')
  try {
    await storePhones(db, phones)
    const everyone = { text: '', holds: ({ isDeleted }: Phone) => !isDeleted }
    const selections = Array.from({ length: SELECTIONS }, () => randomSelection(dice, phones))
    for (const { text, holds } of [everyone, ...selections]) {
      const read = await fleetSummary(plainDatabase(db), parseSelection(text), CONTEXT)
      const found = comparable(read)
      const expected = recounted(phones.filter(holds))
      if (!isDeepStrictEqual(found, expected)) {
        differences.push(`${text}: ${JSON.stringify(found)} instead of ${JSON.stringify(expected)}`)
      }
    }
  } finally {
    await db.query('rollback')
  }
  return { differences, selections: SELECTIONS + 1 }
}

type Counts<T> = ReadonlyMap<T, number>

function comparable({ texts, facts, appVersions, openCommands }: FleetSummary) {
  const factsOf = facts.map(({ status, push, battery, lastContact, isOnline, devices }) => [
    [status, push, battery, lastContact, isOnline].join(' '),
    devices,
  ])
  return {
    texts: Object.values(texts).map(valuesOf),
    facts: factsOf.map(String).toSorted(),
    apps: new Map([...appVersions].map(([name, counts]) => [name, valuesOf(counts)])),
    open: [...openCommands],
  }
}

function valuesOf<T>({ values, others }: ValueCounts<T>) {
  return {
    devices: values.map(({ devices }) => devices),
    values: new Map(values.map(({ value, devices }) => [value, devices])),
    others,
  }
}

function recounted(phones: readonly Phone[]) {
  const texts = [
    countBy(phones, ({ app, enrolledApp }) => app ?? enrolledApp),
    countBy(phones, ({ agent }) => agent),
    countBy(phones, ({ model }) => model),
    countBy(phones, ({ android }) => android),
    countBy(phones, ({ network }) => network),
  ]
  const open = phones.filter(({ hasOpen }) => hasOpen).length
  return {
    texts: texts.map(ranked),
    apps: new Map(
      PACKAGES.map((name) => {
        const having = phones.filter(({ apps }) => Object.hasOwn(apps ?? {}, name))
        return [name, ranked(countBy(having, ({ apps }) => apps?.[name] ?? null))] as const
      }).filter(([, { devices }]) => devices.length > 0),
    ),
    facts: [...countBy(phones, factsOf)].map(String).toSorted(),
    open: open === 0 ? [] : [['queued', open]],
  }
}

function ranked<T>(values: Counts<T>) {
  const devices = [...values.values()].toSorted((a, b) => b - a)
  if (devices.length > MAX_VALUES) throw new Error('more values than a summary names')
  return { devices, values, others: 0 }
}

function factsOf({ status, push, battery, seenAgeS }: Phone): string {
  const level =
    battery === null ? 'unknown' : battery < 20 ? '0-19' : battery < 50 ? '20-49' : '50-100'
  return [status ?? 'unknown', push, level, contactOf(seenAgeS), isOnline(seenAgeS)].join(' ')
}

const isOnline = (ageS: number | null) => ageS !== null && ageS <= OFFLINE_AFTER_S

function contactOf(ageS: number | null): string {
  if (ageS === null) return 'never'
  if (ageS <= 300) return '5m'
  if (ageS <= 1_800) return '30m'
  if (ageS <= 86_400) return '1d'
  return ageS <= 604_800 ? '7d' : 'older'
}

function countBy<T>(phones: readonly Phone[], pick: (phone: Phone) => T): Counts<T> {
  const counts = new Map<T, number>()
  for (const phone of phones) {
    const value = pick(phone)
    counts.set(value, (counts.get(value) ?? 0) + 1)
  }
  return counts
}
