/**
 * The push identity in a devices row `d`: a registration token in fcm_token, or otherwise a FID in fid. Statements take
 * it as one text (pushIdText), so that every comparison is by kind and value.
 */
import { FID_FORM } from '../../domain/delivery/push-id.ts'

/** 'token:…' or 'fid:…'; null if there is none. */
export const PUSH_ID = /* sql */ `
  (case when d.fcm_token is not null then 'token:' || d.fcm_token else 'fid:' || d.fid end)`

export const PUSH_KIND = /* sql */ `
  (case when d.fcm_token is not null then 'token' when d.fid is not null then 'fid' end)`

export const HAS_PUSH_ID = /* sql */ `(d.fcm_token is not null or d.fid is not null)`

/** As domain/delivery/push-id.ts's PushId, or null; the driver parses it. */
export const PUSH_ID_JSON = /* sql */ `
  (case when ${HAS_PUSH_ID} then json_build_object('kind', ${PUSH_KIND}, 'value', coalesce(d.fcm_token, d.fid)) end)`

/** As domain/delivery/push-id.ts's isMisnamedFid. */
export const IS_FID_MISNAMED = /* sql */ `coalesce(d.fcm_token ~ '${FID_FORM.source}', false)`

/** The value of column fcm_token for the identity in `parameter`. */
export const tokenOf = (parameter: string) => /* sql */ `
  case when starts_with(${parameter}::text, 'token:') then substr(${parameter}::text, 7) end`

/** The value of column fid for the identity in `parameter`. */
export const fidOf = (parameter: string) => /* sql */ `
  case when starts_with(${parameter}::text, 'fid:') then substr(${parameter}::text, 5) end`
