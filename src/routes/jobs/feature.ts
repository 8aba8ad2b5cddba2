/** What the endpoints of jobs use. */
import type { JobStore } from '../../db/jobs/jobs.ts'
import type { Commands } from '../commands/feature.ts'

export interface Jobs
  extends Pick<
    Commands,
    | 'actions'
    | 'offlineAfterS'
    | 'isPushOn'
    | 'senderTrouble'
    | 'waitForChange'
    | 'tryAcquireWait'
    | 'nowMs'
  > {
  readonly jobs: JobStore
  /** Reads on their share of the connections: for GET. */
  readonly jobsForAdmins: Pick<JobStore, 'offline'>
  /** To be called when a job was created or changed: it may be due. */
  readonly wakeReleases: () => void
  readonly now: () => Date
}
