/** Version codes of the apps on a phone, as its heartbeat reports them: `app_versions.{package}.version_code`. */
import { MAX_PACKAGE_NAME_LENGTH, PACKAGE_NAME } from './apk-facts.ts'

/** By package. */
export type AppVersions = Readonly<Record<string, number>>

/** Packages that a device keeps, the first in byte order. */
export const MAX_APP_VERSIONS = 16
/** Packages that a heartbeat may name; of more, none is read. */
export const MAX_REPORTED_APPS = 128

export function isPackageName(name: string): boolean {
  return name.length <= MAX_PACKAGE_NAME_LENGTH && PACKAGE_NAME.test(name)
}
