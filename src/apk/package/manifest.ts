/**
 * What AndroidManifest.xml says of a package. Source: the `manifest`, `uses-sdk` and `application` elements as AOSP's
 * ParsingPackageUtils and PackageParser read them; attributes are identified by their resource ids (android.R.attr).
 */
import { MAX_PACKAGE_NAME_LENGTH, PACKAGE_NAME } from '../../domain/apk-facts.ts'
import { readElements, type TypedValue, VALUE, type XmlAttribute } from './binary-xml.ts'
import type { Resolve } from './resources.ts'
import { invalid, PackageFault, quoted } from './source.ts'

export interface PackageFacts {
  readonly packageName: string
  /** Android's longVersionCode, 0 to 2^53 - 1; 0 where the manifest has none. */
  readonly versionCode: number
  /** At most 255 characters, well-formed and without NUL; null where the manifest has none. */
  readonly versionName: string | null
  /** API level; 1 where the manifest has none. */
  readonly minSdk: number
  /** API level; minSdk where the manifest has none. */
  readonly targetSdk: number
  readonly isDebuggable: boolean
  /** Phones install it only with `adb install -t`. */
  readonly isTestOnly: boolean
  /** android:targetSandboxVersion; from 2 on Android asks for a signature of scheme v2 or later. */
  readonly targetSandbox: number
}

/** android.R.attr */
const ATTRIBUTE = {
  debuggable: 0x0101000f,
  minSdkVersion: 0x0101020c,
  versionCode: 0x0101021b,
  versionName: 0x0101021c,
  targetSdkVersion: 0x01010270,
  testOnly: 0x01010272,
  targetSandboxVersion: 0x0101054c,
  versionCodeMajor: 0x01010576,
  isSplitRequired: 0x01010591,
  requiredSplitTypes: 0x0101064e,
} as const

const MAX_VERSION_NAME_LENGTH = 255
/** Android's placeholder for the API level of a preview: Build.VERSION_CODES.CUR_DEVELOPMENT. */
const PREVIEW_SDK = 10_000

interface Found {
  manifest: readonly XmlAttribute[]
  usesSdk: (readonly XmlAttribute[])[]
  application: readonly XmlAttribute[] | undefined
}

/** Phones read these elements whatever their namespace, apksigner only without one. */
const READ: ReadonlySet<string> = new Set(['manifest', 'uses-sdk', 'application'])

/** More `uses-sdk` elements than any manifest has. */
const MAX_USES_SDK = 16

/** `xml`: the entry's content. Throws `invalid`. */
export async function readManifest(xml: Buffer, resolve: Resolve): Promise<PackageFacts> {
  const { manifest, usesSdk, application } = await findElements(xml)
  const name = manifest.find((one) => one.name === 'package' && !one.hasNamespace)
  const packageName = name?.type === VALUE.string ? name.text() : ''
  if (packageName.length > MAX_PACKAGE_NAME_LENGTH || !PACKAGE_NAME.test(packageName)) {
    throw invalid(`its package name ${quoted(packageName)} is none that Android takes`)
  }
  await refuseSplits(manifest, resolve)
  const levels = usesSdk.map((one) => one.find(isAttribute('minSdkVersion'))).filter(isFound)
  const minSdk = levels.reduce((most, one) => Math.max(most, constantLevel(one)), 1)
  const target = usesSdk.map((one) => one.find(isAttribute('targetSdkVersion'))).findLast(isFound)
  const isSet = async (one: XmlAttribute | undefined) =>
    one !== undefined && toBoolean(await resolved(one, resolve))
  const sandbox = manifest.find(isAttribute('targetSandboxVersion'))
  return {
    packageName,
    versionCode: await readVersionCode(manifest, resolve),
    versionName: await readVersionName(manifest, resolve),
    minSdk,
    targetSdk: target === undefined ? minSdk : await readLevel(target, resolve),
    isDebuggable: await isSet(application?.find(isAttribute('debuggable'))),
    targetSandbox: sandbox === undefined ? 1 : toInteger(await resolved(sandbox, resolve)),
    // Last, and without faults: a warning must not refuse an APK, nor use up what may be read of the resources.
    isTestOnly: await isSet(application?.find(isAttribute('testOnly'))).catch(falseIfFault),
  }
}

async function findElements(xml: Buffer): Promise<Found> {
  const found: Found = { manifest: [], usesSdk: [], application: undefined }
  let isRoot = true
  for await (const { name, hasNamespace, depth, attributes } of readElements(xml)) {
    if (hasNamespace && READ.has(name)) {
      throw invalid(`the element ${quoted(name)} of AndroidManifest.xml has a namespace`)
    }
    if (isRoot !== (depth === 1)) throw invalid('AndroidManifest.xml has more than one root')
    if (isRoot) {
      if (name !== 'manifest') {
        throw invalid(`AndroidManifest.xml begins with ${quoted(name)}, not with "manifest"`)
      }
      found.manifest = attributes()
      isRoot = false
    } else if (depth === 2 && name === 'uses-sdk') {
      if (found.usesSdk.length === MAX_USES_SDK) throw invalid('it has too many "uses-sdk"')
      found.usesSdk.push(attributes())
    } else if (depth === 2 && name === 'application') {
      found.application ??= attributes()
    }
  }
  if (isRoot) throw invalid('AndroidManifest.xml is empty')
  return found
}

async function refuseSplits(manifest: readonly XmlAttribute[], resolve: Resolve): Promise<void> {
  const split = manifest.find((one) => one.name === 'split' && !one.hasNamespace)
  if (split?.type === VALUE.string && split.text() !== '') {
    throw invalid(`it is the split ${quoted(split.text())} of an app, without its base`)
  }
  const isRequired = manifest.find(isAttribute('isSplitRequired'))
  const types = manifest.find(isAttribute('requiredSplitTypes')) // read by Android 13 and later
  const hasTypes = types !== undefined && (types.type !== VALUE.string || types.text() !== '')
  if (hasTypes || (isRequired && toBoolean(await resolved(isRequired, resolve)))) {
    throw invalid('it is the base of an app that needs its splits: build a universal APK')
  }
}

async function readVersionCode(
  manifest: readonly XmlAttribute[],
  resolve: Resolve,
): Promise<number> {
  const low = manifest.find(isAttribute('versionCode'))
  const high = manifest.find(isAttribute('versionCodeMajor'))
  const [lowBits, highBits] = [
    low === undefined ? 0 : toInteger(await resolved(low, resolve)),
    high === undefined ? 0 : toInteger(await resolved(high, resolve)),
  ]
  const versionCode = highBits * 2 ** 32 + (lowBits >>> 0)
  if (lowBits < 0 && high === undefined) throw invalid(`its version code ${lowBits} is negative`)
  if (versionCode < 0 || !Number.isSafeInteger(versionCode)) {
    throw invalid(`its version code is not from 0 to ${Number.MAX_SAFE_INTEGER}`)
  }
  return versionCode
}

async function readVersionName(
  manifest: readonly XmlAttribute[],
  resolve: Resolve,
): Promise<string | null> {
  const attribute = manifest.find(isAttribute('versionName'))
  if (attribute === undefined) return null
  const value = await resolved(attribute, resolve)
  if (value?.type !== VALUE.string) return null // as Android takes it
  const text = value.text()
  if (text.length > MAX_VERSION_NAME_LENGTH) {
    throw invalid(`its version name has more than ${MAX_VERSION_NAME_LENGTH} characters`)
  }
  return Buffer.from(text).toString().replaceAll('\0', '\ufffd') // lone surrogates too
}

/** References are not followed: apksigner, which picks the signature schemes by it, refuses them as well. */
function constantLevel(attribute: XmlAttribute): number {
  if (attribute.type === VALUE.reference) {
    throw invalid('its minSdkVersion refers to a resource: write the number')
  }
  if (attribute.type > VALUE.hexadecimal) throw invalid('its minSdkVersion is no whole number')
  return toLevel(attribute)
}

async function readLevel(attribute: XmlAttribute, resolve: Resolve): Promise<number> {
  return toLevel(await resolved(attribute, resolve))
}

function toLevel(value: TypedValue | undefined): number {
  if (value?.type === VALUE.string) {
    throw invalid(
      `it is built for the preview ${quoted(value.text())} of Android, which no phone runs`,
    )
  }
  const level = toInteger(value)
  if (level < 0 || level >= PREVIEW_SDK) throw invalid(`${level} is no API level of Android`)
  return level
}

async function resolved(
  attribute: XmlAttribute,
  resolve: Resolve,
): Promise<TypedValue | undefined> {
  return attribute.type === VALUE.reference ? await resolve(attribute.data) : attribute
}

function toInteger(value: TypedValue | undefined): number {
  if (value === undefined || value.type < VALUE.firstInt || value.type > VALUE.lastInt) {
    throw invalid('AndroidManifest.xml has a version or an API level that is no whole number')
  }
  return value.data | 0
}

function toBoolean(value: TypedValue | undefined): boolean {
  if (value?.type === VALUE.string) return ['1', 'true', 'TRUE'].includes(value.text())
  return value !== undefined && value.type >= VALUE.firstInt && value.data !== 0
}

function falseIfFault(error: unknown): false {
  if (error instanceof PackageFault) return false
  throw error
}

function isAttribute(name: keyof typeof ATTRIBUTE) {
  return ({ resourceId }: XmlAttribute) => resourceId === ATTRIBUTE[name]
}

function isFound(attribute: XmlAttribute | undefined): attribute is XmlAttribute {
  return attribute !== undefined
}
