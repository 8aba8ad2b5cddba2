/** What a phone reports about the push message that brought a command. */
import { readWord } from '../../lib/word.ts'
import { parseInstant } from '../instants.ts'

/** FCM judges an app by its last seven days: for so long a lowered message counts. */
export const LOWERED_LATELY_DAYS = 7

const PRIORITIES = ['high', 'normal'] as const

export type Priority = (typeof PRIORITIES)[number]

/** null: not reported, or not usable. */
export interface PushReport {
  /** By the phone's clock. */
  readonly receivedAt: Date | null
  readonly priority: Priority | null
  readonly originalPriority: Priority | null
}

/** Lenient: an unusable value is null; undefined if `value` is no object. */
export function readPushReport(value: unknown): PushReport | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const own = (name: string): unknown => Object.getOwnPropertyDescriptor(value, name)?.value
  return {
    receivedAt: parseInstant(own('received_at')) ?? null,
    priority: readWord(own('priority'), PRIORITIES) ?? null,
    originalPriority: readWord(own('original_priority'), PRIORITIES) ?? null,
  }
}

/** FCM delivered a high-priority message at normal priority, which may wait for hours on a phone that sleeps. */
export function isLowered({ priority, originalPriority }: PushReport): boolean {
  return priority === 'normal' && originalPriority === 'high'
}
