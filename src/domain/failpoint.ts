/**
 * Points between a change and its response at which drills kill the process, to prove that nothing is lost. No setting
 * reaches them: only the drills' own main passes a handler (runProcess).
 */
export type Failpoint =
  /** All statements of a transaction have run, COMMIT has not been sent. */
  | 'before_commit'
  /** A handler is done, its response has not been sent. */
  | 'after_commit_before_reply'
  /** The database runs the statement of a group of heartbeats. */
  | 'mid_group'
  /** Commands are leased, none has been sent. */
  | 'after_claim'
  /** FCM has responded, which has not been recorded. */
  | 'after_fcm_before_record'
  /** Requests have ended; group commits, pushes and pools have not. */
  | 'mid_shutdown'

export type AtFailpoint = (reached: Failpoint) => void
