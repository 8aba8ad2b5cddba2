/** A replica that gets FCM's first response only when the test says so. */
import type { Test } from 'tap'
import type { SendOutcome } from '../../src/push/fcm.ts'
import { until } from '../../testkit/until.ts'
import type { startReplicas } from '../helpers/replicas.ts'

const LEASE_MS = 60_000

type Replicas = Awaited<ReturnType<typeof startReplicas>>

export function slowReplica(
  t: Test,
  { clientOf, replica, row }: Pick<Replicas, 'clientOf' | 'replica' | 'row'>,
) {
  const client = clientOf(10_000)
  const answered: SendOutcome[] = []
  const held: (() => void)[] = []
  const { dispatcher, eventsOf } = replica(t, {
    fcm: {
      async send(message) {
        const outcome = await client.send(message)
        answered.push(outcome)
        if (answered.length === 1) await new Promise<void>((resolve) => held.push(resolve))
        return outcome
      },
    },
  })
  t.teardown(() => held[0]?.())
  return {
    dispatcher,
    eventsOf,
    /** FCM has taken the first message, its answer is not recorded. */
    async push(id: string) {
      const beforeMs = Date.now()
      dispatcher.wake()
      await until(() => held.length > 0)
      const { push_state, lease_until, next_attempt_at } = await row(id)
      t.equal(push_state, 'sending')
      t.same(next_attempt_at, lease_until)
      const since = lease_until.getTime() - LEASE_MS
      t.ok(beforeMs <= since && since <= Date.now(), `the lease began at ${since}`)
      return answered[0]
    },
    letRecord: () => held[0]?.(),
  }
}
