/** In which order the devices of a selection are listed. */

/** `created` and `seen`: newest first. */
export const DEVICE_ORDERS = ['created', 'alias', 'seen'] as const

export type DeviceOrder = (typeof DEVICE_ORDERS)[number]

/** Where a device that was never heard of stands among times of last contact, as a page's key writes them. */
export const NEVER_SEEN_AT = '1970-01-01T00:00:00.000000Z'
