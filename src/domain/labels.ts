/** Labels: what admins write on a phone. */

export const LABEL_KEY = /^[a-z][a-z0-9._-]{0,31}$/
/** Of one device, and of one enrollment token. */
export const MAX_LABELS = 16
/** Names in one change: as many are set as are removed. */
export const MAX_CHANGED_LABELS = 2 * MAX_LABELS
/** In UTF-16 units, as every text of the API. */
export const MAX_LABEL_LENGTH = 63

export type Labels = Readonly<Record<string, string>>

/** Merged into the labels of a device; null removes one. */
export type LabelChange = Readonly<Record<string, string | null>>
