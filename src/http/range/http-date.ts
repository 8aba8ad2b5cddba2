/** HTTP dates (RFC 9110, section 5.6.7): reads all three formats, writes the preferred one. Pure. */

const FIFTY_YEARS_S = 50 * 365.2425 * 86_400
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ')
const DAY = `(?:${DAYS.join('|')})`
const LONG_DAY = '(?:Sun|Mon|Tues|Wednes|Thurs|Fri|Satur)day'
const MONTH = `(?<month>${MONTHS.join('|')})`
const TIME = '(?<hour>\\d\\d):(?<minute>\\d\\d):(?<second>\\d\\d)'

const FORMATS: readonly RegExp[] = [
  // Sun, 06 Nov 1994 08:49:37 GMT
  new RegExp(`^${DAY}, (?<day>\\d\\d) ${MONTH} (?<year>\\d{4}) ${TIME} GMT$`),
  // Sunday, 06-Nov-94 08:49:37 GMT
  new RegExp(`^${LONG_DAY}, (?<day>\\d\\d)-${MONTH}-(?<year>\\d\\d) ${TIME} GMT$`),
  // Sun Nov  6 08:49:37 1994
  new RegExp(`^${DAY} ${MONTH} (?<day>\\d\\d| \\d) ${TIME} (?<year>\\d{4})$`),
]

/** Epoch seconds; undefined if `text` is not a valid date. A wrong weekday is accepted. */
export function parseHttpDate(text: string, nowS: number): number | undefined {
  for (const format of FORMATS) {
    const found = format.exec(text.trim())?.groups
    if (found !== undefined) return secondsOf(found, nowS)
  }
  return undefined
}

/** IMF-fixdate, such as `Sun, 06 Nov 1994 08:49:37 GMT`. */
export function formatHttpDate(epochS: number): string {
  return new Date(epochS * 1000).toUTCString()
}

function secondsOf(found: Readonly<Record<string, string>>, nowS: number): number | undefined {
  const part = (name: string) => Number(found[name])
  const month = MONTHS.indexOf(found['month'] ?? '')
  const secondOfDay = (part('hour') * 60 + part('minute')) * 60 + part('second')
  // 60: a leap second
  if (part('hour') > 23 || part('minute') > 59 || part('second') > 60) return undefined
  const inYear = (year: number) => {
    const date = new Date(0)
    date.setUTCFullYear(year, month, part('day')) // Date.UTC reads years below 100 as 19xx
    const isDay = date.getUTCMonth() === month && date.getUTCDate() === part('day')
    return isDay ? date.getTime() / 1000 + secondOfDay : undefined
  }

  const year = part('year')
  if (found['year']?.length === 4) return inYear(year)
  // Two digits mean the latest such year that is at most 50 years ahead.
  const thisYear = new Date(nowS * 1000).getUTCFullYear()
  const latest = thisYear + 50 - ((thisYear + 50 - year) % 100)
  const epochS = inYear(latest)
  const isTooFar = epochS !== undefined && epochS > nowS + FIFTY_YEARS_S
  return isTooFar ? inYear(latest - 100) : epochS
}
