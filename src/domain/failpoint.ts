/**
 * Moments between a change and its answer where a drill ends the process, to prove that nothing is lost. Only a
 * main of a test's own injects something there (runProcess); no setting reaches it.
 */
export type Failpoint =
  /** All statements of a transaction are through, COMMIT is not sent. */
  | 'before_commit'
  /** A handler is through, its answer is not sent. */
  | 'after_commit_before_reply'
  /** A group of heartbeats is with the database. */
  | 'mid_group'
  /** Commands are leased, none is sent. */
  | 'after_claim'
  /** FCM has answered, that is not recorded. */
  | 'after_fcm_before_record'
  /** Requests have ended; groups, sends and pools have not. */
  | 'mid_shutdown'

export type AtFailpoint = (reached: Failpoint) => void
