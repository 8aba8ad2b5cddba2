/** A selection's text → its terms. Pure; every refusal is 422 `invalid_field` and says where and what to write instead. */
import { HEARTBEAT_STATUSES } from '../heartbeat.ts'
import { code, didYouMean, termError } from './errors.ts'
import { partsOf, splitTerms, type TermParts, type Written } from './lexer.ts'
import {
  type NumberTerm,
  PUSH_STATES,
  type ReadTest,
  type Selection,
  TERM_EXAMPLES,
  TERM_NAMES,
  type Term,
  type TermName,
  type Test,
  type TextTerm,
} from './terms.ts'
import {
  readAge,
  readBoolean,
  readDeviceIds,
  readDuration,
  readLabel,
  readNumbers,
  readPackage,
  readPatterns,
  readWholeNumber,
  readWords,
} from './values.ts'

/** Wildcards and names of one selection: four a term. Each takes about 2 ms for 100,000 devices, 300 ms are the limit. */
export const MAX_TRIED = 64

/** The empty text selects every live device. */
export function parseSelection(text: string): Selection {
  const terms = splitTerms(text).map(readTerm)
  let tried = 0
  for (const term of terms) {
    tried += triedOf(term.test)
    if (tried > MAX_TRIED) throw tooManyTried(term)
  }
  return terms
}

/** What PostgreSQL tries with every device. It looks all other values up together, however many they are. */
function triedOf(test: Test): number {
  switch (test.kind) {
    case 'text':
    case 'label':
      return test.patterns.join('').split('*').length - 1
    case 'has_label':
      return test.keys.length
    case 'has_package':
      return test.packages.length
    default:
      return 0
  }
}

function tooManyTried(term: Term) {
  const most = `at most ${MAX_TRIED} \`*\`, label keys and packages in a selection`
  return termError(term, `${most}; give these devices one label and select by that`)
}

function readTerm(written: Written): Term {
  const parts = partsOf(written)
  const name = readName(parts)
  const { test, isOpposite = false } = READERS[name](parts)
  const { text, at, isNegated } = parts
  return { text, at, isNegated: isNegated !== isOpposite, test }
}

const text =
  (name: TextTerm) =>
  (parts: TermParts): ReadTest => ({ test: { kind: 'text', name, patterns: readPatterns(parts) } })

const number =
  (name: NumberTerm, read = readWholeNumber) =>
  (parts: TermParts): ReadTest => {
    const { isOpposite, ...numbers } = readNumbers(parts, parts.operator, parts.rest, read)
    return { test: { kind: 'number', name, ...numbers }, isOpposite }
  }

const READERS: Readonly<Record<TermName, (parts: TermParts) => ReadTest>> = {
  alias: text('alias'),
  device: (parts) => ({ test: { kind: 'device', ids: readDeviceIds(parts) } }),
  label: (parts) => ({ test: readLabel(parts) }),
  model: text('model'),
  manufacturer: text('manufacturer'),
  android: text('android'),
  app: text('app'),
  agent: text('agent'),
  network: text('network'),
  status: (parts) => ({
    test: { kind: 'word', name: 'status', words: readWords(parts, HEARTBEAT_STATUSES) },
  }),
  sdk: number('sdk'),
  version_code: number('version_code'),
  battery: number('battery'),
  uptime: number('uptime', readDuration),
  package: readPackage,
  seen: (parts) => ({ test: { kind: 'age', name: 'seen', ...readAge(parts) } }),
  enrolled: (parts) => ({ test: { kind: 'age', name: 'enrolled', ...readAge(parts) } }),
  online: (parts) => ({ test: { kind: 'flag', name: 'online', isTrue: readBoolean(parts) } }),
  push: (parts) => ({ test: { kind: 'word', name: 'push', words: readWords(parts, PUSH_STATES) } }),
  open: (parts) => ({ test: { kind: 'flag', name: 'open', isTrue: readBoolean(parts) } }),
}

function readName(parts: TermParts): TermName {
  const name = TERM_NAMES.find((known) => known === parts.name)
  if (name !== undefined && parts.operator !== undefined) return name
  if (name !== undefined)
    throw termError(parts, `has no value, such as ${code(TERM_EXAMPLES[name])}`)
  if (parts.text === '-') throw termError(parts, 'no term follows the `-`')
  if (parts.name.startsWith('"')) {
    throw termError(parts, 'quote the value, not the whole term: `model:"Pixel 3"`')
  }
  const meant = didYouMean(parts.name, TERM_NAMES)
  const isBare = parts.operator === undefined && meant === ''
  const hint = isBare ? `; did you mean ${code(`alias:${parts.name}`)}?` : meant
  throw termError(parts, `unknown term${hint}`)
}
