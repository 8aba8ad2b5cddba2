/** Writes a compiled AndroidManifest.xml: ResXMLTree of AOSP's ResourceTypes.h. Development code. */
import { chunk, type Encoding, stringPool, u16, u32 } from './chunks.ts'

/** What a manifest says; what is undefined is not in it. A number with `reference` stands for a resource. */
export interface ManifestOptions {
  readonly packageName?: string | undefined
  readonly versionCode?: number | Reference | undefined
  readonly versionCodeMajor?: number | undefined
  readonly versionName?: string | Reference | undefined
  readonly minSdk?: number | string | undefined
  readonly targetSdk?: number | string | undefined
  readonly isDebuggable?: boolean | Reference | undefined
  readonly isTestOnly?: boolean | Reference | undefined
  readonly split?: string | undefined
  readonly isSplitRequired?: boolean | undefined
  readonly requiredSplitTypes?: string | undefined
  readonly targetSandbox?: number | undefined
  readonly encoding?: Encoding | undefined
  /** As many more elements within `application`. */
  readonly activities?: number | undefined
}

export interface Reference {
  readonly reference: number
}

const ANDROID = 'http://schemas.android.com/apk/res/android'
const NONE = 0xffffffff
const TYPE = { reference: 0x01, string: 0x03, decimal: 0x10, boolean: 0x12 } as const
/** android.R.attr; a document's strings begin with the names of these, in the order of the ids. */
const ATTRIBUTES = [
  ['name', 0x01010003],
  ['debuggable', 0x0101000f],
  ['minSdkVersion', 0x0101020c],
  ['versionCode', 0x0101021b],
  ['versionName', 0x0101021c],
  ['targetSdkVersion', 0x01010270],
  ['targetSandboxVersion', 0x0101054c],
  ['versionCodeMajor', 0x01010576],
  ['isSplitRequired', 0x01010591],
] as const
/** Of these only what a manifest has: all others keep their bytes, whose digests the documentation shows. */
const RARE_ATTRIBUTES = [
  ['testOnly', 0x01010272, 'isTestOnly'],
  ['requiredSplitTypes', 0x0101064e, 'requiredSplitTypes'],
] as const

type Value = string | number | boolean | Reference
type Attributes = Readonly<Record<string, Value | undefined>>

export function compileManifest(options: ManifestOptions = {}): Buffer {
  const rare = RARE_ATTRIBUTES.filter(([, , option]) => options[option] !== undefined)
  const known = [...ATTRIBUTES, ...rare].sort(([, a], [, b]) => a - b)
  const strings: string[] = known.map(([name]) => name)
  const indexOf = (text: string) => {
    const at = strings.indexOf(text)
    return at === -1 ? strings.push(text) - 1 : at
  }
  const element = (name: string, attributes: Attributes, inner: readonly Buffer[] = []) => {
    const pairs = Object.entries(attributes).filter(([, value]) => value !== undefined)
    const written = pairs.map(([key, value]) => attribute(key, value as Value, indexOf))
    const head = [
      u32(NONE),
      u32(indexOf(name)),
      u16(20),
      u16(20),
      u16(pairs.length),
      u16(0),
      u32(0),
    ]
    return [
      node(0x0102, [...head, ...written]),
      ...inner,
      node(0x0103, [u32(NONE), u32(indexOf(name))]),
    ]
  }
  const namespace = [u32(indexOf('android')), u32(indexOf(ANDROID))]
  const activities = Array.from({ length: options.activities ?? 0 }, (_, n) =>
    element('activity', { 'android:name': `.Activity${n}` }),
  )
  const nodes = [
    node(0x0100, namespace),
    ...element(
      'manifest',
      {
        'android:versionCode': options.versionCode,
        'android:versionName': options.versionName,
        'android:targetSandboxVersion': options.targetSandbox,
        'android:versionCodeMajor': options.versionCodeMajor,
        'android:isSplitRequired': options.isSplitRequired,
        'android:requiredSplitTypes': options.requiredSplitTypes,
        package: options.packageName ?? 'com.example.app',
        split: options.split,
      },
      [
        ...(options.minSdk === undefined && options.targetSdk === undefined
          ? []
          : element('uses-sdk', {
              'android:minSdkVersion': options.minSdk,
              'android:targetSdkVersion': options.targetSdk,
            })),
        ...element(
          'application',
          { 'android:debuggable': options.isDebuggable, 'android:testOnly': options.isTestOnly },
          activities.flat(),
        ),
      ],
    ),
    node(0x0101, namespace),
  ]
  const ids = chunk(
    0x0180,
    8,
    known.map(([, id]) => u32(id)),
  )
  return chunk(0x0003, 8, [stringPool(strings, options.encoding), ids, ...nodes])
}

function node(type: number, body: readonly Buffer[]): Buffer {
  return chunk(type, 16, [u32(1), u32(NONE), ...body])
}

function attribute(key: string, value: Value, indexOf: (text: string) => number): Buffer {
  const isAndroid = key.startsWith('android:')
  const name = isAndroid ? key.slice('android:'.length) : key
  const [type, data, raw] = typed(value, indexOf)
  const namespace = isAndroid ? indexOf(ANDROID) : NONE
  return Buffer.concat([
    u32(namespace),
    u32(indexOf(name)),
    u32(raw),
    u16(8),
    Buffer.from([0, type]),
    u32(data),
  ])
}

function typed(value: Value, indexOf: (text: string) => number) {
  if (typeof value === 'string') return [TYPE.string, indexOf(value), indexOf(value)] as const
  if (typeof value === 'number') return [TYPE.decimal, value, NONE] as const
  if (typeof value === 'boolean') return [TYPE.boolean, value ? NONE : 0, NONE] as const
  return [TYPE.reference, value.reference, NONE] as const
}
