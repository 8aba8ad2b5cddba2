/** The demo's loop: enroll → heartbeat → command → result → APK. */
import { createHash } from 'node:crypto'
import { createSend, jsonHeaders } from '../../testkit/http/client.ts'
import { makeApk } from '../apk.ts'
import type { Device } from '../device/device.ts'
import { issueEnrollmentTokens } from '../enroll.ts'
import { createFleet } from '../fleet.ts'
import { expect, expectStatus, type Stage, type StoryDeps, StoryError } from './context.ts'
import { tellCommand, tellMetrics } from './last-steps.ts'
import { createRecorder, type Exchange } from './recorder.ts'

const ALIASES = ['D01', 'D02', 'D03', 'D04', 'D05'] as const
const HABITS = [
  { shape: 'flat' },
  { shape: 'nested' },
  { shape: 'nested', hasDoubleSlash: true },
  { shape: 'nested', reportsBy: 'ack' },
  { shape: 'flat', reportsBy: 'ack' },
] as const
const COMMAND_ID = 'demo-launch-1'
const WAIT_MS = 10_000

/** Throws StoryError, or the cause of a failure. */
export async function tellStory(deps: StoryDeps): Promise<void> {
  const recorder = createRecorder(createSend(deps.origin))
  const fleet = createFleet({
    aliases: ALIASES,
    habitsOf: (index) => HABITS[index] ?? {},
    send: recorder.send,
    nowMs: Date.now,
    random: Math.random,
    ...(deps.push !== undefined && { push: deps.push }),
  })
  const stage = { ...deps, recorder, fleet }

  const tokens = await enroll(stage)
  await heartbeat(stage)
  await command(stage)
  await result(stage)
  await apk(stage, tokens)
  await tellCommand(stage, COMMAND_ID)
  await tellMetrics(stage)
}

async function enroll(stage: Stage): Promise<ReadonlyMap<string, string>> {
  const { screen, recorder, fleet } = stage
  screen.step('1 enroll: a single-use token for each phone, good for 45 minutes')
  const tokens = await issueEnrollmentTokens(recorder.send, stage.adminToken, ALIASES)
  await showAll(stage, 'admin')

  await fleet.enroll(tokens, { atOnce: 1 })
  const [first, ...others] = recorder.take()
  await show(stage, 'D01', first)
  const codes = others.map(({ answer: response }) => response.status).join(' ')
  screen.note(`D02 to D05 in the same way: ${codes}`)
  expect(fleet.report().enrolled === ALIASES.length, 'all five phones are enrolled')

  screen.note("D01's token is used up: another phone that shows it is refused")
  const refused = await recorder.send({
    method: 'POST',
    path: '/v1/register',
    headers: jsonHeaders(tokens.get('D01') ?? ''),
    body: JSON.stringify({ alias: 'D01', hardware_id: 'another-phone' }),
  })
  await showAll(stage, '?')
  expectStatus(refused, 401, 'a used-up token enrolls nobody')
  return tokens
}

async function heartbeat(stage: Stage): Promise<void> {
  const { screen, fleet } = stage
  screen.step('2 heartbeat: flat, nested as Gson writes it, and with a double slash')
  for (const device of fleet.devices) {
    await device.beat()
    await showAll(stage, device.alias)
  }
  screen.note('D01 again: within 10 s no second history row is stored')
  await deviceOf(stage, 0).beat()
  await showAll(stage, 'D01')
  const { heartbeatsAccepted } = fleet.report().counts
  expect(heartbeatsAccepted === ALIASES.length + 1, 'every heartbeat is accepted')
}

async function command(stage: Stage): Promise<void> {
  const { screen, log, recorder } = stage
  screen.step(
    stage.push === undefined
      ? '3 command: push is off, so the mailbox alone delivers it'
      : '3 command: durable first, then pushed',
  )
  const response = await recorder.send({
    method: 'POST',
    path: '/admin/command',
    headers: { ...jsonHeaders(stage.adminToken), 'x-request-id': COMMAND_ID },
    body: JSON.stringify({
      alias: 'D02',
      action: 'launch_app',
      params: { package: 'io.example.app' },
    }),
  })
  expectStatus(response, 202, 'the command is accepted')
  if (stage.push !== undefined) {
    const isSent = (line: object) => 'event' in line && line.event === 'dispatch.sent'
    await log.waitFor((line) => isSent(line) && line['request_id'] === COMMAND_ID, 'dispatch.sent')
    await recorder.waitFor('/v1/action-result', WAIT_MS)
  }
  const asked = ({ request }: Exchange) => request.path === '/admin/command'
  const isStoryOf = ({ event }: { readonly event?: unknown }) => event !== 'action_result.ingest'
  const exchanges = recorder.take()
  await show(stage, 'admin', exchanges.find(asked), isStoryOf)
  if (stage.push === undefined) return
  const [send] = stage.push.journal
  screen.note(
    `FCM got a data message of ${Object.keys(send?.data ?? {}).length} fields, ${JSON.stringify(send?.android)}`,
  )
}

async function result(stage: Stage): Promise<void> {
  const { screen, recorder, push } = stage
  screen.step('4 result: the phone checks both signatures, runs it once and says so')
  const device = deviceOf(stage, 1)
  if (push === undefined) {
    screen.note('The next heartbeat of D02 brings the command:')
    await device.beat()
    await showAll(stage, 'D02')
  } else {
    await show(stage, 'D02', await recorder.waitFor('/v1/action-result', WAIT_MS))
  }
  const { counts } = device
  screen.note(
    `D02: ${counts.commandsByPush} by push, ${counts.commandsByMailbox} by mailbox, ${counts.commandsRun} run, ${counts.resultsAccepted} reported`,
  )
  expect(counts.commandsRefused === 0, 'both signatures of the command hold')
  expect(counts.commandsRun === 1, 'the command ran once')
  expect(counts.resultsAccepted === 1, 'its result is accepted')
}

async function apk(stage: Stage, tokens: ReadonlyMap<string, string>): Promise<void> {
  const { screen, recorder, fleet } = stage
  screen.step('5 APK: CI publishes a build, phones fetch it with their used-up enrollment tokens')
  const bytes = makeApk({
    sizeBytes: 1_000_000,
    seed: 'demo',
    versionCode: 42,
    versionName: '1.0.42',
  })
  const published = await recorder.send({
    method: 'PUT',
    path: '/admin/apk/builds/demo-42',
    headers: {
      authorization: `Bearer ${stage.adminToken}`,
      'x-apk-sha256': createHash('sha256').update(bytes).digest('hex'),
    },
    body: bytes,
  })
  expectStatus(published, 201, 'the build is published')
  await showAll(stage, 'admin')

  const shown: Exchange[] = []
  for (const device of fleet.devices) {
    const enrollmentToken = tokens.get(device.alias) ?? ''
    const fetched = await device.fetchApk({ enrollmentToken })
    expect(fetched.isIntact, `${device.alias} gets the whole APK (answer ${fetched.status})`)
    shown.push(...recorder.take())
  }
  await show(stage, 'D01', shown[0])
  screen.note('D01 to D05 checked length and SHA-256: intact')

  screen.note('D02 updates itself later with its own token:')
  const fetched = await deviceOf(stage, 1).fetchApk()
  expect(fetched.isIntact, 'an update over the air is whole')
  await showAll(stage, 'D02')
}

/** Shows all exchanges since the last call. */
async function showAll(stage: Stage, who: string): Promise<void> {
  for (const exchange of stage.recorder.take()) await show(stage, who, exchange)
}

/** Shows one exchange and its log lines. */
async function show(
  { screen, log, origin }: Stage,
  who: string,
  exchange: Exchange | undefined,
  isShown: (line: { readonly event?: unknown }) => boolean = () => true,
): Promise<void> {
  if (exchange === undefined) throw new StoryError(`${who} got no answer`)
  const { request, answer: response } = exchange
  screen.request(who, origin, request)
  screen.answer(response)
  const requestId = String(response.headers['x-request-id'])
  await log.terminalOf(requestId)
  for (const line of log.about(requestId)) if (isShown(line)) screen.line(line)
}

function deviceOf({ fleet }: Stage, index: number): Device {
  const device = fleet.devices[index]
  if (device === undefined) throw new StoryError(`the fleet has no phone number ${index}`)
  return device
}
