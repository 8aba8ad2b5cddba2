/** Explains why an unknown phone is refused: it was deleted, or it never used its enrollment token. */
import { ago } from './ago.ts'
import { ALIAS, type Api, plain } from './api.ts'

interface Change {
  readonly at: string
  readonly admin: string | null
  readonly what: string
}

interface EnrollmentToken {
  readonly status: 'active' | 'exhausted' | 'expired' | 'revoked'
  readonly issued_at: string
  readonly expires_at: string
  readonly issued_by: string
}

/** Changes of one alias that are searched for the deletion, newest first. */
const MAX_AUDIT_ENTRIES = 500
const REFUSED = {
  active: 'not used yet: the phone never came, or its request was refused',
  exhausted: 'used up: 401 token_exhausted',
  expired: 'expired: 401 token_expired',
  revoked: 'revoked: 401 token_revoked',
} as const

export async function describeUnknownPhone(api: Api, alias: string): Promise<readonly string[]> {
  if (!ALIAS.test(alias)) return []
  const audit = await api.get<{ audit: readonly Change[] }>(
    `/admin/audit?alias=${alias}&limit=${MAX_AUDIT_ENTRIES}`,
  )
  const issued = await api.get<{ tokens: readonly EnrollmentToken[] }>(
    `/v1/enroll-tokens?alias=${alias}&limit=1`,
  )
  const deleted = audit?.audit.find(({ what }) => what === 'device.delete')
  const [token] = issued?.tokens ?? []
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
      ? ['  no enrollment token is known for it: POST /v1/enroll-tokens']
      : [
          `  its last enrollment token, made by ${token.issued_by} ${ago(token.issued_at, now)}, is ${REFUSED[token.status]}`,
        ]),
  ].map(plain)
}
