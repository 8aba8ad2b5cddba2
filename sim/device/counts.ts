/** Counters of one phone, or of a fleet. */

export interface DeviceCounts {
  /** How often five 401s in a row wiped its credentials. */
  wiped: number
  /** By the alarm, by the test, or to answer a ping. */
  heartbeatsMade: number
  /** Requests, including retries and duplicates of parallel drains. */
  heartbeatsSent: number
  heartbeatsAccepted: number
  /** Answered with `"deduped":true`. */
  heartbeatsDeduped: number
  commandsByPush: number
  commandsByMailbox: number
  commandsRun: number
  /** Messages about a command that had already run, or was running. */
  commandsRepeated: number
  /** Wrong signature or addressee. */
  commandsRefused: number
  /** Arrived after their expiry; not run. */
  commandsExpired: number
  /** Requests, as for heartbeats; a ping is answered by a heartbeat. */
  resultsSent: number
  resultsAccepted: number
  /** Answered with `"duplicate":true`. */
  resultsDuplicate: number
}

export function zeroCounts(): DeviceCounts {
  return {
    wiped: 0,
    heartbeatsMade: 0,
    heartbeatsSent: 0,
    heartbeatsAccepted: 0,
    heartbeatsDeduped: 0,
    commandsByPush: 0,
    commandsByMailbox: 0,
    commandsRun: 0,
    commandsRepeated: 0,
    commandsRefused: 0,
    commandsExpired: 0,
    resultsSent: 0,
    resultsAccepted: 0,
    resultsDuplicate: 0,
  }
}

export function sumCounts(all: readonly DeviceCounts[]): DeviceCounts {
  const sum = zeroCounts()
  for (const counts of all) {
    for (const name of Object.keys(sum) as (keyof DeviceCounts)[]) sum[name] += counts[name] // its own keys
  }
  return sum
}
