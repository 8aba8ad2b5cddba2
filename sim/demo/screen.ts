/** The demo's output: steps, requests without secrets, responses, log lines in columns; colours on a TTY only. */
import { styleText } from 'node:util'
import type { HttpRequest, HttpResponse } from '../../testkit/http/client.ts'
import type { LogLine } from '../../testkit/log-book.ts'

export interface Output {
  readonly isTTY?: boolean
  write(text: string): unknown
}

export interface Screen {
  step(title: string): void
  note(text: string): void
  /** As a curl command with names in place of tokens. */
  request(who: string, origin: string, request: HttpRequest): void
  answer(response: HttpResponse): void
  line(line: LogLine): void
  text(text: string): void
  /** Shows that something takes time: a spinner on a TTY, otherwise a line. */
  progress<T>(label: string, work: Promise<T>): Promise<T>
}

type Style = Parameters<typeof styleText>[0]

const MAX_SHOWN = 600
const SPINNER = ['|', '/', '-', '\\'] as const
const SPIN_MS = 100
const LEVEL_STYLES: Readonly<Record<string, Style>> = {
  DEBUG: 'gray',
  INFO: 'green',
  WARN: 'yellow',
  ERROR: 'red',
}
const IN_COLUMNS = ['ts', 'level', 'event', 'route', 'alias', 'status_code', 'latency_ms']
/** Fields that are the same on every line of the demo. */
const NOT_SHOWN = ['ip', 'user_agent', 'device_id']
const TOKEN_NAMES = { et: '$ENROLLMENT_TOKEN', dt: '$DEVICE_TOKEN' } as const
const SECRETS = /"(token|device_token|hmac_key|hmac2?|fcm_token)":"[^"]*"/g

export function createScreen(output: Output, isColoured: boolean): Screen {
  const paint = (style: Style, text: string) =>
    isColoured ? styleText(style, text, { validateStream: false }) : text
  const say = (text: string) => output.write(`${text}\n`)

  return {
    step: (title) => say(`\n${paint(['bold', 'cyan'], `== ${title}`)}`),
    note: (text) => say(paint('gray', `   ${text}`)),
    request: (who, origin, request) => {
      say(`${paint('bold', who.padEnd(5))} $ ${paint('bold', curlLine(origin, request))}`)
    },
    answer: ({ status, headers, bytes }) => {
      const type = headers['content-type'] ?? ''
      const body = /json/.test(type)
        ? shortened(withoutSecrets(bytes.toString('utf8')))
        : [type, ...fileHeaders(headers)].join(' ')
      const style = status < 300 ? 'green' : 'yellow'
      say(`      < ${paint(style, String(status))} ${body}`)
    },
    line: (line) => {
      const level = String(line['level'])
      const columns = [
        String(line['ts']).slice(11, 23),
        paint(LEVEL_STYLES[level] ?? 'gray', level.padEnd(5)),
        String(line['event']).padEnd(20),
        column(line['route'], 30),
        column(line['alias'], 5),
        column(line['status_code'], 3),
        `${line['latency_ms'] === null ? '-' : `${line['latency_ms']} ms`}`.padStart(11),
      ]
      say(`      | ${columns.join(' ')}  ${paint('gray', ownFields(line))}`)
    },
    text: (text) => say(text),

    async progress(label, work) {
      const startedAtMs = performance.now()
      const seconds = () => `${((performance.now() - startedAtMs) / 1_000).toFixed(1)} s`
      if (output.isTTY !== true) say(`   ${label} ...`)
      let turn = 0
      const spin = () => {
        output.write(`\r   ${SPINNER[turn++ % SPINNER.length]} ${label} ${seconds()}`)
      }
      const timer = output.isTTY === true ? setInterval(spin, SPIN_MS) : undefined
      try {
        return await work
      } finally {
        clearInterval(timer)
        if (timer !== undefined) output.write('\r\u001b[2K')
        say(paint('gray', `   ${label}: ${seconds()}`))
      }
    },
  }
}

function curlLine(origin: string, { method, path, headers = {}, body }: HttpRequest): string {
  const parts = ['curl', ...(method === 'GET' ? [] : [`-X ${method}`]), `'${origin}${path}'`]
  const token = headers['authorization']?.replace(/^Bearer /, '')
  if (token !== undefined) parts.push(`-H "Authorization: Bearer ${tokenName(token)}"`)
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith('x-') || name === 'content-type') parts.push(`-H "${name}: ${value}"`)
  }
  if (typeof body === 'string') parts.push(`-d '${shortened(withoutSecrets(body))}'`)
  else if (body !== undefined) parts.push('-T app.apk')
  return parts.join(' ')
}

function tokenName(token: string): string {
  const kind = /^(et|dt)_/.exec(token)?.[1]
  return kind === 'et' || kind === 'dt' ? TOKEN_NAMES[kind] : '$ADMIN_TOKEN'
}

function withoutSecrets(text: string): string {
  return text.replace(SECRETS, '"$1":"..."')
}

function shortened(text: string): string {
  return text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}...`
}

function column(value: unknown, width: number): string {
  return String(value ?? '-').padEnd(width)
}

function fileHeaders(headers: HttpResponse['headers']): readonly string[] {
  return Object.entries(headers).flatMap(([name, value]) =>
    name === 'content-length' || name.startsWith('x-apk') ? [`${name}: ${value}`] : [],
  )
}

/** Fields without a column, without nulls. */
function ownFields(line: LogLine): string {
  return Object.entries(line)
    .filter(([name, value]) => value !== null && ![...IN_COLUMNS, ...NOT_SHOWN].includes(name))
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ')
}
