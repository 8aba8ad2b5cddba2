/** Compares what a reader got of the log with the requests that were sent. */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { asJsonObject } from '../../testkit/http/client.ts'

/** Prefix of the load's request ids, before the number. */
export const LOAD_ID = 'load-'

export interface Account {
  /** Terminal lines of the load's requests. */
  readonly loadLines: number
  /** All others except log.dropped: start, stop, enrollment, scrapes. */
  readonly otherLines: number
  /** Sum of the `log.dropped` lines. */
  readonly reportedDrops: number
  /** Lines that are no JSON object, or end a request twice. */
  readonly faults: number
  readonly meanLineBytes: number
}

/** `isCut`: the last line may be unfinished, because the service ended before its reader went on. */
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
