/** `warnings` of a build: it is accepted, but will not do what its publisher may expect. */

import type { PackageVerdict } from '../../apk/package/read-package.ts'
import type { ApkStore, Build } from '../../db/apks/apks.ts'
import { ANDROID_11 } from '../../domain/apk-facts.ts'
import { ANDROID_BUILD_TYPES } from '../../domain/ids.ts'
import { nearest } from '../../lib/nearest.ts'

export interface WarningDeps {
  readonly apks: Pick<ApkStore, 'latest'>
  readonly defaultPackage: string | undefined
}

export async function warningsOf(
  { apks, defaultPackage }: WarningDeps,
  build: Build,
): Promise<readonly string[]> {
  const warnings: string[] = []
  const { facts, versionCode, buildId, buildType } = build
  if (facts?.signing === 'v1' && facts.targetSdk >= ANDROID_11) {
    warnings.push(
      `Android 11 and later refuse this APK: it targets API level ${facts.targetSdk} and has no signature of scheme v2 or v3.`,
    )
  }
  const meant = nearest(buildType, ANDROID_BUILD_TYPES)
  if (meant !== undefined && !isFlavor(buildType, meant)) {
    warnings.push(
      `Only phones that ask for build type ${buildType} get this build. If ${meant} is meant, publish the APK under another id.`,
    )
  }
  if (facts?.signing === 'none') warnings.push('No phone installs this APK: it is not signed.')
  const latest = await apks.latest(buildType, facts?.packageName)
  if (latest !== undefined && latest.buildId !== buildId && latest.versionCode >= versionCode) {
    const verb = build.state === 'staged' ? 'will not be' : 'is not'
    warnings.push(
      `This ${verb} the latest build: ${latest.buildId} has version code ${latest.versionCode}, this one ${versionCode}.`,
    )
  }
  const unread = await apks.latest(buildType, undefined, defaultPackage)
  if (unread?.facts === null && unread.buildId !== buildId && unread.versionCode >= versionCode) {
    warnings.push(
      `Phones that name no package get ${unread.buildId}, which could not be read, for its version code ${unread.versionCode}. Withdraw it.`,
    )
  }
  return warnings
}

/** `debug`, `debugMinified` and `qaDebug` are written as they are meant. */
function isFlavor(buildType: string, word: string): boolean {
  return buildType.startsWith(word) || buildType.toLowerCase().endsWith(word)
}

/** Warnings that need the APK's bytes; only an upload returns them. */
export function packageWarnings(verdict: PackageVerdict): readonly string[] {
  if (verdict.kind === 'invalid') return []
  const { facts, hasMappedTable } = verdict
  const warnings: string[] = []
  if (facts.isTestOnly) {
    warnings.push(
      "Phones refuse this APK with INSTALL_FAILED_TEST_ONLY unless they install it with -t: it has android:testOnly, as Android Studio's Run button sets it. Publish what Gradle's assembleDebug or assembleRelease builds.",
    )
  }
  if (!hasMappedTable && facts.targetSdk >= ANDROID_11) {
    warnings.push(
      `Android 11 and later refuse this APK: it targets API level ${facts.targetSdk}, and its resources.arsc is compressed or not at a multiple of 4 bytes. Store it uncompressed, run zipalign 4, then sign.`,
    )
  }
  return warnings
}
