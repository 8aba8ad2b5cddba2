/**
 * A fake of FCM and Google's token endpoint: a real HTTP server on loopback that checks what the real ones check,
 * hands messages to simulated devices, and fails on demand. Development code: tests, the demo and drills.
 * Its journal keeps every send; a message is written there, and handed over, before it is answered.
 */

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { setTimeout as wait } from 'node:timers/promises'
import type { PushKind } from '../../src/domain/delivery/push-id.ts'
import { listen } from '../../testkit/listen.ts'
import { createApps, type Deliver, type PhoneApp, type Priority } from './apps.ts'
import { type CheckedMessage, checkMessage, dataOnPhone } from './message.ts'
import {
  CANNED,
  type FakeResponse,
  type FcmMode,
  INVALID_TOKEN,
  NOT_FOUND,
  type TokenMode,
  UNAUTHENTICATED,
  UNREGISTERED,
} from './responses.ts'
import { type KeyPair, type MadeServiceAccount, makeServiceAccount } from './service-account.ts'
import { createTokenIssuer, refusal } from './token-endpoint.ts'

/** A send with a valid access token and a correct message. */
export interface JournaledSend extends CheckedMessage {
  readonly at: Date
  readonly mode: FcmMode
  /** Handed to a registered device. */
  readonly isDelivered: boolean
}

/** A mode, with its `Retry-After` header if it has one. */
export type Behaviour = FcmMode | { readonly mode: FcmMode; readonly retryAfter: string }

export interface FakeFcm {
  readonly baseUrl: string
  readonly tokenUri: string
  readonly serviceAccount: MadeServiceAccount
  /** A test may empty it. */
  readonly journal: JournaledSend[]
  /** All requests, whatever the response. */
  readonly requests: { readonly token: number; readonly send: number }
  /** Delivers messages for this push token to `deliver`, after the response as FCM does. A later call replaces it. */
  register(pushToken: string, deliver: Deliver, kind?: PushKind): void
  /** Makes the push token UNREGISTERED again. */
  unregister(pushToken: string, kind?: PushKind): void
  /** An app that can change the kind of its registration. */
  install(name: string, deliver: Deliver): PhoneApp
  /** Behaviour of the next sends, one each; then the mode applies again. */
  nextAnswers(queue: readonly Behaviour[]): void
  /** Behaviour of sends and token requests. A function decides per message. */
  setMode(mode: {
    readonly fcm?: Behaviour | ((message: CheckedMessage) => Behaviour)
    readonly token?: TokenMode
    /** Sends a minute to one address; more get 429. Default: no limit. */
    readonly mostPerMinute?: number
  }): void
  /** Refuses all access tokens issued so far with 401. */
  revokeAccessTokens(): void
  /** The first matching send, past or to come; rejects after `timeoutMs` (10 s). */
  waitForSend(
    predicate: (send: JournaledSend) => boolean,
    timeoutMs?: number,
  ): Promise<JournaledSend>
  /** Closes every connection, hanging ones too. */
  close(): Promise<void>
}

export interface FakeFcmOptions {
  readonly projectId?: string
  readonly keyPair?: KeyPair
  readonly port?: number
  /** Delay of each response. Default 0. */
  readonly latencyMs?: number
  /** PEM: serves https://localhost. */
  readonly tls?: { readonly key: Buffer; readonly cert: Buffer }
}

const MAX_REQUEST_BYTES = 64 * 1024

/** `port`: default any free one. Rejects if it is taken. */
export async function startFakeFcm(options: FakeFcmOptions = {}): Promise<FakeFcm> {
  const server = options.tls === undefined ? createServer() : createTlsServer(options.tls)
  const port = await listen(server, options.port)
  const baseUrl =
    options.tls === undefined ? `http://127.0.0.1:${port}` : `https://localhost:${port}`
  const tokenUri = `${baseUrl}/token`

  const serviceAccount = await makeServiceAccount({ ...options, tokenUri })
  const { clientEmail, projectId } = serviceAccount.account
  const issuer = createTokenIssuer({ clientEmail, tokenUri, publicKey: serviceAccount.publicKey })
  const sendPath = `/v1/projects/${projectId}/messages:send`

  const apps = createApps()
  const journal: JournaledSend[] = []
  const watchers = new Set<(send: JournaledSend) => void>()
  const requests = { token: 0, send: 0 }
  let queue: Behaviour[] = []
  let fcmMode: Behaviour | ((message: CheckedMessage) => Behaviour) = 'ok'
  let tokenMode: TokenMode = 'ok'
  let mostPerMinute = Number.POSITIVE_INFINITY

  server.on('request', (req, res) => {
    handle(req, res).catch(() => res.destroy()) // the client left while sending
  })

  async function handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const response = answerTo(req, await readText(req))
    if (options.latencyMs !== undefined) await wait(options.latencyMs)
    if (response === 'reset') res.socket?.resetAndDestroy()
    else if (response !== 'hang') reply(res, response)
  }

  function answerTo(req: IncomingMessage, text: string): FakeResponse | 'hang' | 'reset' {
    if (req.method === 'POST' && req.url === '/token') return answerToken(text)
    if (req.method === 'POST' && req.url?.endsWith('/messages:send')) return answerSend(req, text)
    return { status: 404, text: '<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>' }
  }

  function answerToken(form: string): FakeResponse | 'hang' {
    requests.token += 1
    switch (tokenMode) {
      case 'hang':
        return 'hang'
      case 'error':
        return { status: 500, text: '<html>backend error</html>' }
      case 'invalid_grant':
        return refusal(400, 'invalid_grant', 'Invalid JWT Signature.')
      case 'ok':
        return issuer.exchange(form)
    }
  }

  function answerSend(req: IncomingMessage, text: string): FakeResponse | 'hang' | 'reset' {
    requests.send += 1
    const bearer = /^Bearer (.+)$/.exec(req.headers.authorization ?? '')?.[1] ?? ''
    if (!issuer.isLive(bearer)) return UNAUTHENTICATED
    if (req.url !== sendPath) return NOT_FOUND
    const message = checkMessage(text)
    if ('complaint' in message) return message.complaint

    const address = { kind: message.pushKind, value: message.pushToken }
    const isOverQuota = apps.exceeds(address, mostPerMinute, Date.now())
    const behaviour = isOverQuota ? 'quota' : nextBehaviour(message)
    const { mode, retryAfter = null } =
      typeof behaviour === 'string' ? { mode: behaviour } : behaviour
    const deliver = apps.find(address)
    const isTaken = mode === 'ok' || mode === 'accept_then_reset'
    const isDelivered = isTaken && deliver !== undefined && !message.isValidateOnly
    record({ ...message, at: new Date(), mode, isDelivered })
    if (isDelivered) {
      const priority: Priority = message.android['priority'] === 'HIGH' ? 'high' : 'normal'
      const delivery = { priority, originalPriority: priority }
      setImmediate(deliver, dataOnPhone(message.data), delivery)
    }

    if (mode === 'hang') return 'hang'
    if (mode === 'accept_then_reset') return 'reset'
    const response = mode === 'ok' ? verdict(message, deliver !== undefined) : CANNED[mode]
    return retryAfter === null
      ? response
      : { ...response, headers: { ...response.headers, 'retry-after': retryAfter } }
  }

  function nextBehaviour(message: CheckedMessage): Behaviour {
    return queue.shift() ?? (typeof fcmMode === 'function' ? fcmMode(message) : fcmMode)
  }

  /** FCM's response to a correct message. A dry run to a made-up token gets a 400 that names it. */
  function verdict(message: CheckedMessage, isRegistered: boolean): FakeResponse {
    if (!isRegistered) return message.isValidateOnly ? INVALID_TOKEN : UNREGISTERED
    const id = message.isValidateOnly ? 'fake_message_id' : `0:${journal.length}`
    return { status: 200, json: { name: `projects/${projectId}/messages/${id}` } }
  }

  function record(send: JournaledSend): void {
    journal.push(send)
    for (const watch of watchers) watch(send)
  }

  return {
    baseUrl,
    tokenUri,
    serviceAccount,
    journal,
    requests,
    register: (value, deliver, kind = 'token') => apps.register({ kind, value }, deliver),
    unregister: (value, kind = 'token') => apps.unregister({ kind, value }),
    install: (name, deliver) => apps.install(name, deliver),
    nextAnswers(next) {
      queue = [...next]
    },
    setMode(mode) {
      fcmMode = mode.fcm ?? fcmMode
      tokenMode = mode.token ?? tokenMode
      mostPerMinute = mode.mostPerMinute ?? mostPerMinute
    },
    revokeAccessTokens: () => issuer.revokeAll(),

    waitForSend(predicate, timeoutMs = 10_000) {
      const past = journal.find(predicate)
      if (past !== undefined) return Promise.resolve(past)
      return new Promise((resolve, reject) => {
        const end = setTimeout(() => {
          watchers.delete(watch)
          reject(new Error(`no such send within ${timeoutMs} ms, ${journal.length} others`))
        }, timeoutMs)
        function watch(send: JournaledSend): void {
          if (!predicate(send)) return
          clearTimeout(end)
          watchers.delete(watch)
          resolve(send)
        }
        watchers.add(watch)
      })
    },

    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    },
  }
}

function reply(res: ServerResponse, { status, headers, json, text }: FakeResponse): void {
  const type = json === undefined ? 'text/html; charset=UTF-8' : 'application/json; charset=UTF-8'
  res.writeHead(status, { 'content-type': type, ...headers })
  res.end(json === undefined ? text : JSON.stringify(json))
}

async function readText(req: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let sizeBytes = 0
  for await (const chunk of req) {
    chunks.push(chunk)
    sizeBytes += chunk.length
    if (sizeBytes > MAX_REQUEST_BYTES) throw new Error('request too large')
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** Settings of a service that pushes to `fcm`, or to a proxy in front of it; its journal begins with the first command. */
export function pushSettings(fcm: Pick<FakeFcm, 'serviceAccount' | 'baseUrl'>) {
  return {
    FIREBASE_SERVICE_ACCOUNT_JSON: fcm.serviceAccount.json,
    FCM_BASE_URL: fcm.baseUrl,
    FCM_SELF_TEST: 'false',
  }
}
