/** What every list shares: its page, and times as the text that a cursor holds. */

/** A page of a list: number of rows, and the key after which it starts. Sorted newest first, ties by id. */
export interface ListPage {
  readonly limit: number
  readonly after: { readonly at: string; readonly id: string } | null
}

/** RFC 3339 in UTC with microseconds, so that a cursor skips no row. `column` never comes from a client. */
export function timeText(column: string): string {
  return `to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
}
