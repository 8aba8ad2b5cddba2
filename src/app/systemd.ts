/**
 * Notifies systemd (Type=notify, sd_notify(3)) when the service is up, alive, stopping. The event loop sends the watchdog's
 * messages, so systemd kills the process when the loop hangs.
 *
 * Node has no unix datagram sockets; systemd-notify sends each message, in 12 ms, three times per WatchdogSec.
 */
import { execFile } from 'node:child_process'

export interface Supervisor {
  /** Also starts the messages to the watchdog. */
  ready(): void
  stopping(): void
}

export interface SupervisorEnv {
  readonly PATH?: string | undefined
  /** A path, or `@` and an abstract name; unset: there is no supervisor. */
  readonly NOTIFY_SOCKET?: string | undefined
  /** Longest time between two messages to the watchdog, µs. */
  readonly WATCHDOG_USEC?: string | undefined
  /** The process that it watches. */
  readonly WATCHDOG_PID?: string | undefined
}

const NOTIFY_TIMEOUT_MS = 5_000
/** One message may be lost: the next one is still in time. */
const PINGS_PER_WATCHDOG = 3
const LEAST_PING_MS = 100
/** A longer interval would overflow a timer, which then fires every millisecond. */
const MOST_PING_MS = 60_000

/** Prints one notice if messages cannot be sent. */
export function createSupervisor(
  env: SupervisorEnv,
  pid: number,
  printNotice: (text: string) => void,
): Supervisor {
  const { PATH, NOTIFY_SOCKET, WATCHDOG_USEC = '', WATCHDOG_PID = String(pid) } = env
  if (!NOTIFY_SOCKET) return { ready() {}, stopping() {} }
  let hasFailed = false
  let isPinging = false

  /** The child runs when this returns, and may outlive the process. At most three run at once, one of each kind. */
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
        ended(error) // Node throws errors of spawn, such as ENOMEM and ELOOP, except for five codes
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
