/** `send` and `cancel`: commands to one phone or many. */
import { type Api, ApiError } from '../api/client.ts'
import type { CommandStatus, Device } from '../api/openapi.ts'
import { visible } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'
import { type Context, EXIT, type ExitCode, type Verb } from '../verb.ts'
import { allDevices, WHERE_NOTES, whereOf } from '../where.ts'
import { agree, DRY_RUN, phonePlan, YES } from './agree.ts'
import { onePage, printList, secondsOf } from './list.ts'

/** Calls at a time. */
const CONCURRENT = 8
const MAX_WAIT_MS = 30_000
const ENDED: readonly CommandStatus[] = ['completed', 'expired', 'cancelled']

interface Sent {
  readonly alias: string
  readonly request_id: string
  readonly status: string
  readonly outcome: string | null
  readonly message: string | null
}

interface Order {
  readonly action: string
  readonly params: Readonly<Record<string, string>>
  readonly ttlS: number | undefined
  readonly idOf: (device: Device) => string
}

export const sendVerb: Verb = {
  name: 'send',
  summary: 'send a command to one phone or a selection',
  words: 'ACTION WHERE [KEY=VALUE …]',
  count: [2, 64],
  options: {
    ttl: { value: '1h', help: 'give up after this time; default 1d' },
    id: { value: 'ID', help: 'id of the command; to many phones, of each: ID.ALIAS' },
    wait: { value: '30s', help: 'wait so long for the results' },
    ...DRY_RUN,
    ...YES,
  },
  calls: ['listDevices', 'sendCommand', 'readCommand'],
  examples: [
    'send ring D01 seconds=5 --wait 1s --dry-run',
    'send ring D01 seconds=5 --ttl 1h',
    "send reboot 'STORE-*' --dry-run",
    "send reboot 'STORE-*' --yes",
  ],
  notes: [
    ...WHERE_NOTES,
    'To more than one phone it shows them and asks first. Repeated with the same --id, it',
    'sends only to the phones that have not got it.',
  ],
  async run(context) {
    const { args, newId, terminal } = context
    const [action = '', where = '', ...rest] = args.words
    const params = paramsOf(rest)
    if (where.trim() === '') throw new UsageError(EVERY)
    const ttlS = secondsOf(args.text('ttl'), '--ttl', undefined)
    const waitS = secondsOf(args.text('wait'), '--wait', 0)
    const api = context.api()
    const devices = await allDevices(api, whereOf([where]))
    if (devices.length === 0) {
      terminal.note('No phone matches.')
      return EXIT.no
    }
    const plan = phonePlan(`send ${visible(action)} to`, devices, api.now())
    const decision = await agree(context, plan)
    if (decision !== 'yes') return decision === 'dry' ? EXIT.ok : EXIT.no
    const id = args.text('id') ?? `${action}-${newId().slice(0, 8)}`
    const isOne = devices.length === 1
    const idOf = ({ alias }: Device) => (isOne ? id : `${id}.${alias}`)
    if (!isOne) terminal.note(`--id ${id} continues this one if it is interrupted`)
    const order = { action, params, ttlS, idOf }
    return await sendAll(context, api, devices, order, waitS * 1_000)
  },
}

const EVERY = "WHERE is empty; 'alias:*' is every phone."

/** Throws UsageError. */
function paramsOf(words: readonly string[]): Readonly<Record<string, string>> {
  const odd = words.find((word) => !word.includes('='))
  if (odd !== undefined) {
    throw new UsageError(
      `${visible(odd)} is no KEY=VALUE. A WHERE of several terms is one argument, in quotes.`,
    )
  }
  const pairs = words.map((word) => word.split(/=(.*)/s))
  const names = pairs.map(([name = '']) => name)
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new UsageError(`${twice}= is given twice.`)
  return Object.fromEntries(pairs.map(([name = '', value = '']) => [name, value]))
}

async function sendAll(
  context: Context,
  api: Api,
  devices: readonly Device[],
  order: Order,
  waitMs: number,
): Promise<ExitCode> {
  const { terminal } = context
  const sent: Sent[] = []
  let failure: ApiError | undefined
  const queue = devices.values()
  async function work(): Promise<void> {
    for (const device of queue) {
      if (failure !== undefined) return
      try {
        sent.push(await sendOne(api, device, order))
      } catch (error) {
        if (!(error instanceof ApiError)) throw error
        if (error.failure === 'unavailable') failure = error
        sent.push(refusedOf(device, error))
      }
      terminal.progress(`${sent.length} of ${devices.length} sent`)
    }
  }
  await Promise.all(Array.from({ length: CONCURRENT }, work))
  const results = waitMs > 0 ? await awaitAll(context, api, sent, waitMs) : sent
  const sorted = results.toSorted((a, b) => (a.alias < b.alias ? -1 : 1))
  terminal.progress('')
  await printList(context, SENT_LIST, onePage(sorted))
  if (failure !== undefined) throw failure
  const isGood = ({ status, outcome }: Sent) =>
    status !== REFUSED && (waitMs === 0 || outcome === 'success')
  return results.every(isGood) ? EXIT.ok : EXIT.no
}

const REFUSED = 'refused'

async function sendOne(api: Api, device: Device, order: Order): Promise<Sent> {
  const { action, params, ttlS, idOf } = order
  const { request_id, alias, status } = await api.call('sendCommand', {
    query: { wait_ms: 0 },
    body: {
      ...{ device_id: device.device_id, action, params, request_id: idOf(device) },
      ...(ttlS !== undefined && { ttl_s: ttlS }),
    },
  })
  return { alias, request_id, status, outcome: null, message: null }
}

function refusedOf({ alias }: Device, { message }: ApiError): Sent {
  return { alias, request_id: '', status: REFUSED, outcome: null, message }
}

async function awaitAll(
  { terminal }: Context,
  api: Api,
  sent: readonly Sent[],
  waitMs: number,
): Promise<readonly Sent[]> {
  const untilMs = performance.now() + waitMs
  const results: Sent[] = []
  for (const each of sent) {
    terminal.progress(`${results.length} of ${sent.length} ended`)
    results.push(each.status === REFUSED ? each : await awaitOne(api, each, untilMs))
  }
  return results
}

async function awaitOne(api: Api, sent: Sent, untilMs: number): Promise<Sent> {
  for (;;) {
    const leftMs = Math.max(0, Math.ceil(untilMs - performance.now()))
    const { status, result } = await api.call('readCommand', {
      path: { request_id: sent.request_id },
      query: { wait_ms: Math.min(MAX_WAIT_MS, leftMs) },
    })
    if (ENDED.includes(status) || leftMs === 0) {
      const { outcome = null, message = null } = result ?? {}
      return { ...sent, status, outcome, message }
    }
  }
}

const SENT_LIST = {
  columns: [
    { title: 'ALIAS' },
    { title: 'COMMAND' },
    { title: 'STATUS', isFixed: true },
    { title: 'OUTCOME', isFixed: true },
    { title: 'MESSAGE' },
  ],
  nothing: '',
  row: ({ alias, request_id, status, outcome, message }: Sent) => [
    ...[alias, request_id, status, outcome, message],
  ],
}

export const cancelVerb: Verb = {
  name: 'cancel',
  summary: 'cancel commands that are still open',
  words: 'COMMAND …',
  count: [1, 500],
  options: { ...YES },
  calls: ['cancelCommand'],
  examples: ['cancel ring-1'],
  async run(context) {
    const { args, terminal, isJson } = context
    const api = context.api()
    const rows = args.words.map((id) => [id])
    const decision = await agree(context, {
      verb: 'cancel',
      noun: 'commands',
      titles: ['COMMAND'],
      rows,
    })
    if (decision !== 'yes') return EXIT.no
    let code: ExitCode = EXIT.ok
    for (const request_id of args.words) {
      try {
        const command = await api.call('cancelCommand', { path: { request_id } })
        await terminal.print(
          isJson ? JSON.stringify(command) : `${visible(request_id)} ${command.status}`,
        )
      } catch (error) {
        if (!(error instanceof ApiError) || error.failure !== 'refused') throw error
        terminal.note(error.message)
        code = EXIT.no
      }
    }
    return code
  },
}
