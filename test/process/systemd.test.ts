/** Notifications to systemd on a real datagram socket (by systemd-notify); a process that hangs sends none. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { createSupervisor } from '../../src/app/systemd.ts'
import { createDatabase } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { launchService, settings } from '../helpers/service.ts'

const missing = ['python3', 'systemd-notify'].filter(
  (tool) => spawnSync(tool, ['--version']).error !== undefined,
)
const skip = missing.length > 0 && `needs ${missing.join(', ')}`
const WATCHDOG_S = 2

/** Prints each message. Told a number of seconds, it prints `silence` once none has come for as long. */
const LISTENER = `
import select, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1].replace('@', '\\0', 1))
print('bound', flush=True)
silence = None
while True:
    ready, _, _ = select.select([listener, sys.stdin], [], [], silence)
    if sys.stdin in ready:
        order = sys.stdin.readline()
        if order == '':
            break
        silence = float(order)
    elif listener in ready:
        message = listener.recv(4096).decode()
        if not message.startswith('BARRIER'):
            print(message, flush=True)
    else:
        print('silence', flush=True)
        silence = None
`

async function listenAt(t: Test, name: string) {
  const child = spawn('python3', ['-c', LISTENER, name], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const messages: string[] = []
  const lines = createInterface(child.stdout)
  lines.on('line', (line) => messages.push(line))
  const heard = async (message: string, times = 1) => {
    while (messages.filter((each) => each === message).length < times) await once(lines, 'line')
  }
  await heard('bound')
  /** Resolves once nothing has come for so long. */
  const silent = (seconds: number) => {
    child.stdin.write(`${seconds}\n`)
    return heard('silence')
  }
  return { messages, heard, silent }
}

t.test('a service is up, alive, and silent once it hangs', { skip }, async (t) => {
  const NOTIFY_SOCKET = join(tempDirectory(t), 'notify')
  const systemd = await listenAt(t, NOTIFY_SOCKET)
  const service = launchService(t, {
    ...settings(await createDatabase(t)),
    NOTIFY_SOCKET,
    WATCHDOG_USEC: String(WATCHDOG_S * 1e6),
  })
  await systemd.heard('WATCHDOG=1', 2)
  t.same([...new Set(systemd.messages)].sort(), ['READY=1', 'WATCHDOG=1', 'bound'])
  service.signal('SIGSTOP')
  await systemd.silent(WATCHDOG_S)
  service.signal('SIGCONT')
  const pings = systemd.messages.filter((message) => message === 'WATCHDOG=1').length
  await systemd.heard('WATCHDOG=1', pings + 1)
  service.signal('SIGTERM')
  t.same(await service.ended, { code: 0, signal: null })
  await systemd.heard('STOPPING=1')
})

t.test("an abstract socket is told, another process's watchdog is not", { skip }, async (t) => {
  const NOTIFY_SOCKET = `@fleetloop-test-${process.pid}`
  const systemd = await listenAt(t, NOTIFY_SOCKET)
  const { PATH } = process.env
  const env = { PATH, NOTIFY_SOCKET, WATCHDOG_USEC: '1' }
  const said: string[] = []
  const other = createSupervisor({ ...env, WATCHDOG_PID: '1' }, 2, (text) => said.push(text))
  other.ready()
  await systemd.heard('READY=1')
  await systemd.silent(0.3)
  other.stopping()
  await systemd.heard('STOPPING=1')
  t.same(systemd.messages, ['bound', 'READY=1', 'silence', 'STOPPING=1'])
  const ours = createSupervisor({ ...env, WATCHDOG_PID: '2' }, 2, (text) => said.push(text))
  ours.ready()
  await systemd.heard('WATCHDOG=1', 2)
  // A timer takes at most 2^31 ms: more is a process warning and a message every millisecond.
  const patient = { ...env, WATCHDOG_USEC: '9'.repeat(15), WATCHDOG_PID: '3' }
  createSupervisor(patient, 3, (text) => said.push(text)).ready()
  await systemd.heard('READY=1', 3)
  t.same(said, [])
})

t.test('what cannot be told is said once', async (t) => {
  const said: string[] = []
  let hasSaid = () => {}
  const first = new Promise<void>((resolve) => {
    hasSaid = resolve
  })
  const say = (text: string) => {
    said.push(text)
    hasSaid()
  }
  const supervisor = createSupervisor({ PATH: '/nowhere', NOTIFY_SOCKET: '/nowhere' }, 1, say)
  supervisor.ready()
  supervisor.stopping()
  await first
  t.match(said, [/^systemd is not told READY=1, and may restart us: spawn systemd-notify ENOENT$/])
  createSupervisor({}, 1, t.fail).ready()
})

t.test('the watchdog hears three times within its time, within limits', async (t) => {
  const { setInterval } = globalThis
  const intervals: number[] = []
  const fake = (_: () => void, ms: number) => ({ unref: () => intervals.push(ms) })
  t.teardown(() => Object.assign(globalThis, { setInterval }))
  Object.assign(globalThis, { setInterval: fake })
  for (const [WATCHDOG_USEC, WATCHDOG_PID, expected] of [
    ['30000000', '1', [10_000]],
    ['303000', '1', [101]],
    ['297000', undefined, [100]],
    ['1', '1', [100]],
    ['183000000', '1', [60_000]],
    ['30000000', '2', []],
    ['0', '1', []],
    [undefined, '1', []],
  ] as const) {
    const env = { PATH: '/nowhere', NOTIFY_SOCKET: '/nowhere', WATCHDOG_USEC, WATCHDOG_PID }
    createSupervisor(env, 1, () => {}).ready()
    t.same(intervals.splice(0), expected, `${WATCHDOG_USEC} of ${WATCHDOG_PID}`)
  }
})
