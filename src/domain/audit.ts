/** Kinds of changes in the audit log. Names are never changed: entries of former releases have them. */
export const AUDIT_WHATS = [
  'device.created',
  /** A new token for a device that enrolled again. */
  'device.re_enrolled',
  /** A lost enrollment response was sent again. */
  'device.reissued',
  'device.label',
  'device.delete',
  'device.erase',
  /** The labels of a selection. Each changed device has a `device.label` too. */
  'devices.label',
  'enrollment_token.create',
  /** A lost batch was shown again. */
  'enrollment_token.repeat',
  'enrollment_token.revoke',
  'command.create',
  'command.cancel',
  'job.create',
  /** By the service, as are a pause at the threshold and `job.done`. */
  'job.start',
  'job.pause',
  'job.resume',
  'job.abort',
  'job.done',
  'apk.publish',
  'apk.release',
  'apk.withdraw',
] as const

export type AuditWhat = (typeof AUDIT_WHATS)[number]
