/**
 * Reads the builds that a former release has stored without reading them: once each, in the background, from their stored
 * bytes. What cannot be read is marked and stays as it is.
 */
import { type PackageVerdict, readApkPackage } from '../../apk/package/read-package.ts'
import type { ApkStore, Build } from '../../db/apks/apks.ts'
import { toApkFacts } from '../../domain/apk-facts.ts'
import type { ApkSource } from '../../domain/apk-source.ts'
import { AppError } from '../../domain/errors.ts'
import { BACKGROUND, type Log } from '../../telemetry/log/log.ts'

export interface StoredBuildsDeps {
  readonly apks: Pick<ApkStore, 'nextUnread' | 'describe' | 'markUnreadable' | 'readChunks'>
  readonly log: Log
}

/** Reads every build that nobody has read. Rejects where the database fails: the rest is read another time. */
export function storedBuilds({
  apks,
  log,
}: StoredBuildsDeps): (signal: AbortSignal) => Promise<void> {
  return async (signal) => {
    while (!signal.aborted) {
      const build = await apks.nextUnread()
      if (build === undefined) return
      await readBuild(build, signal)
    }
  }

  async function readBuild(build: Build, signal: AbortSignal): Promise<void> {
    const verdict = await readApkPackage(storedSource(build), { signal }).catch(toVerdict)
    if (verdict.kind === 'invalid') return await mark(build, verdict.reason)
    const { facts, signing } = verdict
    if (signing.kind === 'broken') return await mark(build, signing.reason)
    const replaced = signing.kind === 'verified' ? signing.replaced : []
    const read = { facts: toApkFacts({ ...facts, signing }), replaced }
    const isFirst = await apks.describe(build.buildId, read)
    if (isFirst && facts.versionCode !== build.versionCode) {
      report(build, `the APK has version code ${facts.versionCode}`)
    }
  }

  async function mark(build: Build, reason: string): Promise<void> {
    if (await apks.markUnreadable(build.buildId, reason)) report(build, reason)
  }

  function report({ buildId, versionCode }: Build, reason: string): void {
    const fields = { build_id: buildId, version_code: versionCode, reason }
    log.write({ event: 'apk.read.fail', fields }, BACKGROUND)
  }

  function storedSource(build: Build): ApkSource {
    return {
      sizeBytes: build.sizeBytes,
      async read(buffer, offset) {
        let filled = 0
        const last = Math.min(offset + buffer.length, build.sizeBytes) - 1
        for await (const piece of apks.readChunks(build, offset, last)) {
          filled += piece.copy(buffer, filled)
        }
        return filled
      },
    }
  }
}

/** Damaged bytes are a verdict; a database that is away is none. */
function toVerdict(error: unknown): PackageVerdict {
  if (error instanceof AppError || !(error instanceof Error) || error.name === 'AbortError')
    throw error
  return { kind: 'invalid', reason: error.message }
}
