/** The attackers' process: runs one assault after the other and replies with its counts. */
import type { Assault, AssaultReport } from './assault.ts'
import { sendBursts, sendJunk } from './bytes.ts'
import { holdDownloads, lieIdle, sendRequests } from './clients.ts'

export async function attack(assault: Assault): Promise<AssaultReport> {
  switch (assault.kind) {
    case 'junk':
      return await sendJunk(assault)
    case 'bursts':
      return await sendBursts(assault)
    case 'downloads':
      return await holdDownloads(assault)
    case 'requests':
      return await sendRequests(assault)
    case 'idle':
      return await lieIdle(assault)
  }
}
