/** What a reader got of the log, held against the requests that were sent. */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { asJsonObject } from '../../testkit/http/client.ts'

/** Ids of the load's requests: this and the number of the request. */
export const LOAD_ID = 'load-'

export interface Account {
  /** Terminal lines of the load's requests, each counted once. */
  readonly loadLines: number
  /** All others but those about drops: start, stop, enrollment, scrapes. */
  readonly otherLines: number
  /** The sum of what the `log.dropped` lines say. */
  readonly reportedDrops: number
  /** Lines that are no JSON object, or end a request that another line has ended. */
  readonly faults: number
  /** Of all lines. */
  readonly meanLineBytes: number
}

/** `isCut`: the last line may be unfinished, for the service was ended before a reader that stood still. */
export async function readAccount(path: string, isCut = false): Promise<Account> {
  const seen = new Set<number>()
  const account = { loadLines: 0, otherLines: 0, reportedDrops: 0, faults: 0 }
  let bytes = 0
  let lines = 0
  let last = ''
  const take = (text: string) => {
    lines++
    bytes += Buffer.byteLength(text) + 1
    const line = parse(text)
    const id = String(line?.['request_id'])
    const index = id.startsWith(LOAD_ID) ? Number(id.slice(LOAD_ID.length)) : undefined
    if (line === undefined || (index !== undefined && seen.has(index))) account.faults++
    else if (line['event'] === 'log.dropped') account.reportedDrops += Number(line['dropped'])
    else if (index === undefined) account.otherLines++
    else account.loadLines++
    if (index !== undefined) seen.add(index)
  }
  const input = createReadStream(path)
  for await (const text of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (last !== '') take(last)
    last = text
  }
  if (last !== '' && !(isCut && parse(last) === undefined)) take(last)
  return { ...account, meanLineBytes: lines === 0 ? 0 : bytes / lines }
}

function parse(text: string) {
  try {
    return asJsonObject(JSON.parse(text))
  } catch {
    return undefined
  }
}
