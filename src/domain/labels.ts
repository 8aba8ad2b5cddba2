/** Labels: what admins write on a phone. */

export const LABEL_KEY = /^[a-z][a-z0-9._-]{0,31}$/
