/** `doctor`: checks a configuration before the service starts, or beside a running one. */
import { jsonLine, plain, wrap } from '../terminal/text.ts'
import { type Context, EXIT, type Verb } from '../verb.ts'
import type { Finding } from './finding.ts'

const GREEN = '32'
const RED = '31'
const AREA_WIDTH = 11

export const doctorVerb: Verb = {
  name: 'doctor',
  summary: 'check settings, database, push, disk, clock and the running service',
  words: '',
  count: [0, 0],
  options: {
    replica: { value: 'URL', help: 'another replica to compare', isRepeatable: true },
  },
  calls: ['healthz', 'readyz', 'listDevices'],
  examples: ['doctor'],
  notes: [
    'It reads the settings of the service from the environment: run it as the same user, on',
    'the same host. It changes nothing, and takes 5 s at most. Exit code 1 if it finds a fault.',
  ],
  async run(context) {
    const { terminal, isJson } = context
    // Loaded here alone: other verbs need neither pg nor the library for access tokens.
    const { examine } = await import('./examine.ts')
    const findings = await examine(context)
    for (const finding of findings) {
      const lines = isJson ? [jsonLine(finding)] : linesOf(context, finding)
      for (const line of lines) await terminal.print(line)
    }
    return findings.some(({ isGood }) => isGood === false) ? EXIT.no : EXIT.ok
  },
}

function linesOf({ terminal }: Context, { area, isGood, text }: Finding): readonly string[] {
  const mark =
    isGood === null ? '-' : isGood ? terminal.paint('✓', GREEN) : terminal.paint('✗', RED)
  const indent = AREA_WIDTH + '✓  '.length
  const [first = '', ...more] = wrap(
    `${' '.repeat(2)}${area.padEnd(AREA_WIDTH)} ${plain(text)}`,
    terminal.width,
    indent,
  )
  return [`${mark} ${first.slice(2)}`, ...more]
}
