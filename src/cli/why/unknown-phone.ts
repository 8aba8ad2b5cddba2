/** Explains why an unknown phone is refused: it was deleted, or it never used its enrollment token. */
import type { Api } from '../api/client.ts'
import { ago } from '../terminal/ago.ts'
import { plain } from '../terminal/text.ts'
import { ALIAS } from './phone.ts'
import { REFUSED } from './token.ts'

/** Changes of one alias that are searched for the deletion, newest first. */
const MAX_AUDIT_ENTRIES = 500

export async function describeUnknownPhone(api: Api, alias: string): Promise<readonly string[]> {
  if (!ALIAS.test(alias)) return []
  const { audit } = await api.call('audit', { query: { alias, limit: MAX_AUDIT_ENTRIES } })
  const { tokens } = await api.call('listEnrollmentTokens', { query: { alias, limit: 1 } })
  const deleted = audit.find(({ what }) => what === 'device.delete')
  const [token] = tokens
  if (deleted === undefined && token === undefined) return []
  const now = api.now()
  return [
    `phone ${alias}: not enrolled`,
    ...(deleted === undefined
      ? []
      : [
          `  ${deleted.admin} deleted it ${ago(deleted.at, now)}: its token is refused, 410 device_deleted`,
        ]),
    ...(token === undefined
      ? [`  no enrollment token is known for it: fleetloop enroll ${alias}`]
      : [
          `  its last enrollment token, made by ${token.issued_by} ${ago(token.issued_at, now)}, is ${REFUSED[token.status]}`,
        ]),
  ].map(plain)
}
