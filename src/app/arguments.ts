/** Parses the arguments of `node dist/main.js`: none, or a request for information. */
import { nearest } from '../lib/nearest.ts'

const OPTIONS = ['--help', '--version'] as const

/** `version`: of this release. */
function helpOf(version: string): string {
  return `fleetloop ${version}

usage: node dist/main.js [--help | --version]

Serves until SIGTERM or SIGINT. Log lines go to stdout, notes for people to stderr.
Settings come from the environment, each also from a file (NAME_FILE=/path): .env.example has
all of them with their defaults. Without DATABASE_URL it brings its own PostgreSQL and secrets,
under DATA_DIR; with one, or with NODE_ENV=production, it needs DATABASE_URL, ADMIN_TOKENS and
HMAC_SECRET.

Exit codes: 0 stopped by a signal; 64 an argument; 78 the configuration or the database, stderr
says what to mend; 1 anything else. RUNBOOK.md has the rest.

node dist/cli.js --help   the operator's command line: phones, commands, builds`
}

export type ParsedArguments =
  | { readonly kind: 'serve' }
  | { readonly kind: 'print'; readonly text: string }
  | { readonly kind: 'invalid'; readonly text: string }

export function parseArguments(
  args: readonly string[],
  readVersion: () => string,
): ParsedArguments {
  const [first, ...more] = args
  if (first === undefined) return { kind: 'serve' }
  if (more.length === 0 && first === '--help') return { kind: 'print', text: helpOf(readVersion()) }
  if (more.length === 0 && first === '--version') return { kind: 'print', text: readVersion() }
  const unknown = args.find((arg) => !OPTIONS.some((option) => option === arg)) ?? first
  const suggestion = nearest(unknown, OPTIONS)
  const question =
    suggestion === undefined || suggestion === unknown ? '' : ` Is ${suggestion} meant?`
  const usage = 'usage: node dist/main.js [--help | --version]; settings come from the environment'
  return {
    kind: 'invalid',
    text: `${JSON.stringify(unknown.slice(0, 60))} is no argument here.${question}\n${usage}`,
  }
}
