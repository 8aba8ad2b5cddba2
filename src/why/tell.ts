/** What a name is (a command, a phone, or only an enrollment token), and all that is to be told of it. */
import type { Api } from './api.ts'
import { tellApk } from './apk.ts'
import { findCommand, tellCommand } from './command.ts'
import { findPhone, tellPhone } from './phone.ts'
import { tellStranger } from './stranger.ts'

/** Lines for a terminal; none where nothing is known. */
export async function tell(api: Api, name: string): Promise<readonly string[]> {
  const command = await findCommand(api, name)
  const phone = await findPhone(api, command?.alias ?? name)
  const isSuccessor = command && phone && phone.device_id !== command.device_id
  const about = [
    ...(command === undefined ? [] : tellCommand(command, api.now())),
    ...(isSuccessor ? ['  its phone was deleted; another one has the alias now:'] : []),
    ...(phone === undefined
      ? await tellStranger(api, command?.alias ?? name)
      : await tellPhone(api, phone)),
  ]
  return about.length === 0 ? [] : [...about, ...(await tellApk(api))]
}
