/**
 * A reader of the feed, as a process that may be killed at any time: it appends what it reads to its journal, each batch
 * together with the cursor behind it in one write, and begins where its journal ends.
 * Arguments: the journal, the manner, the admin token, the origins of the replicas.
 */
import { appendFileSync } from 'node:fs'
import { request } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import { asJsonObject, bodyOf, createSend, textOf } from '../../testkit/http/client.ts'
import { lineOf, type Manner, repairJournal } from './journal.ts'

const [file = '', manner = '', token = '', ...origins] = process.argv.slice(2)
const RETRY_MS = 50
const TYPES = 'token.created,token.revoked'
/** Each asks in a different way. */
const ASKED: Readonly<Record<Manner, Readonly<Record<string, string>>>> = {
  poll: { wait_ms: '5000', limit: '500' },
  filter: { wait_ms: '5000', limit: '100', types: TYPES },
  stream: {},
}

let cursor = repairJournal(file)

function keep(events: readonly unknown[], next: string): void {
  if (next === cursor) return
  const told = events.flatMap((event) => {
    const { type, subject } = asJsonObject(event) ?? {}
    return TYPES.includes(String(type)) ? [`${String(type).slice(6, 7)}${subject}`] : []
  })
  appendFileSync(file, lineOf({ cursor: next, told }))
  cursor = next
}

async function poll(origin: string, path: string, authorization: string): Promise<void> {
  const response = await createSend(origin)({ method: 'GET', path, headers: { authorization } })
  if (response.status !== 200) throw new Error(String(response.status))
  const { events, ...body } = bodyOf(response)
  if (Array.isArray(events)) keep(events, textOf(body, 'cursor'))
}

/** Resolves when the stream has ended. */
function stream(origin: string, path: string, authorization: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { accept: 'text/event-stream', authorization, 'last-event-id': cursor }
    const asked = request(`${origin}${path}`, { agent: false, headers })
    asked.on('error', reject)
    asked.on('response', (response) => {
      if (response.statusCode !== 200) reject(new Error(String(response.statusCode)))
      let rest = ''
      response.setEncoding('utf8').on('data', (text: string) => {
        const end = (rest + text).lastIndexOf('\n\n') + 2
        const messages = end === 1 ? '' : (rest + text).slice(0, end)
        rest = (rest + text).slice(messages.length)
        const data = [...messages.matchAll(/^data: (.*)$/gm)].map(([, one = '']) => JSON.parse(one))
        const id = [...messages.matchAll(/^id: (.*)$/gm)].at(-1)?.[1]
        if (id !== undefined) keep(data, id)
      })
      response.on('error', reject)
      response.on('end', resolve)
    })
    asked.end()
  })
}

const ask = manner === 'stream' ? stream : poll
for (;;) {
  const origin = origins[Math.floor(Math.random() * origins.length)] ?? ''
  const query = new URLSearchParams({
    ...ASKED[manner as Manner], // as it was started
    ...(cursor !== '' && { after: cursor }),
  })
  try {
    await ask(origin, `/admin/events?${query}`, `Bearer ${token}`)
  } catch {
    await wait(RETRY_MS) // a replica that was killed
  }
}
