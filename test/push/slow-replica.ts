/** A replica that gets FCM's first response only when the test says so. */
import type { Test } from 'tap'
import type { SendOutcome } from '../../src/push/fcm.ts'
import { until } from '../../testkit/until.ts'
import type { startReplicas } from '../helpers/replicas.ts'

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
      dispatcher.wake()
      await until(() => held.length > 0)
      t.equal((await row(id)).push_state, 'sending')
      return answered[0]
    },
    letRecord: () => held[0]?.(),
  }
}
