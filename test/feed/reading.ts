/** Reads the feed of a service: all pages from a cursor on, and streams. */
import { request } from 'node:http'
import type { Test } from 'tap'
import { until } from '../../testkit/until.ts'
import { ADMIN, type Running } from '../helpers/service.ts'

export interface ReadEvent {
  readonly id: string
  readonly at: string
  readonly type: string
  readonly subject: string
  readonly device_id: string | null
  readonly alias: string | null
  readonly detail: Readonly<Record<string, unknown>> | null
}

export interface ReadAll {
  readonly events: readonly ReadEvent[]
  readonly cursor: string
}

/** Every page behind `after` until nothing more is there. */
export async function readAll(
  service: Pick<Running, 'call'>,
  after?: string,
  more: Readonly<Record<string, string>> = {},
): Promise<ReadAll> {
  const events: ReadEvent[] = []
  let cursor = after
  for (;;) {
    const query = new URLSearchParams({ ...more, ...(cursor !== undefined && { after: cursor }) })
    const { status, body, text } = await service.call('GET', `/admin/events?${query}`)
    if (status !== 200) throw new Error(`${status} ${text}`)
    events.push(...body.events)
    cursor = body.cursor
    if (!body.has_more) return { events, cursor: body.cursor }
  }
}

export interface EventStream {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** All text so far. */
  readonly text: () => string
  readonly events: () => readonly ReadEvent[]
  /** The last id, of an event or a comment. */
  readonly lastId: () => string | undefined
  readonly isEnded: () => boolean
  pause(): void
  close(): void
}

interface StreamOptions {
  readonly query?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly token?: string
}

/** Closed at the end of `t`. `origin`: of a service, or the path of a socket. */
export function openStream(
  t: Test,
  origin: string,
  { query = '', headers = {}, token = ADMIN }: StreamOptions = {},
): Promise<EventStream> {
  const isSocket = origin.startsWith('/')
  const to = isSocket ? { socketPath: origin } : { host: '127.0.0.1', port: new URL(origin).port }
  return new Promise((resolve, reject) => {
    const asked = request({
      ...to,
      path: `/admin/events${query}`,
      agent: false,
      headers: { accept: 'text/event-stream', authorization: `Bearer ${token}`, ...headers },
    })
    t.teardown(() => asked.destroy())
    asked.on('error', reject) // later ones find it resolved
    asked.on('response', (response) => {
      let text = ''
      let isEnded = false
      response.setEncoding('utf8').on('data', (more: string) => {
        text += more
      })
      response.on('close', () => {
        isEnded = true
      })
      response.on('error', () => {}) // it ends with a close
      resolve({
        status: response.statusCode ?? 0,
        headers: response.headers,
        text: () => text,
        events: () =>
          [...text.matchAll(/^data: (.*)\n\n/gm)].map(([, data = '']) => JSON.parse(data)),
        lastId: () => [...text.matchAll(/^id: (.*)$/gm)].at(-1)?.[1],
        isEnded: () => isEnded,
        pause: () => void response.pause(),
        close: () => void asked.destroy(),
      })
    })
    asked.end()
  })
}

export const untilSome = (stream: EventStream, count: number) =>
  until(() => stream.events().length >= count, `${count} events of a stream`)

export const told = (events: readonly ReadEvent[]) =>
  events.map(({ type, subject }) => [type, subject])

/** A token with the id $1. */
export const TOKEN = `insert into enrollment_tokens (token_id, token_hash, uses_allowed, expires_at, issued_by, request_id)
  values ($1::uuid, sha256($1::text::bytea), 1, now() + interval '1 day', 'a', 'r')`
/** The triggers of the transaction, which would run at its commit. */
export const FORCE = 'set constraints all immediate'
