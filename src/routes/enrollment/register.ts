/** POST /v1/register: exchanges an enrollment token for a device and its token, atomically; a phone that lost the response repeats the request. */

import type { Enrolled, OnJudged, RegistrationOutcome } from '../../db/enrollment/registration.ts'
import { AppError, invalidField } from '../../domain/errors.ts'
import { noteEnrollment } from '../../domain/identity.ts'
import { ALIAS } from '../../domain/ids.ts'
import { asObject, type Fields, intField, optionalString } from '../../http/fields.ts'
import { type Endpoint, json, type Request } from '../../http/route.ts'
import { readPushId } from '../devices/push-id-body.ts'
import type { Enrollment } from './feature.ts'

const MAX_TEXT_LENGTH = 128

export function registerEndpoint(deps: Enrollment): Endpoint<'enrollment-token'> {
  return {
    async handle(request) {
      const { context } = request
      // Read before it waits for its turn, so that it holds no parsed body.
      const asked = readRegistration(asObject(request.body))
      const { enrolled, token, ignored } = await logged(request, deps, (onJudged) =>
        enroll(request, asked, deps, onJudged),
      )
      context.deviceId = enrolled.deviceId
      context.alias = enrolled.alias
      const reason = enrolled.kind === 'reissued' ? 'reissue' : null
      request.log({
        event: 'sec.token.consume',
        fields: { reason, token_id: context.tokenId, admin: null },
      })
      return json(
        enrolled.kind === 'created' ? 201 : 200,
        {
          device_id: enrolled.deviceId,
          alias: enrolled.alias,
          device_token: token,
          hmac_key: deps.commandKey(enrolled),
          heartbeat_interval_s: deps.heartbeatIntervalS,
          server_time: deps.now().toISOString(),
          instance_id: deps.instanceId(),
          ignored,
        },
        {
          event: 'register.success',
          fields: { token_id: context.tokenId, result: enrolled.kind },
        },
      )
    },
    failLine(reason, statusCode, context) {
      if (statusCode >= 500) return undefined
      return { event: 'register.fail', fields: { token_id: context.tokenId, result: reason } }
    },
  }
}

/**
 * Writes `register.request` once: as soon as an active token is known, and no later than when `work` ends. Unless the token
 * is active or `work` succeeds, the line has the limit of anonymous requests.
 */
async function logged<T>(
  request: Request<'enrollment-token'>,
  { deadTokens }: Pick<Enrollment, 'deadTokens'>,
  work: (onJudged: OnJudged) => Promise<T>,
): Promise<T> {
  const { context, tokenHash } = request
  let isWritten = false
  const write = () => {
    if (isWritten) return
    isWritten = true
    const { tokenId } = context
    request.log({ event: 'register.request', fields: { token_id: tokenId, result: null } })
  }
  try {
    const done = await work((verdict) => {
      deadTokens.note(tokenHash, verdict)
      noteEnrollment(verdict, context)
      context.isTokenDead = verdict.kind !== 'active'
      if (!context.isTokenDead) write()
    })
    context.isTokenDead = false // a used-up token whose lost response was sent again
    return done
  } finally {
    write()
  }
}

async function enroll(
  request: Request<'enrollment-token'>,
  asked: ReturnType<typeof readRegistration>,
  deps: Enrollment,
  onJudged: OnJudged,
) {
  const { context, tokenHash } = request
  const { ignored, ...read } = await asked.catch(async (error: unknown) => {
    // Only the log lines need the token.
    await deps.judgeForLines(tokenHash).then(onJudged, () => {})
    throw error
  })
  const { token, hash } = deps.issueDeviceToken()
  const registration = {
    ...read,
    enrollmentTokenHash: tokenHash,
    newDeviceId: deps.newId(),
    deviceTokenHash: hash,
    hmacSecretId: deps.hmacSecretId,
    requestId: context.requestId,
    ip: context.ip,
  }
  const outcome = await deps.register(registration, onJudged, () => !request.isEnded)
  return { enrolled: accepted(outcome, deps), token, ignored }
}

/** The enrolled device; throws if the outcome is a refusal. */
function accepted(outcome: RegistrationOutcome, deps: Enrollment): Enrolled {
  switch (outcome.kind) {
    case 'refused':
      throw deps.refuseEnrollment(outcome.verdict)
    case 'alias_missing':
      throw invalidField('alias', 'is required: this enrollment token is bound to no alias')
    case 'alias_mismatch':
      throw new AppError(
        'alias_mismatch',
        `This enrollment token is bound to ${outcome.boundAlias}. Register that alias, or leave it out.`,
      )
    case 'alias_taken':
      throw new AppError(
        'alias_taken',
        `A live device holds ${outcome.alias}. Re-enroll it with a token bound to that alias, or delete it.`,
      )
    default:
      return outcome
  }
}

async function readRegistration(body: Fields) {
  const alias = optionalString(body, 'alias', 64, ALIAS) ?? null
  const text = (name: string) => optionalString(body, name, MAX_TEXT_LENGTH) ?? null
  const sdkInt = intField(body, 'sdk_int', { min: 0, max: 10_000 }, 0)
  return {
    hardwareId: text('hardware_id'),
    appVersion: text('app_version'),
    model: text('model'),
    manufacturer: text('manufacturer'),
    androidVersion: text('android_version'),
    sdkInt: sdkInt === 0 ? null : sdkInt,
    ...readPushId(body),
    alias,
  }
}
