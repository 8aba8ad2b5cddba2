/** `tail`: the log for people, from a file that grows or from stdin. */
import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'
import { errorText } from '../../lib/error-text.ts'
import { readableLine } from '../../telemetry/log/readable-line.ts'
import { jsonLine, visible } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'
import { type Context, EXIT, type Verb } from '../verb.ts'
import { numberOf } from './list.ts'

const POLL_MS = 250
const READ_BYTES = 64 * 1024
/** A longer line is none of ours; it is cut. */
const MAX_LINE = 1024 * 1024
const LEVELS: readonly string[] = ['DEBUG', 'INFO', 'WARN', 'ERROR']

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
    phone: { value: 'NAME', help: 'only lines about these aliases or device ids: STORE-*,D01' },
    level: { value: 'LEVEL', help: `at least this: ${LEVELS.join(', ')}` },
    id: { value: 'ID', help: 'only lines of this request or command' },
    lines: { value: 'N', help: 'of a file, begin with its last N that fit; default 20' },
    once: { help: 'do not follow the file' },
  },
  calls: [],
  examples: [
    'tail fleetloop.log --once --level WARN',
    "tail fleetloop.log --once --phone 'STORE-*' --event push.",
  ],
  notes: ['Without FILE it reads stdin: journalctl -o cat -f -u fleetloop | fleetloop tail'],
  async run(context) {
    const { args, terminal, isJson } = context
    const isWanted = filterOf(context)
    const last = numberOf(args.text('lines'), '--lines', 20)
    const format = (line: string) => (isJson ? line : readableLine(line, terminal.hasColors))
    const before: string[] = []
    let isLive = args.words.length === 0
    for await (const line of source(context)) {
      if (line === END) {
        for (const each of before.splice(0)) await terminal.print(each)
        isLive = true
        if (args.has('once')) return EXIT.ok
        continue
      }
      const text = shown(line, isWanted, format)
      if (text === undefined) continue
      if (isLive) await terminal.print(text)
      else if (before.push(text) > last) before.shift()
    }
    return EXIT.ok
  },
}

type Line = Readonly<Record<string, unknown>>

/** undefined: filtered out. Lines that are no JSON are shown as they are, unless something is filtered. */
function shown(
  line: string,
  isWanted: (line: Line | undefined) => boolean,
  format: (line: string) => string,
): string | undefined {
  const parsed = parse(line)
  if (line.trim() === '' || !isWanted(parsed)) return undefined
  return parsed === undefined ? visible(line) : format(jsonLine(parsed))
}

function parse(line: string): Line | undefined {
  try {
    const value: unknown = JSON.parse(line)
    const isLine = typeof value === 'object' && value !== null && 'event' in value
    return isLine ? { ...value } : undefined
  } catch {
    return undefined
  }
}

/** Throws UsageError. */
function filterOf({ args }: Context): (line: Line | undefined) => boolean {
  const events = args.texts('event')
  const id = args.text('id')
  const level = args.text('level')
  const least = LEVELS.indexOf(level?.toUpperCase() ?? '')
  if (level !== undefined && least < 0) throw new UsageError(`--level takes ${LEVELS.join(', ')}.`)
  const phones = phonesOf(args.text('phone'))
  const isUnfiltered =
    [id, level, phones].every((each) => each === undefined) && events.length === 0
  const isOf = (name: unknown) => (event: string) =>
    event.endsWith('.') ? String(name).startsWith(event) : name === event
  return (line) => {
    if (line === undefined) return isUnfiltered
    const { alias, device_id, event, level: found, request_id } = line
    return (
      (events.length === 0 || events.some(isOf(event))) &&
      LEVELS.indexOf(String(found)) >= least &&
      (id === undefined || request_id === id || line['http_request_id'] === id) &&
      (phones === undefined || phones.test(`${alias}`) || phones.test(`${device_id}`))
    )
  }
}

/** Aliases with `*`, or device ids, separated by commas. */
function phonesOf(text: string | undefined): RegExp | undefined {
  if (text === undefined) return undefined
  const names = text.split(',').map((name) => name.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^(?:${names.join('|').replaceAll('*', '.*')})$`, 'i')
}

/** Between what was there and what comes. */
const END = Symbol('end')

function source(context: Context): AsyncIterable<string | typeof END> {
  const { args, stdin, cwd } = context
  const [file] = args.words
  if (file === undefined)
    return createInterface({ input: stdin, crlfDelay: Number.POSITIVE_INFINITY })
  return follow(resolve(cwd, file))
}

/** A file that became shorter (rotated by copytruncate) is read from its start. */
async function* follow(path: string): AsyncGenerator<string | typeof END> {
  const file = await open(path).catch((error) => {
    throw new UsageError(`${visible(path)} cannot be read: ${visible(errorText(error))}`)
  })
  const buffer = Buffer.alloc(READ_BYTES)
  const decoder = new TextDecoder()
  let position = 0
  let rest = ''
  let isFirst = true
  try {
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES, position)
      position += bytesRead
      const lines = (rest + decoder.decode(buffer.subarray(0, bytesRead), { stream: true })).split(
        '\n',
      )
      rest = (lines.pop() ?? '').slice(0, MAX_LINE)
      yield* lines
      if (bytesRead > 0) continue
      if (isFirst) yield END
      isFirst = false
      await wait(POLL_MS)
      if ((await file.stat()).size < position) {
        position = 0
        rest = ''
      }
    }
  } finally {
    await file.close()
  }
}
