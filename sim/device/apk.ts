/** A phone downloads the latest APK, hashes it while it arrives and compares it with the headers; never resumes. */
import { createHash } from 'node:crypto'
import type { Send } from '../../testkit/http/client.ts'

export interface FetchedApk {
  readonly status: number
  readonly sizeBytes: number
  /** Of the received bytes, hex. */
  readonly sha256: string
  readonly buildId: string
  /** Complete, with the announced length (above 0) and SHA-256. */
  readonly isIntact: boolean
}

/** `token`: a device's, or an enrollment token. Rejects if the download breaks off. */
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
