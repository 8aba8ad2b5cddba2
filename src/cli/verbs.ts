/** Every verb of `fleetloop`, in the order of its help. A new verb is a row here and its file. */
import { completionVerb } from './completion.ts'
import { doctorVerb } from './doctor/doctor.ts'
import type { Verb } from './verb.ts'
import { auditVerb } from './verbs/audit.ts'
import { buildsVerb } from './verbs/builds.ts'
import { cancelVerb } from './verbs/cancel.ts'
import { commandsVerb } from './verbs/commands.ts'
import { deleteVerb, eraseVerb } from './verbs/delete.ts'
import { devicesVerb, deviceVerb } from './verbs/devices.ts'
import { enrollVerb } from './verbs/enroll.ts'
import { historyVerb } from './verbs/history.ts'
import { jobsVerb, jobVerb } from './verbs/jobs.ts'
import { labelVerb } from './verbs/label.ts'
import { publishVerb, releaseVerb, withdrawVerb } from './verbs/publish.ts'
import { sendVerb } from './verbs/send.ts'
import { statusVerb } from './verbs/status.ts'
import { tailVerb } from './verbs/tail.ts'
import { revokeVerb, tokensVerb } from './verbs/tokens.ts'
import { whyVerb } from './verbs/why.ts'

export const VERBS: readonly Verb[] = [
  statusVerb,
  ...[devicesVerb, deviceVerb, historyVerb, whyVerb, labelVerb],
  ...[commandsVerb, sendVerb, cancelVerb, jobsVerb, jobVerb],
  ...[enrollVerb, tokensVerb, revokeVerb, deleteVerb, eraseVerb],
  ...[buildsVerb, publishVerb, releaseVerb, withdrawVerb],
  ...[auditVerb, tailVerb, doctorVerb],
  completionVerb(() => VERBS),
]
