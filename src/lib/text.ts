/** Text of phones and admins that people read in a terminal: which characters are unsafe there, and what becomes of them. */

/**
 * Controls (C0, DEL, C1), line and paragraph separators, marks that change the direction of text, characters that nobody
 * sees, lone surrogates. U+200C and U+200D stay: Persian, Indic scripts and emoji need them.
 */
const UNSAFE =
  /[\p{Cc}\p{Zl}\p{Zp}\p{Surrogate}\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/u
const EACH_UNSAFE = new RegExp(UNSAFE, 'gu')

/** What text of several lines may hold besides. */
export const LINES = '\n\t'

/** PostgreSQL stores it as it is, and no terminal acts on it. */
export function isSafe(text: string): boolean {
  return !UNSAFE.test(text)
}

/** The first unsafe character, such as `U+202E`; undefined where there is none but those of `allowed`. */
export function unsafeCharacter(text: string, allowed = ''): string | undefined {
  for (const [character] of text.matchAll(EACH_UNSAFE)) {
    if (!allowed.includes(character)) {
      return `U+${character.codePointAt(0)?.toString(16).toUpperCase().padStart(4, '0')}`
    }
  }
  return undefined
}

/** Text of several lines with U+FFFD in place of each unsafe character; CR LF and CR become LF. */
export function replaceUnsafe(text: string): string {
  return text
    .replace(/\r\n?/g, '\n')
    .replace(EACH_UNSAFE, (character) => (LINES.includes(character) ? character : '\uFFFD'))
}

/** JSON that says the same with \uXXXX in place of each unsafe character. */
export function escapeUnsafe(json: string): string {
  return json.replace(EACH_UNSAFE, (character) =>
    Array.from(
      { length: character.length },
      (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`,
    ).join(''),
  )
}
