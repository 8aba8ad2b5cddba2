/**
 * Tells systemd how the process is (Type=notify, sd_notify(3)): up, alive, stopping. The watchdog is told from the event
 * loop, so a loop that hangs is silent, and systemd ends the process.
 *
 * Node has no unix datagram sockets, so systemd-notify sends each message: 12 ms, three times per WatchdogSec.
 */
import { execFile } from 'node:child_process'

export interface Supervisor {
  /** From now on the watchdog is told as well. */
  ready(): void
  stopping(): void
}

export interface SupervisorEnv {
  readonly PATH?: string | undefined
  /** A path, or `@` and an abstract name; without it nobody listens. */
  readonly NOTIFY_SOCKET?: string | undefined
  /** How long the watchdog waits for a message, microseconds. */
  readonly WATCHDOG_USEC?: string | undefined
  /** Whom it waits for; another process's watchdog is not ours. */
  readonly WATCHDOG_PID?: string | undefined
}

const NOTIFY_TIMEOUT_MS = 5_000
/** One message may be lost, and the next is still in time. */
const PINGS_PER_WATCHDOG = 3
const LEAST_PING_MS = 100
/** A watchdog of years would overflow a timer, which then fires every millisecond. */
const MOST_PING_MS = 60_000

/** `say` is told once where messages cannot be sent. */
export function createSupervisor(
  env: SupervisorEnv,
  pid: number,
  printNotice: (text: string) => void,
): Supervisor {
  const { PATH, NOTIFY_SOCKET, WATCHDOG_USEC = '', WATCHDOG_PID = String(pid) } = env
  if (!NOTIFY_SOCKET) return { ready() {}, stopping() {} }
  let hasFailed = false
  let isPinging = false

  /** Its child is there when this returns, and outlives us. At most three at once: one of each kind. */
  function send(message: string): Promise<void> {
    return new Promise((resolve) => {
      const options = { env: { PATH, NOTIFY_SOCKET }, timeout: NOTIFY_TIMEOUT_MS }
      const ended = (error: unknown) => {
        if (error !== null && !hasFailed) {
          const why = error instanceof Error ? error.message.trim() : String(error)
          printNotice(`systemd is not told ${message}, and may restart us: ${why}`)
          hasFailed = true
        }
        resolve()
      }
      try {
        execFile('systemd-notify', [message], { ...options, killSignal: 'SIGKILL' }, ended)
      } catch (error) {
        ended(error) // Node throws what spawn reports, but for five codes: ENOMEM, ELOOP
      }
    })
  }
  const ping = async () => {
    if (isPinging) return
    isPinging = true
    await send('WATCHDOG=1')
    isPinging = false
  }

  return {
    ready() {
      void send('READY=1')
      if (!/^[1-9]\d*$/.test(WATCHDOG_USEC) || WATCHDOG_PID !== String(pid)) return
      const everyMs = Number(WATCHDOG_USEC) / 1_000 / PINGS_PER_WATCHDOG
      const pingMs = Math.min(Math.max(LEAST_PING_MS, everyMs), MOST_PING_MS)
      setInterval(() => void ping(), pingMs).unref()
    },
    stopping() {
      void send('STOPPING=1')
    },
  }
}
