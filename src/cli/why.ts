/**
 * `node dist/why.js <alias | device_id | request_id>`: tells the person on call why a command has not run, why a
 * phone is offline or refused, and which APK is live. Runs as its own process and uses only the admin API. Exit
 * codes: 0 explained; 1 unknown name, or the API refused or did not respond; 2 invalid command line or environment,
 * or the token would cross a network in clear text.
 */
import { parseArgs } from 'node:util'
import { ApiError, createApi, plain } from './why/api.ts'
import { explain } from './why/explain.ts'

const USAGE = `usage: why <alias | device_id | request_id>
  FLEETLOOP_TOKEN  an admin token, scope read or admin: FLEETLOOP_TOKEN=$(cat data/admin-token)
  FLEETLOOP_URL    a replica or the balancer, https:// or on loopback; http://127.0.0.1:8080 where it is not set`

/** Invalid command line or environment. */
class UsageError extends Error {
  override readonly name = 'UsageError'
}

const printError = (text: string) => process.stderr.write(`${text}\n`)

process.stdout.on('error', () => {}) // the reader may close early
try {
  process.exitCode = await run(process.argv.slice(2), process.env)
} catch (error) {
  if (!(error instanceof ApiError) && !(error instanceof UsageError)) throw error
  printError(error.message)
  process.exitCode = error instanceof UsageError ? 2 : 1
}

async function run(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const name = nameOf(args)
  if (name === undefined) {
    process.stdout.write(`${USAGE}\n`)
    return 0
  }
  const { FLEETLOOP_TOKEN = '', FLEETLOOP_URL: url = 'http://127.0.0.1:8080' } = env
  const token = FLEETLOOP_TOKEN.trim()
  if (token === '') throw new UsageError(`FLEETLOOP_TOKEN is not set.\n${USAGE}`)
  // fetch would reject it too, with the token in its message.
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new UsageError(
      'FLEETLOOP_TOKEN holds a space, a newline or what is not ASCII, as no token does: is it one token, whole?',
    )
  }
  if (!URL.canParse(url)) throw new UsageError(`FLEETLOOP_URL is no URL: ${plain(url)}\n${USAGE}`)
  if (!isPrivate(new URL(url))) {
    throw new UsageError(
      `FLEETLOOP_URL: the token would go to ${plain(url)} in clear. Give https://, or http:// to loopback: on that host itself, or through ssh -L.`,
    )
  }
  const { pathname, search, hash, username, password } = new URL(url)
  if (pathname + search + hash + username + password !== '/') {
    throw new UsageError('FLEETLOOP_URL takes a scheme, a host and a port, and nothing more.')
  }
  const lines = await explain(createApi({ url, token }), name)
  if (lines.length === 0) {
    printError(`No phone, no command and no enrollment token here has the name ${plain(name)}.`)
    return 1
  }
  process.stdout.write(`${lines.join('\n')}\n`)
  return 0
}

/** undefined: help was requested. Throws UsageError. */
function nameOf(args: readonly string[]): string | undefined {
  const { values, positionals } = parsed(args)
  if (values.help === true) return undefined
  const [name = '', ...more] = positionals
  if (name === '') throw new UsageError(`A name is missing.\n${USAGE}`)
  if (more.length > 0) throw new UsageError(`One name at a time, please.\n${USAGE}`)
  return name
}

function parsed(args: readonly string[]) {
  try {
    const options = { help: { type: 'boolean', short: 'h' } } as const
    return parseArgs({ args: [...args], options, allowPositionals: true })
  } catch (error) {
    throw new UsageError(`${plain(Object(error).message)}\n${USAGE}`)
  }
}

/** Whether no network sees what is sent there. */
function isPrivate({ protocol, hostname }: URL): boolean {
  const isLoopback = /^(localhost|\[::1\]|127(\.\d+){3})$/.test(hostname)
  return protocol === 'https:' || (protocol === 'http:' && isLoopback)
}
