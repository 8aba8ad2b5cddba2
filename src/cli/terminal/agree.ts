/** The preview of what a verb would change, and the question. */
import type { Device } from '../api/openapi.ts'
import type { Context } from '../verb.ts'
import { presence } from '../why/phone.ts'
import { agoOrNever } from './list.ts'
import { type Cell, createTable } from './table.ts'
import { jsonLine } from './text.ts'

export const YES = { yes: { help: 'do not ask' } } as const
export const DRY_RUN = { 'dry-run': { help: 'only show what it would do' } } as const
const SHOWN = 20

export interface Plan {
  /** Such as `send reboot to`. */
  readonly verb: string
  /** Such as `phones`. */
  readonly noun: string
  readonly titles: readonly string[]
  readonly rows: readonly (readonly Cell[])[]
  /** If `rows` are only a sample, or none. */
  readonly count?: number
  /** More about them, for the question. */
  readonly detail?: string
  /** What --dry-run --json prints, one a line. */
  readonly objects?: readonly unknown[]
  /** Asks for a single one, too. */
  readonly isFinal?: boolean
}

/** For a plan that is about phones. */
export function phonePlan(verb: string, devices: readonly Device[], now: Date): Plan {
  return {
    verb,
    noun: 'phones',
    titles: ['ALIAS', 'STATE', 'LAST SEEN', 'DEVICE ID'],
    rows: devices.map((device) => [
      ...[device.alias, presence(device, now), agoOrNever(device.last_seen_at, now)],
      device.device_id,
    ]),
    objects: devices,
  }
}

/**
 * Whether to do it: one thing at once, more with --yes or after a yes on a terminal. Prints on stderr what it is about.
 * `dry`: nothing is to be done, and that is a success.
 */
export async function agree(context: Context, plan: Plan): Promise<'yes' | 'no' | 'dry'> {
  const { terminal, args } = context
  const { verb, noun, rows, count = rows.length, detail = '', isFinal = false } = plan
  const isDry = args.has('dry-run')
  if (!isDry && ((count === 1 && !isFinal) || args.has('yes'))) return 'yes'
  if (isDry && context.isJson && plan.objects !== undefined) {
    for (const object of plan.objects) await terminal.print(jsonLine(object))
    return 'dry'
  }
  const print = isDry ? terminal.print : terminal.note
  if (rows.length > 0) {
    for (const line of previewOf(plan, terminal.width)) await print(line)
  }
  const what = `${verb} ${count} ${count === 1 ? noun.slice(0, -1) : noun}${detail}`
  if (isDry) {
    terminal.note(`Dry run: this would ${what}.`)
    return 'dry'
  }
  const answer = await terminal.confirm(`${what[0]?.toUpperCase()}${what.slice(1)}?`)
  if (answer === true) return 'yes'
  const advice =
    answer === undefined ? ' There is no terminal to ask on: repeat it with --yes.' : ''
  terminal.note(`Nothing was done.${advice}`)
  return 'no'
}

function previewOf(plan: Plan, width: number | undefined): readonly string[] {
  const { titles, rows, count = rows.length } = plan
  const columns = titles.map((title) => ({ title }))
  const shown = rows.slice(0, SHOWN)
  const hidden = count - shown.length
  const lines = createTable(columns, width, (text) => text).page(shown)
  return hidden > 0 ? [...lines, `… and ${hidden} more`] : lines
}
