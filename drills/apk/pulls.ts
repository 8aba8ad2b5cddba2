/** Phones that fetch the latest APK again and again; each download is checked. */
import type { Device } from '../../sim/device/device.ts'

export interface PullReport {
  readonly pulls: number
  /** SHA-256 of the downloads, hex. */
  readonly sums: ReadonlySet<string>
  /** Downloads that were incomplete or differed from their headers. */
  readonly faults: readonly string[]
}

export interface Pulling {
  /** Resolves after `count` further pulls, of all phones together. */
  pulled(count: number): Promise<void>
  stop(): Promise<PullReport>
}

export function startPulling(devices: readonly Device[]): Pulling {
  const sums = new Set<string>()
  const faults: string[] = []
  const waiting = new Set<() => void>()
  let pulls = 0
  let isOver = false

  async function pull(device: Device): Promise<void> {
    const { isIntact, status, sha256, sizeBytes, buildId } = await device.fetchApk()
    if (isIntact) sums.add(sha256)
    else faults.push(`answer ${status}, ${sizeBytes} bytes of ${buildId}`)
  }

  const all = devices.map(async (device) => {
    while (!isOver) {
      await pull(device).catch((error: unknown) => faults.push(String(error)))
      pulls += 1
      for (const wake of waiting) wake()
    }
  })

  return {
    pulled(count) {
      const enough = pulls + count
      return new Promise((resolve) => {
        const look = () => {
          if (pulls < enough) return
          waiting.delete(look)
          resolve()
        }
        waiting.add(look)
        look()
      })
    },
    async stop() {
      isOver = true
      await Promise.all(all)
      return { pulls, sums, faults }
    },
  }
}
