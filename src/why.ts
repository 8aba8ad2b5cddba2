/**
 * `node dist/why.js <alias | request_id>`: for the pager, why a command has not run, why a phone is offline or refused,
 * which APK is live. A process of its own, beside the service, that asks nothing but the admin API.
 * Exit codes: 0 told; 1 nothing is known of it, or the API did not answer; 2 asked without a name or a token, or where
 * the token would cross a network in clear.
 */
import { ApiError, createApi } from './why/api.ts'
import { tell } from './why/tell.ts'

const USAGE = `usage: why <alias | request_id>
  FLEETLOOP_TOKEN  an admin token, scope read or admin: FLEETLOOP_TOKEN=$(cat data/admin-token)
  FLEETLOOP_URL    a replica or the balancer, https:// or on loopback; http://127.0.0.1:8080 where it is not set`

const say = (text: string) => process.stderr.write(`${text}\n`)

process.stdout.on('error', () => {}) // a reader that left early has had enough
try {
  process.exitCode = await run(process.argv.slice(2), process.env)
} catch (error) {
  if (!(error instanceof ApiError)) throw error
  say(error.message)
  process.exitCode = 1
}

async function run(names: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const [name, ...more] = names
  const { FLEETLOOP_TOKEN: token = '', FLEETLOOP_URL: url = 'http://127.0.0.1:8080' } = env
  if (name === undefined || more.length > 0 || token === '' || !URL.canParse(url)) {
    say(USAGE)
    return 2
  }
  if (!isPrivate(new URL(url))) {
    say(
      `FLEETLOOP_URL: the token would go to ${url} in clear. Give https://, or http:// to loopback: on that host itself, or through ssh -L.`,
    )
    return 2
  }
  const lines = await tell(createApi({ url, token }), name)
  if (lines.length === 0) {
    say(`No phone, no command and no enrollment token here has the name ${name}.`)
    return 1
  }
  process.stdout.write(`${lines.join('\n')}\n`)
  return 0
}

/** Whether nobody on a network can read what is sent there. */
function isPrivate({ protocol, hostname }: URL): boolean {
  const isLoopback = /^(localhost|\[::1\]|127(\.\d+){3})$/.test(hostname)
  return protocol === 'https:' || (protocol === 'http:' && isLoopback)
}
