/**
 * What waits in a burst, and for whom. New connections are accepted before the service works for open ones: libuv (since
 * 1.45) accepts one in each turn of the event loop, so in a crowd the last one waits for the work of as many turns as came
 * before it. 64 downloads that began together, or 230 that were refused together, delayed /healthz by 150 to 363 ms; 1,000
 * connections that pipelined, in a process that had just started, by 360.
 */
import type { Server } from 'node:http'
import { PAUSE_MS, type Schedule, Throttle } from '../../lib/throttle.ts'

/**
 * After this many turns open connections go on, however many new ones arrive. With 8, and with 256 that wait, 300 downloads
 * that began together on a slow machine delayed /healthz by 320 to 600 ms, because their queries ran before the last
 * connections were accepted.
 */
const MOST_TURNS = 32
/**
 * First requests and chunks that wait. While connections come without end, each with a request, they take 0.6 ms each, and
 * nobody waits for more than twice 512 of them, 0.6 s. Without a bound 3,800 connections a second delayed every first request
 * by 1.2 s. If they bring no request, the next constant bounds the wait.
 */
const MAX_WAITING_FOR_TURN = 512
/**
 * One more than two runs for each so many that wait: of 512 that wait, 4 run in MOST_TURNS of 0.2 ms, later fewer, so all
 * within 1.4 s, or 3 s while others come with requests. With 128 instead, /healthz took 70 to 120 ms beside those 300
 * downloads, and 45 to 60 if only two run.
 */
const WAITING_PER_EXTRA_TURN = 256
/** First chunks that wait without pauses between them. */
const MAX_WITHOUT_PAUSE = 16
const FIRST_CHUNKS_PER_TURN = 1
/**
 * Requests that wait because the one before was refused. Nothing else bounds the bodies that come with them. Beside 100
 * connections that sent one refused request after another, the heartbeats' p99 was 1.4 times as high, and 2.2 to 2.7 times
 * when those requests did not wait.
 */
const MAX_REFUSED_WAITING = 128
/**
 * Of them, so many run after each pause. Each refusal wakes the attacker, too: beside 1,000 made-up enrollment tokens a second
 * the heartbeats' p99 was 21.8 ms when two ran after each millisecond, and 20.3 ms with these.
 */
const REFUSED_PER_PAUSE = 8
const REFUSED_PAUSE_MS = 5

/** Runs two callbacks, or a few more, in each turn without a new connection, and after MOST_TURNS with one. */
export function behindNewConnections(server: Server): Throttle {
  return new Throttle(scheduleOn(server), {
    max: MAX_WAITING_FOR_TURN,
    perExtra: WAITING_PER_EXTRA_TURN,
  })
}

/**
 * For the first chunks of downloads, which the system takes even if the client reads nothing. As `behindNewConnections`, but
 * runs one in each turn. If more than MAX_WITHOUT_PAUSE wait and `hasOthers`, it pauses before each for PAUSE_MS, which
 * leaves the CPU to others. A chunk of 256 KiB takes 0.4 ms: where 256 downloads began together, two in each turn without a
 * pause kept the CPU busy for 3 s, and a tenth of the heartbeats took 9 to 12 ms.
 */
export function behindRequests(server: Server, hasOthers: () => boolean): Throttle {
  const schedule = scheduleOn(server)
  const paced: Schedule = (run, waiting) => {
    if (waiting > MAX_WITHOUT_PAUSE && hasOthers()) setTimeout(schedule, PAUSE_MS, run)
    else schedule(run)
  }
  return new Throttle(paced, { perPause: FIRST_CHUNKS_PER_TURN })
}

/** For pipelined requests. As `behindNewConnections`, with a pause before each two that leaves the CPU to others. */
export function behindAllOthers(server: Server): Throttle {
  const schedule = scheduleOn(server)
  return new Throttle((run) => void setTimeout(schedule, PAUSE_MS, run))
}

/** For requests behind a refused one. As `behindAllOthers`, in groups; if too many wait, the oldest runs. */
export function behindAllOthersInGroups(server: Server): Throttle {
  const schedule = scheduleOn(server)
  return new Throttle((run) => void setTimeout(schedule, REFUSED_PAUSE_MS, run), {
    max: MAX_REFUSED_WAITING,
    perPause: REFUSED_PER_PAUSE,
  })
}

/** Returns a function that calls `run` after a turn without a new connection, or after MOST_TURNS. */
function scheduleOn(server: Server): (run: () => void) => void {
  let isCrowd = false
  server.on('connection', () => {
    isCrowd = true
  })
  const later = (run: () => void, turns = 1): void => {
    setImmediate(() => {
      const mustWait = isCrowd && turns < MOST_TURNS
      isCrowd = false
      if (mustWait) later(run, turns + 1)
      else run()
    })
  }
  return (run) => later(run)
}
