/** Text that phones and admins send and that people read in a terminal: finds and replaces unsafe characters. */

/**
 * Controls (C0, DEL, C1), line and paragraph separators, bidirectional marks, invisible characters and lone surrogates.
 * U+200C and U+200D are allowed: Persian, Indic scripts and emoji need them.
 */
const UNSAFE =
  /[\p{Cc}\p{Zl}\p{Zp}\p{Surrogate}\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/u
const EACH_UNSAFE = new RegExp(UNSAFE, 'gu')

/** Also allowed in multi-line text. */
export const LINES = '\n\t'

/** PostgreSQL can store it, and no terminal interprets it. */
export function isSafe(text: string): boolean {
  return !UNSAFE.test(text)
}

/** The first unsafe character that is not in `allowed`, as `U+202E`. */
export function unsafeCharacter(text: string, allowed = ''): string | undefined {
  for (const [character] of text.matchAll(EACH_UNSAFE)) {
    if (!allowed.includes(character)) {
      return `U+${character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}`
    }
  }
  return undefined
}

/** For multi-line text. Each unsafe character becomes U+FFFD, CR LF and CR become LF. */
export function replaceUnsafe(text: string): string {
  return text
    .replace(/\r\n?/g, '\n')
    .replace(EACH_UNSAFE, (character) => (LINES.includes(character) ? character : '\uFFFD'))
}

/** Equivalent JSON, with each unsafe character as \uXXXX. */
export function escapeUnsafe(json: string): string {
  return json.replace(EACH_UNSAFE, (character) =>
    Array.from(
      { length: character.length },
      (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`,
    ).join(''),
  )
}
