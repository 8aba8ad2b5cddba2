/** The service without its metrics, for the "off" side of bench/telemetry.ts: same process, nothing observed. */
import { runProcess } from '../src/app/process.ts'
import { Counter } from '../src/telemetry/metrics/counter.ts'
import { Histogram } from '../src/telemetry/metrics/histogram.ts'
import type { Metrics } from '../src/telemetry/metrics/metrics.ts'

function noMetrics(): Metrics {
  const counter = new Counter()
  const histogram = new Histogram([])
  const route = { ended: () => {} }
  return {
    route: () => route,
    fcmDispatchLatency: () => histogram,
    apkDownload: () => counter,
    heartbeatsIngested: counter,
    heartbeatsDedupHits: counter,
    push: { delay: histogram, delayUnknown: counter, deprioritized: counter },
    render: () => ({ text: '', series: 0 }),
    close: () => {},
  }
}

runProcess({ createMetrics: noMetrics })
