/** The end of the demo: one command's story by its id, and a scrape of /metrics. */
import { asJsonObject, bodyOf, type JsonObject, textOf } from '../../testkit/http/client.ts'
import { expect, expectStatus, type Stage } from './context.ts'

/** The metrics that the demo changed; of histograms only sum and count. */
const INTERESTING =
  /^(http_requests_total|http_request_latency_ms_(sum|count)\{route="\/v1\/heartbeat"|heartbeats_|fcm_dispatch_latency_ms_(sum|count)|apk_download_total|\w*log_lines_dropped)/

/** Prints every log line with the id, then the admin's view of it. */
export async function tellCommand(stage: Stage, requestId: string): Promise<void> {
  const { screen, log, recorder, origin, adminToken } = stage
  screen.step(`6 one id tells the whole story: grep ${requestId}`)
  for (const line of log.about(requestId)) screen.line(line)
  screen.note('and from the database, whichever replica wrote it:')
  const request = {
    method: 'GET',
    path: `/admin/commands/${requestId}`,
    headers: { authorization: `Bearer ${adminToken}` },
  } as const
  const response = await recorder.send(request)
  recorder.take()
  screen.request('admin', origin, request)
  expectStatus(response, 200, 'the command can be read')
  const story = bodyOf(response)
  const verdict = asJsonObject(story['verdict']) ?? {}
  screen.text(`      status   ${textOf(story, 'status')}`)
  for (const event of eventsOf(story)) {
    const at = textOf(event, 'at').slice(11, 23)
    const detail = JSON.stringify(event['detail'] ?? {})
    const code = String(event['code'] ?? '').padEnd(12)
    screen.text(`      timeline ${at} ${textOf(event, 'stage').padEnd(14)} ${code} ${detail}`)
  }
  screen.text(`      verdict  ${textOf(verdict, 'code')}: ${textOf(verdict, 'detail')}`)
  expect(textOf(verdict, 'code') === 'completed', 'the verdict is completed')
}

/** Compares the scrape with what the phones counted. */
export async function tellMetrics(stage: Stage): Promise<void> {
  const { screen, recorder, origin, adminToken, fleet } = stage
  screen.step('7 what Prometheus sees')
  const request = {
    method: 'GET',
    path: '/metrics',
    headers: { authorization: `Bearer ${adminToken}` },
  } as const
  const response = await recorder.send(request)
  screen.request('admin', origin, request)
  expectStatus(response, 200, '/metrics answers')
  const samples = response.bytes
    .toString('utf8')
    .split('\n')
    .filter((line) => INTERESTING.test(line))
  for (const sample of samples) if (!/\{.* 0$/.test(sample)) screen.text(`      ${sample}`)

  const { counts } = fleet.report()
  const sampleOf = (series: string) =>
    Number(
      samples
        .find((sample) => sample.startsWith(`${series} `))
        ?.split(' ')
        .at(-1) ?? 0,
    )
  const heartbeats = sampleOf('heartbeats_ingested_total') + sampleOf('heartbeats_dedup_hits_total')
  expect(heartbeats === counts.heartbeatsAccepted, 'the counters agree with the heartbeats sent')
  const pushes = sampleOf('fcm_dispatch_latency_ms_count{action="launch_app"}')
  expect(pushes === counts.commandsByPush, 'the histogram agrees with the pushes')
}

function eventsOf(story: JsonObject): readonly JsonObject[] {
  const { timeline } = story
  return (Array.isArray(timeline) ? timeline : []).map((event) => asJsonObject(event) ?? {})
}
