/** Runs every check: what does not depend on each other, at once. */
import { readVersion } from '../../app/version.ts'
import { originOf } from '../api/connection.ts'
import { UsageError } from '../usage.ts'
import type { Context } from '../verb.ts'
import { checkConfiguration } from './configuration.ts'
import { checkDatabases } from './database.ts'
import { checkDisk } from './disk.ts'
import { type Finding, skipped } from './finding.ts'
import { checkPush } from './push.ts'
import { checkService } from './service.ts'

export async function examine(context: Context): Promise<readonly Finding[]> {
  const { env, readFile, now } = context
  const { config, findings } = checkConfiguration(env, readFile)
  const service = serviceFindings(context)
  if (config === undefined) return [...findings, ...(await service)]
  const parts = await Promise.all([checkDatabases(config, now), checkPush(config), service])
  return [...findings, ...parts.flat(), checkDisk(config)]
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
    return [skipped('service', `not asked: ${error.message.split('\n')[0]}`)]
  }
}
