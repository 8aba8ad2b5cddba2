/** Holds the metrics of the process and renders them. A cell is one set of label values; cells are never removed. */
import { Counter } from './counter.ts'
import { Histogram } from './histogram.ts'
import {
  familyHead,
  type Labels,
  type MetricType,
  sampleValue,
  seriesPrefix,
} from './prometheus.ts'

export interface Exposition {
  /** Text format 0.0.4. */
  readonly text: string
  /** Samples in it. */
  readonly series: number
}

interface Sample {
  readonly prefix: string
  value(): number
}

interface Family {
  readonly head: string
  readonly samples: Sample[]
  readonly histograms: HistogramCell[]
}

interface HistogramCell {
  readonly histogram: Histogram
  /** One per bucket, +Inf last. */
  readonly buckets: readonly string[]
  readonly sum: string
  readonly count: string
}

export class Registry {
  readonly #families: Family[] = []

  /** Adds a metric without cells. Call the function once for each set of label values. */
  counter(name: string, help: string): (labels: Labels) => Counter {
    const family = this.#family(name, help, 'counter')
    return (labels) => {
      const counter = new Counter()
      family.samples.push({ prefix: seriesPrefix(name, labels), value: () => counter.value })
      return counter
    }
  }

  /** Like counter(); `bounds` are inclusive and ascending, +Inf is added. */
  histogram(name: string, help: string, bounds: readonly number[]): (labels: Labels) => Histogram {
    const family = this.#family(name, help, 'histogram')
    return (labels) => {
      const histogram = new Histogram(bounds)
      family.histograms.push({
        histogram,
        buckets: [...bounds, Number.POSITIVE_INFINITY].map((bound) =>
          seriesPrefix(`${name}_bucket`, { ...labels, le: sampleValue(bound) }),
        ),
        sum: seriesPrefix(`${name}_sum`, labels),
        count: seriesPrefix(`${name}_count`, labels),
      })
      return histogram
    }
  }

  /** Adds a metric that is read at each render. */
  read(
    name: string,
    help: string,
    type: 'counter' | 'gauge',
    cells: readonly { readonly labels: Labels; readonly value: () => number }[],
  ): void {
    const family = this.#family(name, help, type)
    for (const { labels, value } of cells) {
      family.samples.push({ prefix: seriesPrefix(name, labels), value })
    }
  }

  render(): Exposition {
    let text = ''
    let series = 0
    for (const family of this.#families) {
      text += family.head
      for (const sample of family.samples) {
        text += `${sample.prefix}${sampleValue(sample.value())}\n`
      }
      series += family.samples.length
      for (const cell of family.histograms) {
        const cumulated = cell.histogram.cumulated()
        cell.buckets.forEach((prefix, bucket) => {
          text += `${prefix}${cumulated[bucket]}\n`
        })
        text += `${cell.sum}${sampleValue(cell.histogram.sum)}\n${cell.count}${cumulated.at(-1)}\n`
        series += cell.buckets.length + 2
      }
    }
    return { text, series }
  }

  #family(name: string, help: string, type: MetricType): Family {
    const family = { head: familyHead(name, help, type), samples: [], histograms: [] }
    this.#families.push(family)
    return family
  }
}
