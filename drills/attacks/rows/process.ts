/** Rows 8 and 14: what the process refuses at startup, and how the documentation runs it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startReplica } from '../../../testkit/service.ts'
import { serviceSettings } from '../../../testkit/service-settings.ts'
import { allAre, type CheckRow } from '../check-row.ts'
import type { Criterion } from '../criterion.ts'
import type { Environment } from '../environment.ts'

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url))
const WHY = fileURLToPath(new URL('../../../src/cli/why.js', import.meta.url))
const EXIT_CONFIG = 78
const START_MS = 8_000
/** A reserved name (RFC 2606): resolving it fails, and nothing is connected to. */
const ELSEWHERE = 'postgres://fleet:word@database.invalid:5432/fleet'
const TLS = `${ELSEWHERE}?sslmode=verify-full`

/** `exit 78`, `starts` once it listens, or neither in time. */
async function outcomeOf(settings: Readonly<Record<string, string>>): Promise<string> {
  const service = startReplica({ settings })
  const outcome = await Promise.race([
    service.ended.then(({ code, signal }) => `exit ${signal ?? code}`),
    service.origin.then(
      () => 'starts',
      () => service.ended.then(({ code, signal }) => `exit ${signal ?? code}`),
    ),
    wait(START_MS, 'neither', { ref: false }),
  ])
  service.signal('SIGKILL')
  await service.ended
  return outcome
}

interface Start {
  readonly what: string
  readonly settings: Readonly<Record<string, string>>
  readonly outcome: string
}

async function startsCriterion(
  bar: string,
  { databaseUrl, dataDir }: Environment,
  starts: readonly Start[],
): Promise<Criterion> {
  const odd: string[] = []
  for (const { what, settings, outcome } of starts) {
    const base = { ...serviceSettings(databaseUrl, dataDir), NODE_ENV: 'production' }
    const seen = await outcomeOf({ ...base, ...settings })
    if (seen !== outcome) odd.push(`${what}: ${seen}`)
  }
  return allAre(bar, starts.length, odd)
}

const refused = `exit ${EXIT_CONFIG}`
const database = (url: string, more: Readonly<Record<string, string>> = {}) => ({
  settings: { DATABASE_URL: url, ...more },
})

const databaseUrls: CheckRow = {
  row: 8,
  title: 'the network between service and database',
  run: async (place) => [
    await startsCriterion(
      'production takes another host only with verify-full, or where plaintext is allowed',
      place,
      [
        ...['', '?sslmode=disable', '?sslmode=prefer', '?sslmode=require', '?sslmode=verify-ca']
          .concat(['?sslmode=no-verify', '?SSLMODE=verify-full', '?sslmode=verify-full&sslMode=a'])
          .map((query) => ({
            what: query === '' ? 'no sslmode' : query,
            ...database(ELSEWHERE + query),
            outcome: refused,
          })),
        {
          what: 'a root certificate that is not there',
          ...database(`${TLS}&sslrootcert=/nowhere/root.pem`),
          outcome: refused,
        },
        {
          what: 'migrations without TLS',
          ...database(TLS, { MIGRATE_DATABASE_URL: ELSEWHERE }),
          outcome: refused,
        },
        { what: 'verify-full', ...database(TLS), outcome: 'starts' },
        {
          what: 'plaintext allowed',
          ...database(ELSEWHERE, { ALLOW_PLAINTEXT_DATABASE: 'true' }),
          outcome: 'starts',
        },
        { what: 'a socket of this machine', settings: {}, outcome: 'starts' },
      ],
    ),
  ],
}

const WEAK = ['a'.repeat(32), 'ab'.repeat(20), '0'.repeat(64), 'passwordpasswordpassword']

const operation: CheckRow = {
  row: 14,
  title: 'how it is run',
  run: async (place) => [
    await startsCriterion(
      'an HMAC_SECRET below 128 bits of apparent entropy is refused',
      place,
      WEAK.map((HMAC_SECRET) => ({
        what: HMAC_SECRET,
        settings: { HMAC_SECRET },
        outcome: refused,
      })),
    ),
    unitCriterion(),
    digestsCriterion(),
    recipesCriterion(),
    await plaintextCriterion(),
  ],
}

function unitCriterion(): Criterion {
  const unit = readFileSync(join(ROOT, 'deploy/fleetloop.service'), 'utf8')
  const wanted = ['LimitCORE=0', 'MemoryMax=', 'WatchdogSec=', 'NotifyAccess=']
  const missing = wanted.filter((line) => !unit.includes(`\n${line}`))
  return allAre('the unit bounds core files and memory, and has a watchdog', wanted.length, missing)
}

function digestsCriterion(): Criterion {
  const images = ['Dockerfile', 'compose.yaml'].flatMap((file) =>
    readFileSync(join(ROOT, file), 'utf8')
      .split('\n')
      .flatMap((line) => /^\s*(?:ARG NODE=|image: )(\S+)/.exec(line)?.[1] ?? [])
      .filter((image) => !image.startsWith('fleetloop')),
  )
  const byTag = images.filter((image) => !/@sha256:[0-9a-f]{64}$/.test(image))
  return allAre('images are named by digest', images.length, byTag)
}

/** Every user of the machine can read command lines with `ps`. */
function recipesCriterion(): Criterion {
  const docs = readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
  const files = ['README.md', 'RUNBOOK.md', ...docs.map((name) => join('docs', name))]
  const recipes = files
    .filter((file) => file.endsWith('.md'))
    .flatMap((file) => readFileSync(join(ROOT, file), 'utf8').split('\n'))
    .filter((line) => /\bcurl\b/.test(line))
  const open = recipes.filter((line) => /-H *["']?authorization: *bearer/i.test(line))
  return allAre('no recipe has a token on its command line', recipes.length, open)
}

async function plaintextCriterion(): Promise<Criterion> {
  const { PATH } = process.env
  const env = { PATH, FLEETLOOP_TOKEN: 'x'.repeat(32), FLEETLOOP_URL: 'http://fleetloop.invalid' }
  const child = spawn(process.execPath, [WHY, 'nobody'], { stdio: ['ignore', 'pipe', 'pipe'], env })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const [code] = await once(child, 'close')
  return {
    bar: 'why sends no token in clear to another host',
    measured: `why ended with ${code}: ${said.trim().split('\n')[0]}`,
    isHeld: code !== 0 && /https/i.test(said) && !/gives no answer/.test(said),
  }
}

export const PROCESS_CHECKS: readonly CheckRow[] = [databaseUrls, operation]
