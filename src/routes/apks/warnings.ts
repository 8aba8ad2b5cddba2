/** `warnings` of a build: it is accepted, but will not do what its publisher may expect. */

import type { ApkStore, Build } from '../../db/apks/apks.ts'
import { TARGET_THAT_NEEDS_V2 } from '../../domain/apk-facts.ts'

export interface WarningDeps {
  readonly apks: Pick<ApkStore, 'latest'>
  readonly defaultPackage: string | undefined
}

export async function warningsOf(
  { apks, defaultPackage }: WarningDeps,
  build: Build,
): Promise<readonly string[]> {
  const warnings: string[] = []
  const { facts, versionCode, buildId } = build
  if (facts?.signing === 'v1' && facts.targetSdk >= TARGET_THAT_NEEDS_V2) {
    warnings.push(
      `Android 11 and later refuse this APK: it targets API level ${facts.targetSdk} and has no signature of scheme v2 or v3.`,
    )
  }
  if (facts?.signing === 'none') warnings.push('No phone installs this APK: it is not signed.')
  const latest = await apks.latest(build.buildType, facts?.packageName)
  if (latest !== undefined && latest.buildId !== buildId && latest.versionCode >= versionCode) {
    const verb = build.state === 'staged' ? 'will not be' : 'is not'
    warnings.push(
      `This ${verb} the latest build: ${latest.buildId} has version code ${latest.versionCode}, this one ${versionCode}.`,
    )
  }
  const unread = await apks.latest(build.buildType, undefined, defaultPackage)
  if (unread?.facts === null && unread.buildId !== buildId && unread.versionCode >= versionCode) {
    warnings.push(
      `Phones that name no package get ${unread.buildId}, which could not be read, for its version code ${unread.versionCode}. Withdraw it.`,
    )
  }
  return warnings
}
