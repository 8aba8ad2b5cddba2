/**
 * `npm run demo`: the whole loop once, on this machine alone. Starts a fake FCM and the built service with
 * an embedded PostgreSQL in a temporary directory, walks five simulated phones through it, and cleans up.
 */
import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { type FakeFcm, pushSettings, startFakeFcm } from '../fcm/fake-fcm.ts'
import { createScreen, type Output, type Screen } from './screen.ts'
import { type ServiceProcess, startServiceProcess } from './service-process.ts'
import { tellStory } from './steps.ts'

const USAGE = `npm run demo             the loop with push, through a stand-in for FCM
npm run demo -- --no-push   without push: the next heartbeat brings the command`

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const
const EXIT_FAILURE = 1
const IS_COLOURED = process.stdout.isTTY === true && !process.env['NO_COLOR']

class Interrupted extends Error {
  override readonly name = 'Interrupted'
  readonly exitCode: number

  constructor(what: string, exitCode: number) {
    super(`stopped by ${what}`)
    this.exitCode = exitCode
  }
}

/** What must be stopped. */
interface Started {
  push?: FakeFcm
  service?: ServiceProcess
  /** The first signal, even during the shutdown. */
  interrupted?: Interrupted
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { 'no-push': { type: 'boolean' }, help: { type: 'boolean' } },
  })
  if (values.help === true) {
    process.stdout.write(`${USAGE}\n`)
    return 0
  }
  const started: Started = {}
  const story = { isOver: false }
  let exitCode = EXIT_FAILURE
  try {
    const stopped = interruption(started)
    const screen = createScreen(stdoutUntil(story), IS_COLOURED)
    await Promise.race([stopped, walk(screen, started, values['no-push'] !== true)])
    exitCode = 0
  } catch (error) {
    story.isOver = true // it may still run, and would print in between
    process.stderr.write(`\ndemo: ${error instanceof Error ? error.message : String(error)}\n`)
  }
  const isStoppedWell = await stop(createScreen(process.stdout, IS_COLOURED), started)
  return started.interrupted?.exitCode ?? (isStoppedWell ? exitCode : EXIT_FAILURE)
}

async function walk(screen: Screen, started: Started, isPushOn: boolean): Promise<void> {
  const adminToken = randomBytes(32).toString('base64url')
  const start = async () => {
    if (isPushOn) started.push = await startFakeFcm()
    const service = startServiceProcess({
      ADMIN_TOKENS: `demo=${adminToken}`,
      HMAC_SECRET: randomBytes(32).toString('base64url'),
      ...(started.push !== undefined && {
        ...pushSettings(started.push),
      }),
    })
    started.service = service
    return { service, origin: await service.ready }
  }
  screen.step(`0 start: PostgreSQL of its own, the service, push ${isPushOn ? 'on' : 'off'}`)
  const { service, origin } = await screen.progress('starting PostgreSQL and the service', start())
  screen.note(`the service answers at ${origin}`)
  const { push } = started
  const { log } = service
  await Promise.race([tellStory({ origin, adminToken, log, screen, push }), service.failed])
  screen.step('The loop is closed.')
}

function stdoutUntil(story: { readonly isOver: boolean }): Output {
  return {
    isTTY: process.stdout.isTTY === true,
    write: (text) => story.isOver || process.stdout.write(text),
  }
}

/** Rejects on SIGINT, SIGTERM or SIGHUP, and when stdout is closed. A second signal speeds up the service's shutdown. */
function interruption(started: Started): Promise<never> {
  return new Promise((_, reject) => {
    const interrupt = (what: string, exitCode: number) => {
      if (started.interrupted !== undefined) void started.service?.stop()
      started.interrupted ??= new Interrupted(what, exitCode)
      reject(started.interrupted)
    }
    for (const [signal, exitCode] of Object.entries(SIGNALS)) {
      process.on(signal, () => interrupt(signal, exitCode))
    }
    process.stdout.once('error', () => interrupt('a closed stdout', EXIT_FAILURE))
    process.stdout.on('error', () => {})
    process.stderr.on('error', () => {})
  })
}

/** false if the service did not exit cleanly. */
async function stop(screen: Screen, { service, push }: Started): Promise<boolean> {
  const exitCode = service && (await screen.progress('stopping the service', service.stop()))
  if (service !== undefined) {
    screen.note(`the service ended with exit code ${exitCode}; its directory is removed`)
  }
  await push?.close()
  return exitCode === 0
}

main().then(
  (exitCode) => process.exit(exitCode),
  (error: unknown) => {
    process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exit(EXIT_FAILURE)
  },
)
