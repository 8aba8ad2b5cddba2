/** `enroll`: enrollment tokens for aliases, ranges of them, or a CSV file. */
import { resolve } from 'node:path'
import { errorText } from '../../lib/error-text.ts'
import type { IssuedEnrollmentToken, Labels } from '../api/openapi.ts'
import { minute, numberOf, printList, secondsOf } from '../terminal/list.ts'
import { visible } from '../terminal/text.ts'
import { refuseTwice, UsageError } from '../usage.ts'
import { type Context, EXIT, type Verb } from '../verb.ts'

/** Of one call. */
const CHUNK = 100
const MAX_ALIASES = 10_000
const ALIAS = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

interface Wanted {
  readonly alias: string
  readonly note: string | undefined
  readonly labels: Labels
}

export const enrollVerb: Verb = {
  name: 'enroll',
  summary: 'create enrollment tokens, one for each alias',
  words: '[ALIAS | FIRST..LAST …]',
  count: [0, 500],
  options: {
    csv: {
      value: 'FILE',
      help: 'aliases from a CSV file: columns alias, note, any other is a label',
    },
    uses: { value: 'N', help: 'phones that may use each token; default 1' },
    expires: { value: '7d', help: 'how long the tokens are good; default 45m' },
    note: { value: 'TEXT', help: 'a note that tokens shows' },
    label: { value: 'K=V', help: 'a label that the phones get', isRepeatable: true },
    as: { value: 'csv', help: 'print alias,token,expires_at as CSV' },
  },
  calls: ['createEnrollmentTokens'],
  examples: ['enroll D10', 'enroll D11..D14 --expires 7d --as csv', 'enroll --csv phones.csv'],
  notes: ['A token is shown once: the service keeps only its hash.'],
  async run(context) {
    const { args, terminal, isJson } = context
    const format = args.text('as')
    if (format !== undefined && format !== 'csv') throw new UsageError('--as takes csv.')
    const wanted = wantedBy(context)
    const tokens = createTokens(context, wanted)
    if (format === undefined || isJson) {
      await printList(context, TOKEN_LIST, tokens)
      return EXIT.ok
    }
    await terminal.print('alias,token,expires_at')
    for await (const { items } of tokens) {
      for (const { alias, token, expires_at } of items) {
        await terminal.print(`${alias},${token},${expires_at}`)
      }
    }
    return EXIT.ok
  },
}

const TOKEN_LIST = {
  columns: [
    { title: 'ALIAS', isFixed: true },
    { title: 'TOKEN', isFixed: true, isKept: true }, // shown this once
    { title: 'EXPIRES (UTC)', isFixed: true },
    { title: 'USES', align: 'right', isFixed: true },
    { title: 'TOKEN ID', isFixed: true },
  ] as const,
  nothing: 'There is no alias in it.',
  row: ({ alias, token, expires_at, uses_allowed, token_id }: IssuedEnrollmentToken) => [
    ...[alias, token, minute(expires_at), uses_allowed, token_id],
  ],
}

/** Page by page, so that no token is lost if a later call fails. Tokens of one note and the same labels share calls. */
async function* createTokens({ args, api, newId }: Context, wanted: readonly Wanted[]) {
  const uses = numberOf(args.text('uses'), '--uses', undefined)
  const expiresS = secondsOf(args.text('expires'), '--expires', undefined)
  const client = api()
  for (const { note, labels, group } of alike(wanted)) {
    for (let start = 0; start < group.length; start += CHUNK) {
      const aliases = group.slice(start, start + CHUNK)
      const { tokens } = await client.call('createEnrollmentTokens', {
        headers: { 'Idempotency-Key': newId() },
        body: {
          aliases,
          ...(uses !== undefined && { uses_allowed: uses }),
          ...(expiresS !== undefined && { expires_in_sec: expiresS }),
          ...(note !== undefined && { note }),
          ...(Object.keys(labels).length > 0 && { labels }),
        },
      })
      yield { items: tokens, hasMore: false }
    }
  }
}

function alike(wanted: readonly Wanted[]) {
  const groups = new Map<string, { note: string | undefined; labels: Labels; group: string[] }>()
  for (const { alias, note, labels } of wanted) {
    const key = JSON.stringify([note ?? null, labels])
    const found = groups.get(key)
    if (found === undefined) groups.set(key, { note, labels, group: [alias] })
    else found.group.push(alias)
  }
  return groups.values()
}

/** Throws UsageError. */
function wantedBy({ args, readFile, cwd }: Context): readonly Wanted[] {
  const file = args.text('csv')
  if ((file === undefined) === (args.words.length === 0)) {
    throw new UsageError('Give aliases (D01, D01..D50), or --csv FILE.')
  }
  const note = args.text('note')
  const labels = givenLabels(args.texts('label'))
  const wanted =
    file === undefined
      ? args.words.flatMap(rangeOf).map((alias) => ({ alias, note, labels }))
      : rowsOf(readText(readFile, resolve(cwd, file)), note, labels)
  if (wanted.length > MAX_ALIASES) throw new UsageError(`At most ${MAX_ALIASES} aliases at once.`)
  const aliases = wanted.map(({ alias }) => alias)
  refuseTwice(aliases, (alias) => `${alias} is there twice.`)
  const wrong = aliases.find((alias) => !ALIAS.test(alias))
  if (wrong !== undefined) {
    throw new UsageError(`"${visible(wrong)}" is no alias: letters, digits, . _ and -, at most 64.`)
  }
  return wanted
}

/** `D08..D11`: D08, D09, D10, D11, with as many digits as the first. */
function rangeOf(word: string): readonly string[] {
  const [, stem, first = '', other, last = ''] = /^(.*?)(\d+)\.\.(.*?)(\d+)$/.exec(word) ?? []
  if (stem === undefined) return [word]
  const count = Number(last) - Number(first) + 1
  if (stem !== other || !(count >= 1 && count <= MAX_ALIASES)) {
    throw new UsageError(`${visible(word)} is no range: D01..D50, at most ${MAX_ALIASES}.`)
  }
  return Array.from({ length: count }, (_, n) => {
    return `${stem}${String(Number(first) + n).padStart(first.length, '0')}`
  })
}

function readText(readFile: (path: string) => string, path: string): string {
  let text: string
  try {
    text = readFile(path)
  } catch (error) {
    throw new UsageError(`${visible(path)} cannot be read: ${visible(errorText(error))}`)
  }
  if (text.includes('\ufffd')) throw new UsageError(`${visible(path)} is not UTF-8.`)
  return text
}

/** RFC 4180 without line breaks in a field; `;` as spreadsheets write it in some countries. */
function rowsOf(
  text: string,
  noteOfAll: string | undefined,
  labelsOfAll: Labels,
): readonly Wanted[] {
  const [head = '', ...lines] = text.replace(/^\ufeff/, '').split(/\r?\n/)
  const separator = head.includes(';') && !head.includes(',') ? ';' : ','
  const names = fieldsOf(head, separator).map((name) => name.trim().toLowerCase())
  if (!names.includes('alias')) {
    throw new UsageError(
      'The first line of the CSV names its columns: alias, note if you like, and labels.',
    )
  }
  const titles = names.filter((name) => name !== '')
  refuseTwice(titles, (title) => `The CSV has two columns ${title}.`)
  return lines
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const fields = fieldsOf(line, separator).map((field) => field.trim())
      if (fields.slice(names.length).some((field) => field !== '')) {
        throw new UsageError(`A line of the CSV has more fields than columns: ${visible(line)}`)
      }
      const pairs = names.map((name, index) => [name, fields[index] ?? ''] as const)
      const { alias = '', note, ...labels } = Object.fromEntries(pairs.filter(([, v]) => v !== ''))
      return { alias, note: note ?? noteOfAll, labels: { ...labelsOfAll, ...labels } }
    })
}

function fieldsOf(line: string, separator: string): readonly string[] {
  const field = separator === ',' ? /("(?:[^"]|"")*"|[^,]*)(,|$)/g : /("(?:[^"]|"")*"|[^;]*)(;|$)/g
  const fields: string[] = []
  for (const [, value = '', end] of line.matchAll(field)) {
    fields.push(/^".*"$/.test(value) ? value.slice(1, -1).replaceAll('""', '"') : value)
    if (end === '') break
  }
  return fields
}

/** Throws UsageError. */
function givenLabels(pairs: readonly string[]): Labels {
  const labels = pairs.map((pair) => {
    const [, key, value] = /^([^=]+)=(.+)$/s.exec(pair) ?? []
    if (key === undefined || value === undefined) {
      throw new UsageError(`--label takes KEY=VALUE, not ${visible(pair)}.`)
    }
    return [key, value] as const
  })
  const keys = labels.map(([key]) => key)
  refuseTwice(keys, (key) => `--label ${key}= is given twice.`)
  return Object.fromEntries(labels)
}
