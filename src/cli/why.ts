/**
 * `node dist/why.js <alias | device_id | request_id>`: `fleetloop why` under its former name, which operators have in
 * their notes. It has its own usage and exit codes: 0 explained; 1 unknown name, or the API refused or did not respond;
 * 2 invalid command line or environment, or the token would cross a network in clear text.
 */
import { parseArgs } from 'node:util'
import { ApiError, createApi } from './api/client.ts'
import { connectionOf, refuseMisspelt } from './api/connection.ts'
import { plain } from './terminal/text.ts'
import { UsageError } from './usage.ts'
import { explain, nothingHas } from './why/explain.ts'

const USAGE = `usage: why <alias | device_id | request_id>
  FLEETLOOP_TOKEN  an admin token, scope read or admin: FLEETLOOP_TOKEN=$(cat data/admin-token)
  FLEETLOOP_URL    a replica or the balancer, https:// or on loopback; http://127.0.0.1:8080 where it is not set`

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
  refuseMisspelt({ env })
  const api = createApi(connectionOf(env, USAGE))
  const lines = await explain(api, name)
  if (lines.length === 0) {
    printError(nothingHas(name))
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
