/** A phone fetches the newest APK: hashed as it comes, compared with what the answer promised; never resumed. */
import { createHash } from 'node:crypto'
import type { Send } from '../../testkit/http/client.ts'

export interface FetchedApk {
  readonly status: number
  readonly sizeBytes: number
  /** Hex, of the bytes that came. */
  readonly sha256: string
  readonly buildId: string
  /** Whole, of the promised length (above 0) and SHA-256. */
  readonly isIntact: boolean
}

/** `token`: of the device, or an enrollment token. Rejects where it was cut off. */
export async function fetchApk(send: Send, token: string, userAgent: string): Promise<FetchedApk> {
  const hash = createHash('sha256')
  let sizeBytes = 0
  const { status, headers } = await send({
    method: 'GET',
    path: '/v1/apk/download-latest',
    headers: { authorization: `Bearer ${token}`, 'user-agent': userAgent },
    sink: (piece) => {
      hash.update(piece)
      sizeBytes += piece.length
    },
  })
  const sha256 = hash.digest('hex')
  const isWhole = sizeBytes > 0 && sizeBytes === Number(headers['content-length'])
  return {
    status,
    sizeBytes,
    sha256,
    buildId: String(headers['x-apk-build-id'] ?? ''),
    isIntact: status === 200 && isWhole && sha256 === headers['x-apk-sha256'],
  }
}
