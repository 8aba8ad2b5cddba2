/** Lines of a systemd unit, from journalctl. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { visible } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'

export interface JournalOptions {
  readonly unit: string
  /** Begins with so many of the lines that are there. */
  readonly lines: number
  readonly isFollowed: boolean
  readonly env: Readonly<Record<string, string | undefined>>
}

/** Throws UsageError where journalctl is missing or refuses; its own words are in the message. */
export async function* journal(options: JournalOptions): AsyncGenerator<string> {
  const { unit, lines, isFollowed, env } = options
  const args = ['-o', 'cat', '-n', String(lines), ...(isFollowed ? ['-f'] : []), '-u', unit]
  const child = spawn('journalctl', args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-MAX_COMPLAINT)
  })
  const ended = once(child, 'close').catch((error) => [Object(error).code])
  try {
    yield* createInterface({ input: child.stdout, crlfDelay: Number.POSITIVE_INFINITY })
    const [code] = await ended
    if (code !== 0) throw new UsageError(`journalctl: ${visible(complaint.trim() || String(code))}`)
  } finally {
    child.kill()
  }
}

const MAX_COMPLAINT = 1_000
