/** Who downloaded which build: one row per download, inserted before its first byte and completed at its end. */
import type { Downloader } from '../../domain/identity.ts'
import type { Queryable } from '../postgres/pool.ts'
import { withRetries } from '../postgres/retry.ts'

export interface DownloadEvent {
  /** A UUID from the caller. */
  readonly eventId: string
  readonly buildId: string
  readonly downloader: Downloader
  readonly ip: string | null
  readonly requestId: string
  /** The response's status: 200, 206, 412 or 416. */
  readonly statusCode: number
  /** First byte of a 206; otherwise null. */
  readonly rangeStart: number | null
}

export interface DownloadStore {
  begin(event: DownloadEvent): Promise<void>
  /** Retries for some seconds: a download outlasts a database restart. Idempotent. `reason`: why it failed, or null. */
  complete(
    eventId: string,
    bytesSent: number,
    isCompleted: boolean,
    reason: string | null,
  ): Promise<void>
}

const BEGIN = /* sql */ `
  insert into apk_download_events
    (event_id, build_id, source, token_id, device_id, admin, ip, request_id, status_code, range_start)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

const COMPLETE = /* sql */ `
  update apk_download_events set ended_at = now(), bytes_sent = $2, completed = $3, reason = $4
  where event_id = $1 and ended_at is null`

/** `forAdmins`: their share, for the beginnings of their downloads, which they may ask for in any number. */
export function downloadStore(database: Queryable, forAdmins: Queryable): DownloadStore {
  return {
    async begin(event) {
      const { downloader } = event
      await (downloader.source === 'manual' ? forAdmins : database).query({
        name: 'apk_downloads.begin',
        text: BEGIN,
        values: [
          event.eventId,
          event.buildId,
          downloader.source,
          downloader.source === 'enrollment' ? downloader.tokenId : null,
          downloader.source === 'ota' ? downloader.deviceId : null,
          downloader.source === 'manual' ? downloader.admin : null,
          event.ip,
          event.requestId,
          event.statusCode,
          event.rangeStart,
        ],
      })
    },

    async complete(eventId, bytesSent, isCompleted, reason) {
      const query = {
        name: 'apk_downloads.complete',
        text: COMPLETE,
        values: [eventId, bytesSent, isCompleted, reason],
      }
      await withRetries(() => database.query(query))
    },
  }
}
