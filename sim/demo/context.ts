/** What the demo's steps share: the service, the phones, and how a failed expectation ends the story. */

import { bodyOf, type HttpResponse, textOf } from '../../testkit/http/client.ts'
import type { LogBook } from '../../testkit/log-book.ts'
import type { FakeFcm } from '../fcm/fake-fcm.ts'
import type { Fleet } from '../fleet.ts'
import type { Recorder } from './recorder.ts'
import type { Screen } from './screen.ts'

export interface StoryDeps {
  readonly origin: string
  readonly adminToken: string
  readonly log: LogBook
  readonly screen: Screen
  /** undefined: push is off. */
  readonly push: FakeFcm | undefined
}

export interface Stage extends StoryDeps {
  readonly recorder: Recorder
  readonly fleet: Fleet
}

/** The loop failed; the message says where. */
export class StoryError extends Error {
  override readonly name = 'StoryError'
}

export function expect(holds: boolean, fact: string): void {
  if (!holds) throw new StoryError(`it should hold, and does not: ${fact}`)
}

export function expectStatus(response: HttpResponse, status: number, fact: string): void {
  const code = textOf(bodyOf(response), 'code')
  expect(response.status === status, `${fact} (answer ${response.status} ${code})`)
}
