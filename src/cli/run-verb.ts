/** From the arguments to a verb's exit code. */
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { ApiError, createApi } from './api/client.ts'
import { findConnection } from './api/connection.ts'
import { helpOf, overview } from './help.ts'
import { OutputClosedError, OutputLostError, type Terminal } from './terminal/terminal.ts'
import { visible, wrap } from './terminal/text.ts'
import { question, refuseTwice, UsageError } from './usage.ts'
import { type Args, COMMON_OPTIONS, type Context, EXIT, type ExitCode, type Verb } from './verb.ts'
import { VERBS } from './verbs.ts'

export interface Surroundings
  extends Pick<Context, 'terminal' | 'env' | 'stdin' | 'readFile' | 'cwd' | 'newId' | 'now'> {
  readonly version: () => string
}

/** Prints what goes wrong on stderr. */
export async function runCommand(
  argv: readonly string[],
  surroundings: Surroundings,
): Promise<ExitCode> {
  const { terminal } = surroundings
  try {
    return await perform(argv, surroundings)
  } catch (error) {
    if (error instanceof OutputClosedError) return EXIT.ok
    if (error instanceof UsageError || error instanceof OutputLostError) {
      terminal.note(error.message)
      return EXIT.usage
    }
    if (!(error instanceof ApiError)) throw error
    terminal.note(error.message)
    return error.failure === 'refused' ? EXIT.no : EXIT.unavailable
  }
}

async function perform(
  [name, ...rest]: readonly string[],
  surroundings: Surroundings,
): Promise<ExitCode> {
  const { terminal, version } = surroundings
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    const about = VERBS.find((verb) => verb.name === rest[0])
    await printLines(terminal, about === undefined ? overview(VERBS) : helpOf(about))
    return name === undefined ? EXIT.usage : EXIT.ok
  }
  if (name === '--version') {
    await terminal.print(version())
    return EXIT.ok
  }
  const verb = VERBS.find((verb) => verb.name === name)
  if (verb === undefined) throw unknownVerb(name)
  const args = argsOf(verb, rest)
  if (args.has('help')) {
    await printLines(terminal, helpOf(verb))
    return EXIT.ok
  }
  const [least, most] = verb.count
  if (args.words.length < least || args.words.length > most) throw wrongUsage(verb, verb.words)
  const source = { ...surroundings, url: args.text('url'), tokenFile: args.text('token-file') }
  return verb.run({
    ...surroundings,
    args,
    isJson: args.has('json'),
    connection: () => findConnection(source),
    api: () => createApi(findConnection(source)),
  })
}

function unknownVerb(name: string): UsageError {
  if (name.startsWith('-')) {
    return new UsageError('Options stand behind the verb: fleetloop VERB --option')
  }
  const verbs = VERBS.map((verb) => verb.name)
  const given = visible(name.slice(0, 60))
  return new UsageError(
    `${given} is no verb.${question(name, verbs)}\nfleetloop --help lists them.`,
  )
}

function wrongUsage(verb: Verb, what: string): UsageError {
  const usage = `usage: fleetloop ${verb.name} ${what}`.trimEnd()
  return new UsageError(`${usage}\nfleetloop ${verb.name} --help has more.`)
}

/** Throws UsageError. */
function argsOf(verb: Verb, argv: readonly string[]): Args {
  const known = { ...verb.options, ...COMMON_OPTIONS }
  const options: NonNullable<ParseArgsConfig['options']> = Object.fromEntries(
    Object.entries(known).map(([name, { value, isRepeatable = false }]) => [
      name,
      {
        type: value === undefined ? 'boolean' : 'string',
        multiple: isRepeatable,
        ...(name === 'help' && { short: 'h' }),
      } as const,
    ]),
  )
  const { values, positionals, tokens } = parsed(verb, argv, options)
  const given = tokens.flatMap((token) => (token.kind === 'option' ? [token.name] : []))
  const single = given.filter((name) => options[name]?.type === 'string' && !options[name].multiple)
  refuseTwice(single, (name) => `--${name} is given twice.`)
  const texts = (name: string) => [values[name] ?? []].flat().map(String)
  return {
    words: positionals,
    texts,
    text: (name) => texts(name)[0],
    has: (name) => values[name] === true,
  }
}

function parsed(verb: Verb, argv: readonly string[], options: ParseArgsConfig['options'] & object) {
  try {
    return parseArgs({ args: [...argv], options, allowPositionals: true, tokens: true })
  } catch (error) {
    const [, name = ''] = /^Unknown option '--?([^']*)'/.exec(Object(error).message) ?? []
    const meant = question(name, Object.keys(options), '--')
    const text = String(Object(error).message).replaceAll('\n', ' ')
    const [sentence] = visible(text).split(/\. To specify/)
    const usage = `fleetloop ${verb.name} --help has more.`
    throw new UsageError(`${sentence?.replace(/\.?$/, '.')}${meant}\n${usage}`)
  }
}

/** Help: a long line goes on below its text, or below what is behind the name of an option. */
async function printLines(terminal: Terminal, lines: readonly string[]): Promise<void> {
  const wrapped = lines.flatMap((line) => {
    const [start = ''] = /^ +\S+(?: \S+)? {2,}|^ */.exec(line) ?? []
    return wrap(line, terminal.width, start.length)
  })
  await terminal.print(wrapped.join('\n'))
}
