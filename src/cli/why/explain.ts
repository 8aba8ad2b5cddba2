/** Finds out what a name is (a command, a phone, or only an enrollment token) and explains it. */
import type { Api } from '../api/client.ts'
import { ago } from '../terminal/ago.ts'
import { describeLiveApk } from './apk.ts'
import { describeCommand, findCommand } from './command.ts'
import { describePhone, findDeletedPhone, findPhone, findPhoneById } from './phone.ts'
import { describeUnknownPhone } from './unknown-phone.ts'

/** Lines for a terminal; empty if the name is unknown. */
export async function explain(api: Api, name: string): Promise<readonly string[]> {
  const command = await findCommand(api, name)
  const named = command === undefined ? await findPhoneById(api, name) : undefined
  const isKnown = command !== undefined || named !== undefined
  const deleted = isKnown ? undefined : await findDeletedPhone(api, name)
  const { alias, device_id } = command ?? named ?? deleted ?? { alias: name, device_id: undefined }
  const phone = await findPhone(api, alias)
  const isSuccessor = device_id !== undefined && phone && phone.device_id !== device_id
  const deletion = deleted?.deleted_at
  const about = [
    ...(command === undefined ? [] : describeCommand(command, api.now())),
    ...(deletion ? [`phone ${alias} (${device_id}): deleted ${ago(deletion, api.now())}`] : []),
    ...(isSuccessor && command ? ['  its phone was deleted; another one has the alias now:'] : []),
    ...(isSuccessor && deletion ? ['  another one has the alias now:'] : []),
    ...(phone === undefined
      ? await describeUnknownPhone(api, alias)
      : await describePhone(api, phone)),
  ]
  return about.length === 0 ? [] : [...about, ...(await describeLiveApk(api))]
}
