/** `tail`: the log for people, from a file that grows, from journald or from stdin. */
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { EVENTS } from '../../telemetry/log/events.ts'
import { readableLine } from '../../telemetry/log/readable-line.ts'
import { filterOf, isOf, LEVELS, type LogLine } from '../log/filter.ts'
import { END, follow } from '../log/follow.ts'
import { journal } from '../log/journal.ts'
import { numberOf } from '../terminal/list.ts'
import { jsonLine, visible } from '../terminal/text.ts'
import { question, UsageError } from '../usage.ts'
import { type Context, EXIT, type Verb } from '../verb.ts'
import { findDevices, whereOf } from '../where.ts'

export const tailVerb: Verb = {
  name: 'tail',
  summary: 'show log lines of the service in a readable form, and follow',
  words: '[FILE]',
  count: [0, 1],
  options: {
    event: {
      value: 'NAME',
      help: 'only this event; push. stands for all of push',
      isRepeatable: true,
    },
    where: { value: 'WHERE', help: 'only lines about the phones that the service selects now' },
    phone: { value: 'NAME', help: 'the same by name, unasked: STORE-*,D01' },
    level: { value: 'LEVEL', help: `at least this: ${LEVELS.join(', ')}` },
    id: { value: 'ID', help: 'only lines of this request or command' },
    unit: { value: 'UNIT', help: 'of this systemd unit, from journald' },
    lines: {
      value: 'N',
      help: 'begin with the last N that fit; of a unit: with its last N; default 20',
    },
    once: { help: 'do not follow' },
  },
  calls: ['listDevices'],
  examples: [
    'tail fleetloop.log --once --level WARN',
    "tail fleetloop.log --once --where 'label:site=zrh' --event push.",
    "tail fleetloop.log --once --phone 'STORE-*'",
  ],
  notes: [
    'FILE may be rotated meanwhile, by a rename or by copytruncate. Without FILE and --unit it',
    'reads stdin. Only --where asks the service, and it alone needs a token.',
  ],
  async run(context) {
    const { args, terminal, isJson } = context
    const last = numberOf(args.text('lines'), '--lines', 20)
    const wanted = wantedOf(context)
    const lines = source(context, last)
    const selected = await selectedBy(context)
    if (selected?.size === 0) {
      terminal.note('No phone matches.')
      return EXIT.no
    }
    const isWanted = filterOf({ ...wanted, selected })
    const format = (line: string) => (isJson ? line : readableLine(line, terminal.hasColors))
    const foreign = (line: string) => (isJson ? undefined : visible(line))
    const before: string[] = []
    let isLive = args.words.length === 0
    for await (const line of lines) {
      if (line === END) {
        for (const each of before.splice(0)) await terminal.print(each)
        isLive = true
        if (args.has('once')) return EXIT.ok
        continue
      }
      const text = shown(line, isWanted, format, foreign)
      if (text === undefined) continue
      if (isLive) await terminal.print(text)
      else if (before.push(text) > last) before.shift()
    }
    return EXIT.ok
  },
}

/** undefined: filtered out. Lines that are no JSON are shown as they are, unless something is filtered or with --json. */
function shown(
  line: string,
  isWanted: (line: LogLine | undefined) => boolean,
  format: (line: string) => string,
  foreign: (line: string) => string | undefined,
): string | undefined {
  const parsed = parse(line)
  if (line.trim() === '' || !isWanted(parsed)) return undefined
  return parsed === undefined ? foreign(line) : format(jsonLine(parsed))
}

function parse(line: string): LogLine | undefined {
  try {
    const value: unknown = JSON.parse(line)
    const isLine = typeof value === 'object' && value !== null && 'event' in value
    return isLine ? { ...value } : undefined
  } catch {
    return undefined
  }
}

/** Throws UsageError. */
function wantedOf({ args }: Context) {
  const level = args.text('level')?.toUpperCase()
  if (level !== undefined && !LEVELS.includes(level)) {
    throw new UsageError(`--level takes ${LEVELS.join(', ')}.`)
  }
  const events = args.texts('event')
  const unknown = events.find((event) => !EVENT_NAMES.some(isOf(event)))
  if (unknown !== undefined) {
    const meant = question(unknown, [...EVENT_NAMES, ...EVENT_NAMES.map(groupOf)])
    const where = 'docs/reference/events.md lists them.'
    throw new UsageError(`${visible(unknown)} is no event.${meant}\n${where}`)
  }
  return { events, id: args.text('id'), level, phones: args.text('phone') }
}

const EVENT_NAMES = Object.keys(EVENTS)
const groupOf = (event: string) => event.replace(/\..*/, '.')

/** Device ids and aliases of --where; undefined without it. */
async function selectedBy(context: Context): Promise<ReadonlySet<string> | undefined> {
  const { args } = context
  const where = args.text('where')
  if (where === undefined) return undefined
  const names = new Set<string>()
  for await (const { items } of findDevices(context.api(), whereOf([where]))) {
    for (const { device_id, alias } of items) names.add(device_id).add(alias)
  }
  return names
}

/** Throws UsageError. */
function source(context: Context, lines: number): AsyncIterable<string | typeof END> {
  const { args, stdin, cwd, env } = context
  const [file] = args.words
  const unit = args.text('unit')
  if (file !== undefined && unit !== undefined) throw new UsageError('Give FILE or --unit.')
  if (unit !== undefined) return journal({ unit, lines, isFollowed: !args.has('once'), env })
  if (file !== undefined) return follow(resolve(cwd, file))
  if (Object(stdin).isTTY) {
    throw new UsageError('Give FILE or --unit, or pipe the log into it: fleetloop tail --help')
  }
  return createInterface({ input: stdin, crlfDelay: Number.POSITIVE_INFINITY })
}
