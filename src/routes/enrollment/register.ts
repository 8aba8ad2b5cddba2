/** POST /v1/register: exchanges an enrollment token for a device and its token, atomically; a phone that lost the response repeats the request. */

import type { Enrolled, OnJudged, RegistrationOutcome } from '../../db/enrollment/registration.ts'
import { AppError, invalidField } from '../../domain/errors.ts'
import { noteEnrollment } from '../../domain/identity.ts'
import { ALIAS } from '../../domain/ids.ts'
import { asObject, type Fields, intField, optionalString } from '../../http/fields.ts'
import { type BaseRequest, type Endpoint, json, type Request } from '../../http/route.ts'
import { readPushId } from '../devices/push-id-body.ts'
import type { Enrollment } from './feature.ts'

const MAX_TEXT_LENGTH = 128

export function registerEndpoint(deps: Enrollment): Endpoint<'enrollment-token'> {
  const readRegistration = registrationReader(deps)
  return {
    async handle(request) {
      const { ignored, ...asked } = await readRegistration(request)
      const { context, tokenHash } = request
      const issued = deps.issueDeviceToken()
      const registration = {
        ...asked,
        enrollmentTokenHash: tokenHash,
        newDeviceId: deps.newId(),
        deviceTokenHash: issued.hash,
        hmacSecretId: deps.hmacSecretId,
        requestId: context.requestId,
        ip: context.ip,
      }
      const outcome = await loggedOnce(request, (onJudged) => {
        const note: OnJudged = (verdict) => {
          deps.deadTokens.note(tokenHash, verdict)
          onJudged(verdict)
        }
        return deps.register(registration, note, () => !request.isEnded)
      })
      const enrolled = accepted(outcome, deps)
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
          device_token: issued.token,
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

/** Writes `register.request` once: as soon as the token is judged, and no later than when `work` ends. */
async function loggedOnce<T>(
  request: Pick<BaseRequest, 'context' | 'log'>,
  work: (onJudged: OnJudged) => Promise<T>,
): Promise<T> {
  let isWritten = false
  const write = () => {
    if (isWritten) return
    isWritten = true
    const { tokenId } = request.context
    request.log({ event: 'register.request', fields: { token_id: tokenId, result: null } })
  }
  try {
    return await work((verdict) => {
      noteEnrollment(verdict, request.context)
      write()
    })
  } finally {
    write()
  }
}

/**
 * Reads the body. If it is refused, looks the token up, only for the log lines. Refused bodies pass no queue, so at most one
 * such look-up runs at a time; the lines of other requests name no token and have the limit of anonymous ones.
 */
function registrationReader({ tokens, deadTokens }: Enrollment) {
  let isJudging = false
  async function judge(request: Request<'enrollment-token'>): Promise<void> {
    isJudging = true
    try {
      const verdict = await tokens.judge(request.tokenHash)
      deadTokens.note(request.tokenHash, verdict)
      if (verdict.kind === 'active') await loggedOnce(request, async (judged) => judged(verdict))
    } catch {
      // The response does not need it.
    } finally {
      isJudging = false
    }
  }
  return async (request: Request<'enrollment-token'>) => {
    const body = asObject(request.body)
    try {
      const alias = optionalString(body, 'alias', 64, ALIAS) ?? null
      return { ...readDescription(body), alias }
    } catch (error) {
      if (!isJudging) await judge(request)
      throw error
    }
  }
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

function readDescription(body: Fields) {
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
  }
}
