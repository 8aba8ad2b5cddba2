/** What CI does to builds in a drill: publishes whole APKs, and breaks off uploads half-way. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type ClientRequest, request } from 'node:http'
import { makeApk } from '../../sim/apk.ts'
import { createSend } from '../../testkit/http/client.ts'

export interface Upload {
  readonly buildId: string
  readonly versionCode: number
  readonly bytes: Buffer
  readonly sha256: string
}

export interface Uploads {
  /** The next build; its size is random within the bounds. */
  next(): Upload
  /** Returns the status. */
  publish(origin: string, upload: Upload): Promise<number>
  /** Resolves once half of it is on its way; the rest is never sent. */
  beginHalf(origin: string, upload: Upload): Promise<ClientRequest>
}

export function createUploads(options: {
  readonly adminToken: string
  readonly minBytes: number
  readonly maxBytes: number
  readonly random: () => number
}): Uploads {
  const { adminToken, minBytes, maxBytes, random } = options
  const headers = { authorization: `Bearer ${adminToken}` }
  let made = 0

  return {
    next() {
      made += 1
      const buildId = `drill-${made}`
      const sizeBytes = minBytes + Math.floor(random() * (maxBytes - minBytes))
      const bytes = makeApk({ sizeBytes, seed: buildId, versionCode: made })
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      return { buildId, versionCode: made, bytes, sha256 }
    },

    async publish(origin, upload) {
      const path = pathOf(upload)
      const promised = { ...headers, 'x-apk-sha256': upload.sha256 }
      const send = createSend(origin)
      return (await send({ method: 'PUT', path, headers: promised, body: upload.bytes })).status
    },

    async beginHalf(origin, upload) {
      const half = request(origin + pathOf(upload), {
        method: 'PUT',
        agent: false,
        headers: { ...headers, 'content-length': upload.bytes.length, expect: '100-continue' },
      })
      half.on('error', () => {}) // we break it, or the service is killed
      half.flushHeaders()
      await once(half, 'continue')
      await new Promise((resolve) =>
        half.write(upload.bytes.subarray(0, upload.bytes.length / 2), resolve),
      )
      return half
    },
  }
}

function pathOf({ buildId, versionCode }: Upload): string {
  return `/admin/apk/builds/${buildId}?version_code=${versionCode}`
}
