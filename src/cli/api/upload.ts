/** Sends a file as the body of publishBuild, with progress. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { json } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { errorText } from '../../lib/error-text.ts'
import { visible } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'
import {
  ApiError,
  failureOf,
  foreignResponse,
  headersOf,
  isOurs,
  type RequestOf,
  type ResponseOf,
  reasonOf,
  targetOf,
} from './client.ts'
import type { Connection } from './connection.ts'
import { OPERATIONS } from './openapi.ts'

/** Without a byte moving, milliseconds. Storing a large build takes a while after its last byte. */
const IDLE_MS = 120_000

/** Throws ApiError and UsageError. `onProgress` gets bytes that were handed over. */
export async function uploadBuild(
  connection: Connection,
  file: { readonly path: string; readonly sizeBytes: number },
  request: RequestOf<'publishBuild'>,
  onProgress: (bytes: number) => void,
): Promise<ResponseOf<'publishBuild'>> {
  const { method } = OPERATIONS.publishBuild
  const sha256 = await digestOf(file.path)
  const target = targetOf('publishBuild', request)
  const { origin } = connection
  const open = origin.startsWith('https:') ? httpsRequest : httpRequest
  try {
    const upload = open(`${origin}${target}`, {
      method,
      headers: {
        ...headersOf(connection, method, target, sha256),
        'content-type': 'application/vnd.android.package-archive',
        'content-length': file.sizeBytes,
        'x-apk-sha256': sha256,
      },
      timeout: IDLE_MS,
    })
    const response = await exchange(upload, file.path, onProgress)
    const received = {
      status: response.statusCode ?? 0,
      body: await json(response).catch(() => undefined),
    }
    if (received.status >= 300) throw failureOf(origin, received)
    if (!isOurs('publishBuild', received))
      throw foreignResponse(origin, `${received.status} of another service`)
    return received.body as ResponseOf<'publishBuild'> // openapi.json guarantees the form
  } catch (error) {
    if (error instanceof ApiError) throw error
    throw foreignResponse(origin, reasonOf({ cause: error }))
  }
}

/** A refusal may come before the last byte is sent. */
function exchange(
  upload: ClientRequest,
  path: string,
  onProgress: (bytes: number) => void,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    let hasResponse = false
    upload.once('response', (response: IncomingMessage) => {
      hasResponse = true
      resolve(response)
    })
    upload.once('timeout', () =>
      upload.destroy(new Error(`nothing moved for ${IDLE_MS / 1_000} s`)),
    )
    const bytes = createReadStream(path)
    let sent = 0
    bytes.on('data', (chunk) => {
      sent += chunk.length
      onProgress(sent)
    })
    pipeline(bytes, upload).catch((error) => {
      if (!hasResponse) reject(error)
    })
    upload.on('error', (error) => {
      if (!hasResponse) reject(error)
    })
  })
}

/** Throws UsageError. */
async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk)
  } catch (error) {
    throw new UsageError(`${visible(path)} cannot be read: ${visible(errorText(error))}`)
  }
  return hash.digest('hex')
}
