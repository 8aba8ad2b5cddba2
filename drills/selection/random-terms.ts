/**
 * Random terms, each with what it means written out in TypeScript. It shares no code with the parser or the SQL. Values are
 * mostly those of a phone, so that many selections are not empty.
 */
import type { Dice } from '../../testkit/dice.ts'
import { PACKAGES, type Phone } from './phones.ts'

export interface PlainTerm {
  readonly text: string
  /** null: the phone never reported the value. */
  readonly test: (phone: Phone) => boolean | null
}

/** DEVICE_OFFLINE_S in these terms. */
export const OFFLINE_AFTER_S = 1_500

const MAX_CHARACTERS = 1_024
const MAX_TERMS = 16
const MAX_TRIED = 64

export interface PlainSelection {
  readonly text: string
  readonly holds: (phone: Phone) => boolean
}

export function randomSelection(dice: Dice, phones: readonly Phone[]): PlainSelection {
  const count = dice.chance(0.05) ? 1 + dice.below(MAX_TERMS) : dice.below(5)
  const like = dice.pick(phones)
  const terms: PlainTerm[] = []
  while (terms.length < count) {
    const term = randomTerm(dice, dice.chance(0.8) ? like : dice.pick(phones))
    terms.push(dice.chance(0.3) ? negated(term) : term)
  }
  const textOf = () => terms.map(({ text }) => text).join(dice.chance(0.1) ? '  ' : ' ')
  let text = textOf()
  while (text.length > MAX_CHARACTERS || triedAtMost(terms) > MAX_TRIED) {
    terms.pop()
    text = textOf()
  }
  return {
    text,
    holds: (phone) => !phone.isDeleted && terms.every(({ test }) => test(phone) === true),
  }
}

/** `*`, label keys and packages, or more: every value of `label:` and `package:` counts. */
function triedAtMost(terms: readonly PlainTerm[]): number {
  return terms.reduce(
    (sum, { text }) =>
      sum +
      text.split('*').length -
      1 +
      (/label:|package:/.test(text) ? text.split(',').length : 0),
    0,
  )
}

function negated({ text, test }: PlainTerm): PlainTerm {
  return {
    text: `-${text}`,
    test(phone) {
      const holds = test(phone)
      return holds === null ? null : !holds
    },
  }
}

function randomTerm(dice: Dice, like: Phone): PlainTerm {
  return dice.pick(MAKERS)(dice, like)
}

type Maker = (dice: Dice, like: Phone) => PlainTerm

const MAKERS: readonly Maker[] = [
  textTerm('alias', (phone) => phone.alias),
  textTerm('model', (phone) => phone.model),
  textTerm('manufacturer', (phone) => phone.manufacturer),
  textTerm('android', (phone) => phone.android),
  textTerm('app', (phone) => phone.app ?? phone.enrolledApp),
  textTerm('agent', (phone) => phone.agent),
  textTerm('network', (phone) => phone.network),
  numberTerm('sdk', (phone) => phone.sdk, String),
  numberTerm('battery', (phone) => phone.battery, String),
  numberTerm('uptime', (phone) => phone.uptimeS, duration),
  numberTerm('version_code', (phone) => phone.versionCode, String),
  packageTerm,
  hasPackageTerm,
  labelTerm,
  hasLabelTerm,
  deviceTerm,
  statusTerm,
  pushTerm,
  seenTerm,
  enrolledTerm,
  flagTerm('online', (phone) => phone.seenAgeS !== null && phone.seenAgeS <= OFFLINE_AFTER_S),
  flagTerm('open', (phone) => phone.hasOpen),
]

function textTerm(name: string, read: (phone: Phone) => string | null): Maker {
  return (dice, like) => {
    const patterns = several(dice, () => randomPattern(dice, read(like) ?? 'R4S') || '*')
    return {
      text: `${name}:${patterns.map((pattern) => quoted(dice, pattern)).join(',')}`,
      test: (phone) => fits(read(phone), patterns),
    }
  }
}

function labelTerm(dice: Dice, like: Phone): PlainTerm {
  const [key, value] = dice.pick([...Object.entries(like.labels), ['site', 'R4S'] as const])
  const patterns = several(dice, () => randomPattern(dice, value))
  return {
    text: `label:${key}=${patterns.map((pattern) => quoted(dice, pattern)).join(',')}`,
    test: (phone) => fits(phone.labels[key] ?? null, patterns),
  }
}

function hasLabelTerm(dice: Dice, like: Phone): PlainTerm {
  const keys = several(dice, () => dice.pick([...Object.keys(like.labels), 'ring', 'never']))
  return {
    text: `label:${keys.join(',')}`,
    test: (phone) => keys.some((key) => Object.hasOwn(phone.labels, key)),
  }
}

function deviceTerm(dice: Dice, like: Phone): PlainTerm {
  const ids = several(dice, () =>
    dice.chance(0.8) ? like.deviceId : like.deviceId.replace(/0000000/, '1111111'),
  )
  return {
    text: `device:${ids.map((id) => (dice.chance(0.5) ? id.toUpperCase() : id)).join(',')}`,
    test: (phone) => ids.includes(phone.deviceId),
  }
}

function statusTerm(dice: Dice, like: Phone): PlainTerm {
  const words = several(dice, () => like.status ?? dice.pick(['ok', 'warn', 'error']))
  return {
    text: `status:${words.join(',')}`,
    test: (phone) => (phone.status === null ? null : words.includes(phone.status)),
  }
}

function pushTerm(dice: Dice, like: Phone): PlainTerm {
  const words = several(dice, () => dice.pick([like.push, 'live', 'none', 'dead', 'off']))
  return { text: `push:${words.join(',')}`, test: (phone) => words.includes(phone.push) }
}

function seenTerm(dice: Dice, like: Phone): PlainTerm {
  const ageS = like.seenAgeS ?? 3_600
  const isLess = dice.chance(0.5)
  const ofPhone = (phone: Phone) => phone.seenAgeS ?? Number.POSITIVE_INFINITY
  return {
    text: `seen${isLess ? '<' : '>'}${duration(ageS)}`,
    test: (phone) => (isLess ? ofPhone(phone) < ageS : ofPhone(phone) > ageS),
  }
}

function enrolledTerm(dice: Dice, { enrolledAgeS }: Phone): PlainTerm {
  const isLess = dice.chance(0.5)
  return {
    text: `enrolled${isLess ? '<' : '>'}${duration(enrolledAgeS)}`,
    test: (phone) =>
      isLess ? phone.enrolledAgeS < enrolledAgeS : phone.enrolledAgeS > enrolledAgeS,
  }
}

function flagTerm(name: string, isOn: (phone: Phone) => boolean): Maker {
  return (dice) => {
    const wanted = dice.chance(0.5)
    return { text: `${name}:${wanted}`, test: (phone) => isOn(phone) === wanted }
  }
}

const COMPARE: Readonly<Record<string, (value: number, than: number) => boolean>> = {
  '=': (value, than) => value === than,
  '!=': (value, than) => value !== than,
  '<': (value, than) => value < than,
  '<=': (value, than) => value <= than,
  '>': (value, than) => value > than,
  '>=': (value, than) => value >= than,
}

function numberTerm(
  name: string,
  read: (phone: Phone) => number | null,
  write: (value: number) => string,
): Maker {
  return (dice, like) => {
    const [operator, compare] = dice.pick(Object.entries(COMPARE))
    const one = () => Math.max(0, (read(like) ?? 30) + dice.below(3) - 1)
    const numbers = /^!?=$/.test(operator) ? several(dice, one) : [one()]
    return {
      text: `${name}${operator}${numbers.map(write).join(',')}`,
      test(phone) {
        const value = read(phone)
        if (value === null) return null
        const each = (number: number) => compare(value, number)
        return operator === '!=' ? numbers.every(each) : numbers.some(each)
      },
    }
  }
}

function packageTerm(dice: Dice, like: Phone): PlainTerm {
  const name = randomPackage(dice)
  const code = (phone: Phone) => phone.apps?.[name] ?? null
  return numberTerm(`package:${name}`, code, String)(dice, like)
}

function hasPackageTerm(dice: Dice): PlainTerm {
  const names = several(dice, () => randomPackage(dice))
  return {
    text: `package:${names.map((name) => (dice.chance(0.2) ? `"${name}"` : name)).join(',')}`,
    test: ({ apps }) => apps !== null && names.some((name) => Object.hasOwn(apps, name)),
  }
}

const randomPackage = (dice: Dice) => dice.pick([...PACKAGES, 'com.example.never'])

/** One to three. */
function several<T>(dice: Dice, make: () => T): readonly T[] {
  return Array.from({ length: dice.chance(0.6) ? 1 : 1 + dice.below(3) }, make)
}

/** The value itself, or with `*` in place of a part of it; a `"` cannot be written. */
function randomPattern(dice: Dice, value: string): string {
  let pattern = value
  for (let cuts = dice.below(3); cuts > 0; cuts -= 1) {
    const from = dice.below(pattern.length + 1)
    pattern = `${pattern.slice(0, from)}*${pattern.slice(from + dice.below(4))}`
  }
  return pattern.replace(/["\p{Surrogate}]/gu, '*')
}

function quoted(dice: Dice, text: string): string {
  if (text === '' || /[ ,=\u00a0]/.test(text) || dice.chance(0.2)) return `"${text}"`
  return text
}

function fits(value: string | null, patterns: readonly string[]): boolean | null {
  if (value === null) return null
  return patterns.some((pattern) => {
    const parts = pattern.split('*').map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
    return new RegExp(`^${parts.join('.*')}$`, 's').test(value)
  })
}

function duration(seconds: number): string {
  const units = [
    ['d', 86_400],
    ['h', 3_600],
    ['m', 60],
  ] as const
  const [unit, size] = units.find(([, size]) => seconds > 0 && seconds % size === 0) ?? ['s', 1]
  return `${seconds / size}${unit}`
}
