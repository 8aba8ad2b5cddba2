/** Runs every check at once, each within the same time. */
import { readVersion } from '../../app/version.ts'
import { withTimeout } from '../../lib/timeouts.ts'
import { originOf, TokenMissingError } from '../api/connection.ts'
import { UsageError } from '../usage.ts'
import type { Context } from '../verb.ts'
import { checkConfiguration } from './configuration.ts'
import { checkDatabases } from './database.ts'
import { checkDisk } from './disk.ts'
import { type Finding, fault, skipped } from './finding.ts'
import { checkPush } from './push.ts'
import { checkService } from './service.ts'

export async function examine(context: Context): Promise<readonly Finding[]> {
  const { env, readFile, now } = context
  const { config, findings } = checkConfiguration(env, readFile)
  const service = inTime('service', serviceFindings(context))
  if (config === undefined) return [...findings, ...(await service)]
  const parts = await Promise.all([
    inTime('database', checkDatabases(config, now)),
    inTime('push', checkPush(config)),
    service,
    inTime('disk', checkDisk(config)),
  ])
  return [...findings, ...parts.flat()]
}

/** Of one check. All run at once, so all is said within 5 s, the start of the program included. */
const CHECK_MS = 4_500
class TooLate extends Error {}

/** A check that hangs is a fault of what it checks. */
export async function inTime(
  area: string,
  check: Promise<Finding | readonly Finding[]>,
  ms = CHECK_MS,
): Promise<readonly Finding[]> {
  try {
    return [await withTimeout(check, ms, () => new TooLate())].flat()
  } catch (error) {
    if (!(error instanceof TooLate)) throw error
    const text = `no answer within ${ms / 1_000} s`
    return [fault(area, `${text}: look for a host that is overloaded or a firewall that drops`)]
  }
}

/** Without a token there is nothing to ask a service with. */
async function serviceFindings(context: Context): Promise<readonly Finding[]> {
  const { args, env, now } = context
  try {
    return await checkService({
      connection: context.connection(),
      isNamed: Boolean(args.text('url') ?? env['FLEETLOOP_URL']),
      replicas: args.texts('replica').map((url) => originOf(url, '--replica takes a URL')),
      version: readVersion(),
      now,
    })
  } catch (error) {
    if (!(error instanceof UsageError) || args.texts('replica').length > 0) throw error
    const text = `not asked: ${error.message.split('\n')[0]}`
    return [error instanceof TokenMissingError ? skipped('service', text) : fault('service', text)]
  }
}
