/** What the endpoints of enrollment use. */
import type {
  Enrolled,
  OnJudged,
  Registration,
  RegistrationOutcome,
} from '../../db/enrollment/registration.ts'
import type { EnrollmentTokenStore } from '../../db/enrollment/tokens.ts'
import type { EnrollmentVerdict } from '../../domain/identity.ts'
import type { DeadTokens } from '../../security/dead-tokens.ts'
import type { ReachedLimit } from '../../security/denial.ts'
import type { BatchTokens, IssuedToken } from '../../security/tokens.ts'

export interface Enrollment {
  readonly register: (
    registration: Registration,
    onJudged: OnJudged,
    isWanted: () => boolean,
  ) => Promise<RegistrationOutcome>
  readonly tokens: EnrollmentTokenStore
  /** For the log lines of a registration whose body is refused. Rejects if too many wait. */
  readonly judgeForLines: (tokenHash: Buffer) => Promise<EnrollmentVerdict>
  readonly deadTokens: DeadTokens
  readonly refuseEnrollment: (verdict: Exclude<EnrollmentVerdict, { kind: 'active' }>) => Error
  readonly issueDeviceToken: () => IssuedToken
  readonly batchTokens: BatchTokens
  /** Which HMAC_SECRET new enrollments are signed with. */
  readonly hmacSecretId: string
  readonly commandKey: (enrolled: Enrolled) => string
  readonly heartbeatIntervalS: number
  /** Tokens that one admin may create in a sliding hour. */
  readonly maxPerHour: number
  readonly rateLimited: (reached: ReachedLimit) => Error
  readonly instanceId: () => string | null
  readonly newId: () => string
  readonly now: () => Date
}
