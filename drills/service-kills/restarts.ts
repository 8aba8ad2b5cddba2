/** The lives of one service, one after the other, on one database and one port; each may be made to die at a failpoint. */
import { type Replica, startReplica } from '../../testkit/service.ts'

export interface Lives {
  /** The next one, once it takes requests; the one before it has ended. With a FAILPOINT it is the build that has them. */
  next(failpoint: Readonly<Record<string, string>>): Promise<Replica>
  readonly count: number
  /** From the start of each process, begun at once after the death before it, to the moment when it takes requests. */
  readonly readyMs: readonly number[]
  /** Answers 500. */
  faults(): readonly string[]
  destroy(): Promise<void>
}

export function startLives(settings: Readonly<Record<string, string>>): Lives {
  const lives: Replica[] = []
  const readyMs: number[] = []
  let port = 0

  return {
    async next(failpoint) {
      const startedAtMs = performance.now()
      const life = startReplica({
        settings: { ...settings, ...failpoint },
        port,
        main: 'FAILPOINT' in failpoint ? 'testkit/failpoint-main.js' : 'src/main.js',
      })
      lives.push(life)
      if (port === 0) port = Number(new URL(await life.origin).port)
      // Background work may reach its failpoint as soon as it begins.
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
