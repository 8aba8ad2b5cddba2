/** The result of a simulation, as JSON and as text, and its verdict. */

import type { FleetReport } from '../fleet.ts'
import type { CommandSummary } from './ledger.ts'
import type { DownloadCounts } from './phones.ts'
import type { Latency } from './tally.ts'

export type EndedBy = 'time' | 'heartbeats' | 'signal'

export interface SummaryParts {
  readonly runId: string
  readonly origin: string
  readonly startedAt: Date
  readonly endedAt: Date
  readonly endedBy: EndedBy
  readonly phones: number
  readonly fleet: FleetReport
  readonly commands: CommandSummary
  readonly downloads: DownloadCounts
  readonly answers: Readonly<Record<string, number>>
  readonly latencies: Readonly<Record<string, Latency>>
  /** null: without the fake FCM. */
  readonly fcm: {
    readonly sends: number
    readonly by_action: Readonly<Record<string, number>>
    readonly delivered: number
  } | null
}

export type Summary = ReturnType<typeof summaryOf>

/** As JSON: snake_case, milliseconds if the name says so. */
export function summaryOf(parts: SummaryParts) {
  const { fleet, commands, downloads } = parts
  const { counts } = fleet
  const faults = faultsOf(parts)
  return {
    ok: faults.length === 0,
    faults,
    run_id: parts.runId,
    url: parts.origin,
    started_at: parts.startedAt.toISOString(),
    ended_at: parts.endedAt.toISOString(),
    ended_by: parts.endedBy,
    phones: { asked: parts.phones, enrolled: fleet.enrolled + counts.wiped, wiped: counts.wiped },
    heartbeats: {
      made: counts.heartbeatsMade,
      sent: counts.heartbeatsSent,
      acknowledged: counts.heartbeatsAccepted,
      stored: counts.heartbeatsAccepted - counts.heartbeatsDeduped,
      deduped: counts.heartbeatsDeduped,
    },
    commands,
    messages: {
      by_push: counts.commandsByPush,
      by_mailbox: counts.commandsByMailbox,
      repeats: counts.commandsRepeated,
      expired: counts.commandsExpired,
      refused: counts.commandsRefused,
    },
    results: {
      sent: counts.resultsSent,
      acknowledged: counts.resultsAccepted,
      duplicates: counts.resultsDuplicate,
    },
    downloads: {
      enrollment: downloads.enrollment,
      ota: downloads.ota,
      bytes: downloads.sizeBytes,
      broken: downloads.broken,
      refused: downloads.refused,
      cut_off: downloads.cutOff,
    },
    queues: { waiting: fleet.queued, lost: fleet.lost },
    answers: parts.answers,
    latency_ms: parts.latencies,
    fcm: parts.fcm,
  }
}

function faultsOf({ phones, fleet, commands, downloads }: SummaryParts): readonly string[] {
  const { counts } = fleet
  const faults: readonly (readonly [count: number, what: string])[] = [
    [counts.wiped, 'phones wiped by five 401s in a row'],
    [phones - fleet.enrolled - counts.wiped, 'phones not enrolled'],
    [commands.run_twice, 'commands run twice'],
    [commands.lost, 'commands lost'],
    [commands.unreadable, 'commands that could not be read at the end'],
    [counts.commandsRefused, 'messages refused by a phone: wrong signature or address'],
    [fleet.lost, 'items lost from full or old queues'],
    [downloads.broken, 'downloads of a wrong length or SHA-256'],
  ]
  return faults.filter(([count]) => count > 0).map(([count, what]) => `${what}: ${count}`)
}

export function summaryText(summary: Summary): string {
  const { phones, heartbeats, commands, messages, results, downloads, queues, fcm } = summary
  const seconds = (Date.parse(summary.ended_at) - Date.parse(summary.started_at)) / 1_000
  const { now, late, twice, never } = commands.planned
  const { push, mailbox } = commands.completion_ms
  const rows: readonly (readonly [string, string])[] = [
    ['phones', `${phones.enrolled} of ${phones.asked} enrolled, ${phones.wiped} wiped`],
    [
      'heartbeats',
      `${heartbeats.made} made, ${heartbeats.sent} sent, ${heartbeats.acknowledged} acknowledged (${heartbeats.stored} stored, ${heartbeats.deduped} deduped)`,
    ],
    [
      'commands',
      `${commands.created} created, ${commands.accepted} accepted, ${commands.refused} refused: ${commands.completed} completed, ${commands.expired} expired, ${commands.cancelled} cancelled, ${commands.open} open, ${commands.lost} lost`,
    ],
    [
      'run',
      `${commands.run} (${commands.run_by_push} by push, ${commands.run_by_mailbox} by mailbox), ${commands.run_twice} twice; ${messages.repeats} repeats received, ${messages.refused} refused`,
    ],
    [
      'results',
      `${results.acknowledged} acknowledged, ${results.duplicates} duplicates; as planned: ${now} now, ${late} late, ${twice} twice, ${never} never`,
    ],
    [
      'downloads',
      `${downloads.enrollment + downloads.ota} whole (${downloads.enrollment} enrollment, ${downloads.ota} ota), ${downloads.broken} broken, ${downloads.refused} refused, ${downloads.cut_off} cut off`,
    ],
    ['queues', `${queues.waiting} waiting, ${queues.lost} lost`],
    ...(fcm === null
      ? []
      : [['fcm', `${fcm.sends} sends, ${fcm.delivered} delivered to a phone`] as const]),
  ]
  const latencies = [
    ...Object.entries(summary.latency_ms),
    ['created to result, by push', push],
    ['created to result, by mailbox', mailbox],
  ] as const
  return [
    `simulation ${summary.run_id} of ${summary.url}: ${seconds.toFixed(1)} s, ended by ${summary.ended_by}`,
    ...rows.map(([name, text]) => `  ${name.padEnd(12)}${text}`),
    `  ${'answers'.padEnd(46)}${'count'.padStart(8)}`,
    ...Object.entries(summary.answers).map(
      ([name, count]) => `    ${name.padEnd(44)}${String(count).padStart(8)}`,
    ),
    `  ${'latency, ms'.padEnd(46)}${['count', 'p50', 'p95', 'p99', 'max'].map(cell).join('')}`,
    ...latencies
      .filter(([, { count }]) => count > 0)
      .map(([name, latency]) => `    ${name.padEnd(44)}${latencyCells(latency)}`),
    summary.ok
      ? 'nothing lost, nothing run twice, no phone wiped'
      : summary.faults.map((fault) => `FAULT: ${fault}`).join('\n'),
    '',
  ].join('\n')
}

function latencyCells({ count, p50, p95, p99, max }: Latency): string {
  return [String(count), ...[p50, p95, p99, max].map((ms) => ms.toFixed(1))].map(cell).join('')
}

function cell(text: string): string {
  return text.padStart(8)
}
