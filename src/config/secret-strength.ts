/**
 * How hard a secret looks to guess: an upper estimate in bits, for refusing what people make up. Random bytes as hex or
 * base64 look as strong as they are; what repeats, counts, is typed along a keyboard row or reads like words does not.
 */

const HEX = 16
/** Smallest first; the first that holds at least this share of the secret is taken for its own. */
const ALPHABETS: readonly (readonly [size: number, characters: RegExp, share: number])[] = [
  [10, /[0-9]/g, 1],
  [HEX, /[0-9a-f]/g, 0.9],
  [HEX, /[0-9A-F]/g, 0.9],
  [26, /[a-z]/g, 0.95],
  [26, /[A-Z]/g, 0.95],
  [36, /[0-9a-z]/g, 0.95],
  [36, /[0-9A-Z]/g, 0.95],
  [64, /[A-Za-z0-9+/_-]/g, 0.95],
]
const PRINTABLE = 94
/** A piece of the secret that occurs here, or earlier in the secret itself, counts as one character. */
const KNOWN = [
  'abcdefghijklmnopqrstuvwxyz zyxwvutsrqponmlkjihgfedcba 01234567890 09876543210',
  'qwertyuiop poiuytrewq asdfghjkl lkjhgfdsa zxcvbnm mnbvcxz 1q2w3e4r5t6y7u8i9o0p',
  '00112233445566778899aabbccddeeff 000102030405060708090a0b0c0d0e0f',
  'changeme password secret example placeholder default letmein welcome hunter2',
].join(' ')
const PIECE_LENGTH = 6
/** No secret needs more to be strong. */
const CHARACTERS_READ = 512
/**
 * English runs at 1 to 1.5 bits a letter, words drawn at random at 2 to 3. With 3, no base64 of 32 bytes can be taken for
 * weak because it looks like words by chance.
 */
const WORD_BITS = 3
/** The hundred commonest pairs of letters: 77 % of those in English, 15 % of those in random letters. */
const PAIRS = new Set(
  `th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic ne ea
  ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc et ut ss so rs un lo wa ge ie
  wh ee wi em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su`.split(/\s+/),
)
const MIN_PAIRS = 8
const MIN_PAIRS_SHARE = 0.45
const MIN_WORDS_SHARE = 0.8
/** What people write for letters. */
const DISGUISED: Readonly<Record<string, string>> = {
  0: 'o',
  1: 'i',
  3: 'e',
  4: 'a',
  5: 's',
  7: 't',
  '@': 'a',
  $: 's',
}
/** Of a random (version 4) UUID six bits are fixed. */
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const UUID_BITS = 122

export function apparentBits(secret: string): number {
  if (UUID.test(secret)) return UUID_BITS
  const text = secret.slice(0, CHARACTERS_READ).replace(/=+$/, '')
  const alphabet = alphabetOf(text)
  const bitsEach = Math.log2(Math.min(alphabet, 4 * Math.max(1, new Set(text).size)))
  const plain = text.replace(/(?<=[A-Za-z])[013457@$]+(?=[a-z])/g, (signs) =>
    [...signs].map((sign) => DISGUISED[sign]).join(''),
  )
  if (alphabet > HEX && (isWords(text) || isWords(plain))) {
    return Math.min(WORD_BITS, bitsEach) * unforeseen(text.toLowerCase())
  }
  return bitsEach * unforeseen(text.toLowerCase())
}

function alphabetOf(text: string): number {
  const found = ALPHABETS.find(
    ([, characters, share]) => (text.match(characters)?.length ?? 0) >= share * text.length,
  )
  return found?.[0] ?? PRINTABLE
}

/** Characters that do not follow from what was before; a piece that was counts once. */
function unforeseen(text: string): number {
  const all = `${KNOWN}\n${text}`
  let count = 0
  for (let at = KNOWN.length + 1; at < all.length; count += 1) {
    let length = PIECE_LENGTH
    // Up to its own last character but one: what repeats with a period overlaps itself.
    const wasBefore = () =>
      at + length <= all.length &&
      all.slice(0, at + length - 1).includes(all.slice(at, at + length))
    if (!wasBefore()) {
      at += 1
      continue
    }
    while (wasBefore()) length += 1
    at += length - 1
  }
  return count
}

/** Nearly all letters are in runs of one case, and follow each other as in English. */
function isWords(text: string): boolean {
  const letters = text.match(/[a-z]/gi)?.length ?? 0
  // Where both cases are mixed, as in base64, three letters of one follow each other by chance too often.
  const isMixed = /[a-z]/.test(text) && /[A-Z]/.test(text)
  const words = text.match(isMixed ? /[A-Za-z][a-z]{3,}|[A-Z]{4,}/g : /[a-z]{2,}|[A-Z]{2,}/g) ?? []
  if (words.join('').length < MIN_WORDS_SHARE * letters) return false
  const pairs = words.flatMap((word) => {
    const lower = word.toLowerCase()
    return [...lower.slice(1)].map((letter, index) => `${lower[index]}${letter}`)
  })
  const common = pairs.filter((pair) => PAIRS.has(pair)).length
  return pairs.length >= MIN_PAIRS && common >= MIN_PAIRS_SHARE * pairs.length
}
