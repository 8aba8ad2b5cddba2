/** What happened to one phone, or to a fleet of them. */

export interface DeviceCounts {
  /** Times that five 401s in a row wiped its credentials. */
  wiped: number
  /** By the alarm, by hand, or to answer a ping. */
  heartbeatsMade: number
  /** Requests: retries and what parallel drains send twice are counted too. */
  heartbeatsSent: number
  heartbeatsAccepted: number
  /** Of these, answered with `"deduped":true`. */
  heartbeatsDeduped: number
  commandsByPush: number
  commandsByMailbox: number
  commandsRun: number
  /** Messages about a command that had run already, or was running. */
  commandsRepeated: number
  /** Signature wrong, or addressed to another. */
  commandsRefused: number
  /** Came after their end; not run. */
  commandsExpired: number
  /** Requests, as for heartbeats; a ping's answer is a heartbeat. */
  resultsSent: number
  resultsAccepted: number
  /** Of these, answered with `"duplicate":true`. */
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
