/** The admin API as openapi.json describes it. `npm run docs` writes this file. */
// biome-ignore-all format: one line a schema, one line an operation

export type AbortJob = { readonly cancel_open?: boolean }
export type AcceptedCommand = { readonly request_id: RequestId; readonly device_id: string; readonly alias: string; readonly action: string; readonly status: CommandStatus; readonly push: Push; readonly expires_at: string; readonly duplicate: boolean }
export type Alias = string
export type AuditEntry = { readonly at: string; readonly admin: string | null; readonly what: string; readonly subject: string; readonly request_id: RequestId; readonly ip: string | null; readonly detail: Readonly<Record<string, unknown>> | null }
export type AuditPage = { readonly audit: readonly AuditEntry[]; readonly next_cursor: string | null }
export type Build = { readonly build_id: RequestId; readonly build_type: string; readonly version_code: number; readonly version_name: string | null; readonly git_sha: string | null; readonly ci_run_id: string | null; readonly signer_fingerprint: string | null; readonly package: string | null; readonly min_sdk: number | null; readonly target_sdk: number | null; readonly debuggable: boolean | null; readonly signing: 'v1' | 'v2' | 'v3' | 'none' | null; readonly signer_sha256: string | null; readonly unreadable: string | null; readonly state: 'live' | 'staged' | 'withdrawn'; readonly sha256: string; readonly size_bytes: number; readonly published_at: string; readonly published_by: string; readonly released_at: string | null; readonly withdrawn_at: string | null; readonly withdrawn_by: string | null; readonly has_bytes: boolean }
export type BuildPage = { readonly builds: readonly ListedBuild[]; readonly next_cursor: string | null }
export type Command = { readonly request_id: RequestId; readonly device_id: string; readonly alias: string; readonly action: string; readonly params: Readonly<Record<string, string>>; readonly admin: string; readonly status: CommandStatus; readonly push: Push; readonly attempt: number; readonly created_at: string; readonly expires_at: string; readonly ended_at: string | null; readonly delivered_at: string | null; readonly deliveries: number; readonly result: { readonly outcome: 'success' | 'failure' | 'timeout' | 'rejected'; readonly message: string | null; readonly output: string | null; readonly exit_code: number | null; readonly finished_at: string | null; readonly received_at: string | null; readonly late: boolean } | null }
export type CommandPage = { readonly commands: readonly Command[]; readonly next_cursor: string | null }
export type CommandStatus = 'queued' | 'sent' | 'delivered' | 'push_failed' | 'completed' | 'expired' | 'cancelled'
export type CommandStory = Command & { readonly timeline: readonly ({ readonly at: string; readonly stage: 'accepted' | 'push_sent' | 'push_failed' | 'push_off' | 'no_push_token' | 'delivered' | 'result' | 'expired' | 'cancelled'; readonly code: string | null; readonly instance: string; readonly detail: Readonly<Record<string, unknown>> | null })[]; readonly verdict: { readonly code: 'completed' | 'failed_on_device' | 'ran_after_end' | 'expired' | 'cancelled' | 'device_deleted' | 'delivered_waiting_for_result' | 'device_never_seen' | 'push_off' | 'push_misconfigured' | 'push_token_dead' | 'no_push_token' | 'device_offline' | 'push_backoff' | 'pushed_waiting_for_device' | 'waiting_first_push'; readonly detail: string } }
export type CreatedJob = Job & { readonly duplicate: boolean }
export type Device = { readonly device_id: string; readonly alias: string; readonly hardware_id: string | null; readonly enrollment_no: number; readonly created_at: string; readonly enrolled_at: string; readonly deleted_at: string | null; readonly model: string | null; readonly manufacturer: string | null; readonly android_version: string | null; readonly sdk_int: number | null; readonly labels: Labels; readonly push_token: 'live' | 'dead' | 'none'; readonly push_kind: 'token' | 'fid' | null; readonly push_lowered_at: string | null; readonly last_seen_at: string | null; readonly offline_after_s: number; readonly last_status: LastStatus; readonly app_versions: Readonly<Record<string, { readonly version_code: number }>> | null }
export type DeviceChange = { readonly labels: LabelChange }
export type DevicePage = { readonly devices: readonly Device[]; readonly next_cursor: string | null }
export type EnrollmentToken = { readonly token_id: string; readonly alias: string | null; readonly status: 'active' | 'exhausted' | 'expired' | 'revoked'; readonly uses_allowed: number; readonly uses_consumed: number; readonly issued_at: string; readonly expires_at: string; readonly revoked_at: string | null; readonly issued_by: string; readonly note: string | null; readonly labels: Labels }
export type EnrollmentTokenPage = { readonly tokens: readonly EnrollmentToken[]; readonly next_cursor: string | null }
export type Event = { readonly id: string; readonly at: string; readonly type: EventType; readonly subject: string; readonly device_id: string | null; readonly alias: string | null; readonly detail: Readonly<Record<string, unknown>> | null }
export type EventPage = { readonly events: readonly Event[]; readonly cursor: string | null; readonly has_more: boolean; readonly behind_s: number }
export type EventType = 'feed.started' | 'device.enrolled' | 'device.re_enrolled' | 'device.deleted' | 'device.offline' | 'device.online' | 'command.ended' | 'job.created' | 'job.scheduled' | 'job.running' | 'job.paused' | 'job.done' | 'job.aborted' | 'build.published' | 'build.staged' | 'build.released' | 'build.withdrawn' | 'token.created' | 'token.consumed' | 'token.revoked'
export type FleetSummary = { readonly at: string; readonly devices: number; readonly online: number; readonly status: { readonly ok: number; readonly warn: number; readonly error: number; readonly unknown: number }; readonly push: { readonly live: number; readonly none: number; readonly dead: number; readonly off: number }; readonly push_lowered: number; readonly battery: { readonly '0-19': number; readonly '20-49': number; readonly '50-100': number; readonly unknown: number }; readonly last_contact: { readonly '5m': number; readonly '30m': number; readonly '1d': number; readonly '7d': number; readonly older: number; readonly never: number }; readonly app_version: ValueCounts; readonly agent_version: ValueCounts; readonly app_versions: Readonly<Record<string, VersionCounts>>; readonly model: ValueCounts; readonly android_version: ValueCounts; readonly network_type: ValueCounts; readonly open_commands: { readonly queued: number; readonly sent: number; readonly delivered: number; readonly push_failed: number }; readonly open_jobs: number }
export type HeartbeatNumbers = { readonly battery_pct: number | null; readonly uptime_s: number | null; readonly temp_c: number | null; readonly signal_dbm: number | null; readonly ram_used_mb: number | null }
export type HeartbeatPage = { readonly heartbeats: readonly StoredHeartbeat[]; readonly next_cursor: string | null }
export type HeartbeatStep = { readonly from: string; readonly heartbeats: number; readonly min: HeartbeatNumbers; readonly max: HeartbeatNumbers; readonly last: StoredHeartbeat }
export type HeartbeatStepPage = { readonly steps: readonly HeartbeatStep[]; readonly next_cursor: string | null }
export type IssuedEnrollmentToken = { readonly token_id: string; readonly alias: Alias | null; readonly token: string; readonly expires_at: string; readonly uses_allowed: number }
export type IssuedEnrollmentTokens = { readonly tokens: readonly IssuedEnrollmentToken[]; readonly duplicate: boolean }
export type Job = JobInList & { readonly verdict: { readonly code: 'aborted' | 'paused_by_admin' | 'paused_by_threshold' | 'scheduled' | 'releasing' | 'waiting_for_devices' | 'waiting_for_results' | 'done' | 'done_with_failures'; readonly detail: string } }
export type JobId = string
export type JobInList = { readonly job_id: JobId; readonly action: string; readonly params: Readonly<Record<string, string>>; readonly where: string; readonly admin: string; readonly note: string | null; readonly state: JobState; readonly reason: 'admin' | 'threshold' | null; readonly created_at: string; readonly not_before: string | null; readonly changed_at: string; readonly ended_at: string | null; readonly ttl_s: number; readonly per_minute: number | null; readonly max_failed_pct: number | null; readonly min_results: number; readonly devices: number; readonly released: number; readonly counts: { readonly waiting: number; readonly queued: number; readonly sent: number; readonly delivered: number; readonly push_failed: number; readonly completed: number; readonly failed: number; readonly expired: number; readonly cancelled: number }; readonly rate: { readonly released_per_min: number; readonly ended_per_min: number }; readonly eta_s: number | null }
export type JobMemberPage = { readonly commands: readonly (Command | WaitingMember)[]; readonly next_cursor: string | null }
export type JobPage = { readonly jobs: readonly JobInList[]; readonly next_cursor: string | null }
export type JobPreview = { readonly devices: number; readonly sample: readonly { readonly device_id: string; readonly alias: string }[]; readonly unreachable: { readonly offline: number; readonly no_push: number } }
export type JobState = 'scheduled' | 'running' | 'paused' | 'done' | 'aborted'
export type LabelChange = Readonly<Record<string, string | null>>
export type Labels = Readonly<Record<string, string>>
export type LastStatus = { readonly status: 'ok' | 'warn' | 'error' | null; readonly battery_pct: number | null; readonly network_type: string | null; readonly uptime_s: number | null; readonly plugged: boolean | null; readonly temp_c: number | null; readonly signal_dbm: number | null; readonly ram_used_mb: number | null; readonly app_version: string | null; readonly agent_version: string | null; readonly version_code: number | null }
export type ListedBuild = Build & { readonly devices: number | null }
export type MemberStatus = 'waiting' | 'queued' | 'sent' | 'delivered' | 'push_failed' | 'completed' | 'failed' | 'expired' | 'cancelled'
export type NewCommand = { readonly device_id?: string; readonly alias?: Alias; readonly action: string; readonly params?: Readonly<Record<string, string>>; readonly request_id?: RequestId; readonly ttl_s?: number }
export type NewEnrollmentTokens = { readonly aliases: readonly (Alias | null)[]; readonly expires_in_sec?: number; readonly uses_allowed?: number; readonly note?: string; readonly labels?: Labels }
export type NewJob = { readonly job_id?: JobId; readonly where: string; readonly action: string; readonly params?: Readonly<Record<string, string>>; readonly ttl_s?: number; readonly per_minute?: number; readonly max_failed_pct?: number; readonly min_results?: number; readonly not_before?: string; readonly expect_devices?: number; readonly dry_run?: boolean; readonly note?: string }
export type PublishedBuild = Build & { readonly warnings: readonly string[] }
export type Push = { readonly state: 'off' | 'no_token' | 'waiting' | 'sending' | 'backoff' | 'paused' | 'sent' | 'gave_up'; readonly attempts: number; readonly fcm_http_code: number | null; readonly fcm_status: string | null; readonly received_at: string | null; readonly priority: 'high' | 'normal' | null; readonly original_priority: 'high' | 'normal' | null }
export type RequestId = string
export type SelectedLabels = { readonly devices: number; readonly changed: number; readonly dry_run: boolean; readonly sample: readonly { readonly device_id: string; readonly alias: string }[] }
export type SelectionLabels = { readonly where: string; readonly labels: LabelChange; readonly expect_devices?: number; readonly dry_run?: boolean }
export type StoredHeartbeat = LastStatus & { readonly received_at: string; readonly reported_at: string | null; readonly request_id: string }
export type ValueCounts = { readonly values: readonly ({ readonly value: string | null; readonly devices: number })[]; readonly others: number }
export type VersionCounts = { readonly values: readonly { readonly value: number; readonly devices: number }[]; readonly others: number }
export type WaitingMember = { readonly request_id: RequestId; readonly device_id: string; readonly alias: string | null; readonly action: string; readonly params: Readonly<Record<string, string>>; readonly admin: string; readonly status: 'waiting' | 'cancelled' }

/** What each operation takes and returns, by its operationId. */
export interface Operations {
  readonly createEnrollmentTokens: { readonly request: { readonly headers?: { readonly 'Idempotency-Key'?: RequestId }; readonly body: NewEnrollmentTokens }; readonly response: IssuedEnrollmentTokens }
  readonly listEnrollmentTokens: { readonly request: { readonly query?: { readonly status?: 'active' | 'exhausted' | 'expired' | 'revoked'; readonly alias?: Alias; readonly limit?: number; readonly cursor?: string } }; readonly response: EnrollmentTokenPage }
  readonly revokeEnrollmentToken: { readonly request: { readonly path: { readonly token_id: string } }; readonly response: undefined }
  readonly sendCommand: { readonly request: { readonly query?: { readonly wait_ms?: number; readonly wait_for?: 'push' | 'end' }; readonly headers?: { readonly 'Idempotency-Key'?: RequestId }; readonly body: NewCommand }; readonly response: AcceptedCommand }
  readonly createCommand: { readonly request: { readonly query?: { readonly wait_ms?: number; readonly wait_for?: 'push' | 'end' }; readonly headers?: { readonly 'Idempotency-Key'?: RequestId }; readonly body: NewCommand }; readonly response: AcceptedCommand }
  readonly listCommands: { readonly request: { readonly query?: { readonly device_id?: string; readonly status?: CommandStatus; readonly alias?: Alias; readonly outcome?: 'success' | 'failure' | 'timeout' | 'rejected'; readonly action?: string; readonly limit?: number; readonly cursor?: string } }; readonly response: CommandPage }
  readonly readCommand: { readonly request: { readonly path: { readonly request_id: RequestId }; readonly query?: { readonly wait_ms?: number; readonly wait_for?: 'push' | 'end' } }; readonly response: CommandStory }
  readonly cancelCommand: { readonly request: { readonly path: { readonly request_id: RequestId } }; readonly response: Command }
  readonly createJob: { readonly request: { readonly headers?: { readonly 'Idempotency-Key'?: RequestId }; readonly body: NewJob }; readonly response: CreatedJob | JobPreview }
  readonly listJobs: { readonly request: { readonly query?: { readonly state?: JobState; readonly limit?: number; readonly cursor?: string } }; readonly response: JobPage }
  readonly readJob: { readonly request: { readonly path: { readonly job_id: JobId }; readonly query?: { readonly wait_ms?: number } }; readonly response: Job }
  readonly listMembers: { readonly request: { readonly path: { readonly job_id: JobId }; readonly query?: { readonly status?: MemberStatus; readonly outcome?: 'success' | 'failure' | 'timeout' | 'rejected'; readonly limit?: number; readonly cursor?: string } }; readonly response: JobMemberPage }
  readonly pauseJob: { readonly request: { readonly path: { readonly job_id: JobId } }; readonly response: Job }
  readonly resumeJob: { readonly request: { readonly path: { readonly job_id: JobId } }; readonly response: Job }
  readonly abortJob: { readonly request: { readonly path: { readonly job_id: JobId }; readonly body: AbortJob }; readonly response: Job }
  readonly listDevices: { readonly request: { readonly query?: { readonly where?: string; readonly order?: 'created' | 'alias' | 'seen'; readonly alias?: Alias; readonly offline_for_s?: number; readonly limit?: number; readonly cursor?: string } }; readonly response: DevicePage }
  readonly readHeartbeats: { readonly request: { readonly path: { readonly device_id: string }; readonly query?: { readonly since?: string; readonly until?: string; readonly step_s?: number; readonly limit?: number; readonly cursor?: string } }; readonly response: HeartbeatPage | HeartbeatStepPage }
  readonly readFleet: { readonly request: { readonly query?: { readonly where?: string } }; readonly response: FleetSummary }
  readonly labelSelection: { readonly request: { readonly body: SelectionLabels }; readonly response: SelectedLabels }
  readonly readDevice: { readonly request: { readonly path: { readonly device_id: string } }; readonly response: Device }
  readonly changeDevice: { readonly request: { readonly path: { readonly device_id: string }; readonly body: DeviceChange }; readonly response: Device }
  readonly deleteDevice: { readonly request: { readonly path: { readonly device_id: string }; readonly query?: { readonly erase?: 'true' | 'false' } }; readonly response: undefined }
  readonly publishBuild: { readonly request: { readonly path: { readonly build_id: RequestId }; readonly query?: { readonly version_code?: number; readonly version_name?: string; readonly build_type?: string; readonly git_sha?: string; readonly ci_run_id?: string; readonly signer_fingerprint?: string; readonly accept_signer?: string; readonly release?: 'staged' }; readonly headers?: { readonly 'X-APK-SHA256'?: string } }; readonly response: PublishedBuild }
  readonly withdrawBuild: { readonly request: { readonly path: { readonly build_id: RequestId } }; readonly response: undefined }
  readonly listBuilds: { readonly request: { readonly query?: { readonly build_type?: string; readonly limit?: number; readonly cursor?: string } }; readonly response: BuildPage }
  readonly releaseBuild: { readonly request: { readonly path: { readonly build_id: RequestId } }; readonly response: PublishedBuild }
  readonly audit: { readonly request: { readonly query?: { readonly since?: string; readonly until?: string; readonly what?: string; readonly admin?: string; readonly subject?: RequestId; readonly alias?: Alias; readonly limit?: number; readonly cursor?: string } }; readonly response: AuditPage }
  readonly readEvents: { readonly request: { readonly query?: { readonly after?: string; readonly types?: string; readonly wait_ms?: number; readonly limit?: number }; readonly headers?: { readonly 'Last-Event-ID'?: string } }; readonly response: EventPage }
  readonly readOpenApi: { readonly request: Readonly<Record<string, never>>; readonly response: Readonly<Record<string, unknown>> }
  readonly healthz: { readonly request: Readonly<Record<string, never>>; readonly response: { readonly status: 'ok'; readonly instance_id: string | null; readonly version: string } }
  readonly readyz: { readonly request: Readonly<Record<string, never>>; readonly response: { readonly status: 'ready' } }
}

export const OPERATIONS = {
  createEnrollmentTokens: { method: 'POST', path: '/v1/enroll-tokens', scopes: ['enroll', 'admin'] },
  listEnrollmentTokens: { method: 'GET', path: '/v1/enroll-tokens', scopes: ['enroll', 'read', 'admin'] },
  revokeEnrollmentToken: { method: 'DELETE', path: '/v1/enroll-tokens/{token_id}', scopes: ['enroll', 'admin'] },
  sendCommand: { method: 'POST', path: '/admin/command', scopes: ['command', 'admin'] },
  createCommand: { method: 'POST', path: '/admin/commands', scopes: ['command', 'admin'] },
  listCommands: { method: 'GET', path: '/admin/commands', scopes: ['command', 'read', 'admin'] },
  readCommand: { method: 'GET', path: '/admin/commands/{request_id}', scopes: ['command', 'read', 'admin'] },
  cancelCommand: { method: 'DELETE', path: '/admin/commands/{request_id}', scopes: ['command', 'admin'] },
  createJob: { method: 'POST', path: '/admin/jobs', scopes: ['command', 'admin'] },
  listJobs: { method: 'GET', path: '/admin/jobs', scopes: ['command', 'read', 'admin'] },
  readJob: { method: 'GET', path: '/admin/jobs/{job_id}', scopes: ['command', 'read', 'admin'] },
  listMembers: { method: 'GET', path: '/admin/jobs/{job_id}/commands', scopes: ['command', 'read', 'admin'] },
  pauseJob: { method: 'POST', path: '/admin/jobs/{job_id}/pause', scopes: ['command', 'admin'] },
  resumeJob: { method: 'POST', path: '/admin/jobs/{job_id}/resume', scopes: ['command', 'admin'] },
  abortJob: { method: 'POST', path: '/admin/jobs/{job_id}/abort', scopes: ['command', 'admin'] },
  listDevices: { method: 'GET', path: '/admin/devices', scopes: ['read', 'admin'] },
  readHeartbeats: { method: 'GET', path: '/admin/devices/{device_id}/heartbeats', scopes: ['read', 'admin'] },
  readFleet: { method: 'GET', path: '/admin/fleet', scopes: ['read', 'admin'] },
  labelSelection: { method: 'POST', path: '/admin/devices/labels', scopes: ['command', 'admin'] },
  readDevice: { method: 'GET', path: '/admin/devices/{device_id}', scopes: ['read', 'admin'] },
  changeDevice: { method: 'PATCH', path: '/admin/devices/{device_id}', scopes: ['command', 'admin'] },
  deleteDevice: { method: 'DELETE', path: '/admin/devices/{device_id}', scopes: ['admin'] },
  publishBuild: { method: 'PUT', path: '/admin/apk/builds/{build_id}', scopes: ['apk', 'admin'] },
  withdrawBuild: { method: 'DELETE', path: '/admin/apk/builds/{build_id}', scopes: ['apk', 'admin'] },
  listBuilds: { method: 'GET', path: '/admin/apk/builds', scopes: ['apk', 'read', 'admin'] },
  releaseBuild: { method: 'POST', path: '/admin/apk/builds/{build_id}/release', scopes: ['apk', 'admin'] },
  audit: { method: 'GET', path: '/admin/audit', scopes: ['read', 'admin'] },
  readEvents: { method: 'GET', path: '/admin/events', scopes: ['read', 'admin'] },
  readOpenApi: { method: 'GET', path: '/openapi.json', scopes: ['command', 'enroll', 'apk', 'metrics', 'read', 'admin'] },
  healthz: { method: 'GET', path: '/healthz', scopes: [] },
  readyz: { method: 'GET', path: '/readyz', scopes: [] },
} as const satisfies Readonly<Record<keyof Operations, unknown>>
