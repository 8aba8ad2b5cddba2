/** Labels that an enrollment token gives the phones that enroll with it, as parts of registration's statements. */
import { MAX_LABELS } from '../../domain/labels.ts'

/** Labels of the phones that enroll with this token. */
export const tokenLabels = (tokenId: string) => /* sql */ `
  (select t.labels from enrollment_tokens t where t.token_id = ${tokenId})`

/** Those of the token come first: a device keeps as many of its own as then still fit. */
export const MERGED_LABELS = /* sql */ `
  (select coalesce(jsonb_object_agg(key, value), '{}') from (
    select each.key, each.value from ${tokenLabels('$2')} t, jsonb_each(devices.labels || t.labels) each
    order by not t.labels ? each.key, each.key limit ${MAX_LABELS}) merged)`
