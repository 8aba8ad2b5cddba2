/** Which log lines `tail` shows. */

export type LogLine = Readonly<Record<string, unknown>>

export const LEVELS: readonly string[] = ['DEBUG', 'INFO', 'WARN', 'ERROR']

export interface Wanted {
  /** Names; `push.` stands for all that begin with it. Empty: any. */
  readonly events: readonly string[]
  /** Of a request or a command. */
  readonly id: string | undefined
  /** One of LEVELS, at least. */
  readonly level: string | undefined
  /** Aliases with `*`, or device ids, separated by commas. */
  readonly phones: string | undefined
  /** Device ids and aliases; undefined: any. */
  readonly selected: ReadonlySet<string> | undefined
}

/** Lines that are no log line of the service (undefined) are wanted as long as nothing is filtered. */
export function filterOf(wanted: Wanted): (line: LogLine | undefined) => boolean {
  const { events, id, level, selected } = wanted
  const least = level === undefined ? -1 : LEVELS.indexOf(level)
  const phones = wanted.phones === undefined ? undefined : patternOf(wanted.phones)
  const isUnfiltered =
    events.length === 0 && [id, level, phones, selected].every((each) => each === undefined)
  const isOfEvents = events.map(isOf)
  return (line) => {
    if (line === undefined) return isUnfiltered
    const { alias, device_id, event, level: found, request_id } = line
    return (
      (events.length === 0 || isOfEvents.some((isOfOne) => isOfOne(event))) &&
      LEVELS.indexOf(String(found)) >= least &&
      (id === undefined || request_id === id || line['http_request_id'] === id) &&
      (phones === undefined || phones.test(`${alias}`) || phones.test(`${device_id}`)) &&
      (selected === undefined || selected.has(`${device_id}`) || selected.has(`${alias}`))
    )
  }
}

/** Whether an event has the name `wanted`, or begins with it: `push.`. */
export function isOf(wanted: string): (event: unknown) => boolean {
  return (event) => (wanted.endsWith('.') ? `${event}`.startsWith(wanted) : event === wanted)
}

function patternOf(text: string): RegExp {
  const names = text.split(',').map((name) => name.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^(?:${names.join('|').replaceAll('*', '.*')})$`, 'i')
}
