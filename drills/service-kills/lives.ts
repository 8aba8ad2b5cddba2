/**
 * One service that is restarted again and again on one database and port; each process may be killed at a failpoint.
 */
import { freePort } from '../../testkit/listen.ts'
import { type Replica, startReplica } from '../../testkit/service.ts'

export interface Lives {
  /** Starts the next process; the previous one has ended. With a FAILPOINT it runs the build with failpoints. */
  next(failpoint: Readonly<Record<string, string>>): Promise<Replica>
  readonly count: number
  /** From the start of each process, right after the previous one's end, until it takes requests. */
  readonly readyMs: readonly number[]
  /** Lines about responses 500. */
  faults(): readonly string[]
  destroy(): Promise<void>
}

export function startLives(settings: Readonly<Record<string, string>>): Lives {
  const lives: Replica[] = []
  const readyMs: number[] = []
  let port: number | undefined

  return {
    async next(failpoint) {
      port ??= await freePort()
      const startedAtMs = performance.now()
      const life = startReplica({
        settings: { ...settings, ...failpoint },
        port,
        main: 'FAILPOINT' in failpoint ? 'testkit/failpoint-main.js' : 'src/main.js',
      })
      lives.push(life)
      // Background work may reach its failpoint at once.
      const isReady = await Promise.race([
        life.ready.then(() => true),
        life.ended.then(() => false),
      ])
      // The first one migrates.
      if (isReady && lives.length > 1) readyMs.push(performance.now() - startedAtMs)
      return life
    },
    get count() {
      return lives.length
    },
    readyMs,
    faults: () => lives.flatMap(({ faultLines }) => faultLines),
    async destroy() {
      for (const life of lives) life.signal('SIGKILL')
      await Promise.all(lives.map(({ ended }) => ended))
    },
  }
}
