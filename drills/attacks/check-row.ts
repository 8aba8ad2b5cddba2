/** A row that is a check instead of a load: each question has one right answer. */
import { createSend, type HttpRequest, type Send } from '../../testkit/http/client.ts'
import { startReplica } from '../../testkit/service.ts'
import { serviceSettings } from '../../testkit/service-settings.ts'
import type { Figure } from '../drill.ts'
import { type Criterion, figureOf } from './criterion.ts'
import type { Environment } from './environment.ts'
import { LinesAccount } from './lines-account.ts'

export interface CheckRow {
  readonly row: number
  readonly title: string
  readonly run: (place: Environment) => Promise<readonly Criterion[]>
}

export interface Checked {
  readonly send: Send
  readonly lines: LinesAccount
}

export async function runCheckRow(row: CheckRow, place: Environment): Promise<Figure> {
  return figureOf(`row ${row.row}, ${row.title}`, await row.run(place))
}

/** One criterion for many cases; `odd` lists those that fail. */
export function allAre(bar: string, cases: number, odd: readonly string[]): Criterion {
  const shown = odd.slice(0, 10).join('; ')
  return {
    bar,
    measured: `${bar}: ${odd.length === 0 ? `${cases} of ${cases}` : `not so: ${shown}`}`,
    isHeld: odd.length === 0,
  }
}

/** Starts a service for as long as `work` takes. */
export async function onService<T>(
  place: Environment,
  settings: Readonly<Record<string, string>>,
  work: (checked: Checked) => Promise<T>,
): Promise<T> {
  const lines = new LinesAccount()
  const service = startReplica({
    settings: { ...serviceSettings(place.databaseUrl, place.dataDir), ...settings },
    onLine: lines.take,
  })
  try {
    await service.ready
    return await work({ send: createSend(await service.origin), lines })
  } finally {
    await service.stop()
  }
}

/** Sends each request and returns those that fail `isRight`, with their status. */
export async function oddAnswers(
  send: Send,
  requests: readonly HttpRequest[],
  isRight: (status: number, request: HttpRequest) => boolean,
): Promise<readonly string[]> {
  const odd: string[] = []
  for (const request of requests) {
    const { status } = await send(request)
    if (!isRight(status, request)) odd.push(`${request.method} ${request.path} ${status}`)
  }
  return odd
}
