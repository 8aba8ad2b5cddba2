/** Finds out what a name is (a job, a command, a phone, an enrollment token) and explains it. */
import type { Api } from '../api/client.ts'
import { ago } from '../terminal/ago.ts'
import { plain } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'
import { describeLiveApk } from './apk.ts'
import { describeCommand, findCommand } from './command.ts'
import { describeJob, findJob, findJobOfMember } from './job.ts'
import { describePhone, findDeletedPhone, findPhone, findPhoneById } from './phone.ts'
import { describeToken, findToken } from './token.ts'
import { describeUnknownPhone } from './unknown-phone.ts'

/** Of a token itself, not of its id. It must not get into a URL, which proxies log. */
const SECRET = /^[ed]t_/

/** Lines for a terminal; empty if the name is unknown. Throws UsageError for a secret. */
export async function explain(api: Api, name: string): Promise<readonly string[]> {
  refuseSecret(name)
  const command = await findCommand(api, name)
  const job = (await findJob(api, name)) ?? (command ? undefined : await findJobOfMember(api, name))
  const aboutJob = job === undefined ? [] : await describeJob(api, job)
  if (job !== undefined && command === undefined) return aboutJob
  return [...aboutJob, ...(await explainOthers(api, name, command))]
}

async function explainOthers(
  api: Api,
  name: string,
  command: Awaited<ReturnType<typeof findCommand>>,
): Promise<readonly string[]> {
  const named = command === undefined ? await findPhoneById(api, name) : undefined
  const isPhone = command !== undefined || named !== undefined
  const deleted = isPhone ? undefined : await findDeletedPhone(api, name)
  const token = isPhone || deleted !== undefined ? undefined : await findToken(api, name)
  const phoneOfName = { alias: name, device_id: undefined }
  const { alias, device_id } = command ?? named ?? deleted ?? { ...phoneOfName, ...aliasOf(token) }
  const phone = await findPhone(api, alias)
  const isSuccessor = device_id !== undefined && phone && phone.device_id !== device_id
  const deletion = deleted?.deleted_at
  const about = [
    ...(command === undefined ? [] : describeCommand(command, api.now())),
    ...(token === undefined ? [] : await describeToken(api, token)),
    ...(deletion ? [`phone ${alias} (${device_id}): deleted ${ago(deletion, api.now())}`] : []),
    ...(isSuccessor && command ? ['  its phone was deleted; another one has the alias now:'] : []),
    ...(isSuccessor && deletion ? ['  another one has the alias now:'] : []),
    ...(phone === undefined
      ? await describeUnknownPhone(api, alias)
      : await describePhone(api, phone)),
  ]
  return about.length === 0 ? [] : [...about.map(plain), ...(await describeLiveApk(api))]
}

/** A token for any phone has no alias: then only the token itself is explained. */
function aliasOf(token: Awaited<ReturnType<typeof findToken>>) {
  return token?.alias ? { alias: token.alias } : {}
}

/** Throws UsageError. */
export function refuseSecret(name: string): void {
  if (!SECRET.test(name)) return
  throw new UsageError('That is a token itself, a secret: give its TOKEN ID (fleetloop tokens).')
}

export function nothingHas(name: string): string {
  return `No phone, no command, no job and no enrollment token here has the name ${plain(name)}.`
}
