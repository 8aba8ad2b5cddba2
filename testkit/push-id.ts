/** Push identities of either kind, written briefly. */
import type { PushId } from '../src/domain/delivery/push-id.ts'

export const tokenId = (value: string): PushId => ({ kind: 'token', value })
export const fidId = (value: string): PushId => ({ kind: 'fid', value })
