/**
 * Reading packages, against Debian's aapt and apksigner: every variant, and the real APKs of TEST_APK_DIR as they are and
 * re-signed. And what neither tool says: phones refuse some that both accept.
 */

import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { compileManifest } from '../../sim/apk/manifest.ts'
import { askAapt, missingTools, startApkSigner } from '../../sim/apk/reference-tools.ts'
import { compileResources } from '../../sim/apk/resources.ts'
import type { SigningKey } from '../../sim/apk/signing-key.ts'
import { createVariantKeys, type VariantKeys } from '../../sim/apk/variant.ts'
import { makeVariants } from '../../sim/apk/variants.ts'
import { makeZip } from '../../sim/apk/zip.ts'
import { type PackageVerdict, readApkPackage } from '../../src/apk/package/read-package.ts'
import { ANDROID_11 } from '../../src/domain/apk-facts.ts'
import { packageWarnings } from '../../src/routes/apks/warnings.ts'
import { memorySource } from '../../testkit/memory-source.ts'
import { tempDirectory } from '../helpers/directory.ts'

const missing = missingTools()
const skip = missing.length > 0 && `needs ${missing.join(', ')}`

/** What both tools take and we refuse, on purpose: phones refuse it too. */
const REFUSED_ON_PURPOSE: ReadonlySet<string> = new Set([
  'a string for an API level',
  'no package name',
])
/** apksigner 31 overlooks what its verifier of v3 finds wrong with all signers together; phones do not. */
const STRICTER: ReadonlySet<string> = new Set([
  'v3 by two, with a gap',
  'v3 by two, overlapping',
  'v3 that ends',
  'v3 that begins late',
])
/** Java has no such algorithm under the name that apksigner asks for. */
const NOT_JUDGED = /NoSuchAlgorithmException: SHA\d+withRSA\/PSS/
/** Android 11 refuses it, as apksigner does; here it is a warning. */
const WARNED = /requires a minimum of signature scheme v2/

t.test('no disagreement with aapt and apksigner', { skip, timeout: 300_000 }, async (t) => {
  const dir = tempDirectory(t)
  const keys = createVariantKeys()
  const real = realVariants(dir, keys)
  const variants = [...makeVariants(keys), ...real]
  t.ok(variants.length >= 50, `${variants.length} variants`)
  const apksigner = startApkSigner()
  t.teardown(() => apksigner.close())
  for (const { name, bytes } of real) {
    t.same(packageWarnings(await readApkPackage(memorySource(bytes))), [], `warnings of ${name}`)
  }
  for (const { name, bytes } of variants) {
    const path = join(dir, 'app.apk')
    writeFileSync(path, bytes)
    const verdict = await readApkPackage(memorySource(bytes))
    const aapt = askAapt(path)
    const signer = await apksigner.verify(path)
    const ours = summary(verdict)
    t.comment(`${name}: ${JSON.stringify(ours)}`)
    if (verdict.kind === 'invalid') {
      const isRefused = aapt === undefined || signer.kind === 'refused'
      t.ok(isRefused || REFUSED_ON_PURPOSE.has(name), `${name}: ${verdict.reason}`)
      continue
    }
    const { facts } = verdict
    t.match(
      aapt,
      {
        packageName: facts.packageName,
        versionCode: facts.versionCode === 0 ? '' : String(facts.versionCode),
        versionName: facts.versionName ?? '',
        minSdk: facts.minSdk === 1 ? undefined : String(facts.minSdk),
        isDebuggable: facts.isDebuggable,
      },
      `facts of ${name}`,
    )
    t.equal(Number(aapt?.targetSdk ?? facts.minSdk), facts.targetSdk, `target of ${name}`)
    const reason = signer.kind === 'refused' ? signer.reason : ''
    if (NOT_JUDGED.test(reason)) continue
    if (WARNED.test(reason)) {
      t.match(ours, { scheme: 'v1' }, `${name}: a warning`)
      t.ok(facts.targetSdk >= ANDROID_11)
      continue
    }
    const signers = signer.kind === 'verified' && !STRICTER.has(name) ? signer.signers : undefined
    t.same(ours.signers, signers, `${name}: ${JSON.stringify(signer)}`)
  }
})

const TABLE = compileResources({ strings: ['x'] })

/** The data of resources.arsc begins 75 bytes after the padding. */
function makeTabled(padding: number, { targetSdk = 30, isDeflated = false, isTestOnly = false }) {
  return makeZip([
    { name: 'p', bytes: Buffer.alloc(padding) },
    { name: 'resources.arsc', bytes: TABLE, isDeflated },
    { name: 'AndroidManifest.xml', bytes: compileManifest({ targetSdk, isTestOnly }) },
  ])
}

t.test('what phones refuse is warned of', async (t) => {
  const warn = async (bytes: Buffer) => packageWarnings(await readApkPackage(memorySource(bytes)))
  const unmapped =
    /^Android 11 and later refuse.* level 30, and its resources\.arsc is compressed or/
  for (const padding of [0, 1, 2, 3]) {
    const stored = makeTabled(padding, {})
    const isAligned = stored.indexOf(TABLE) % 4 === 0
    t.match(await warn(stored), isAligned ? [] : [unmapped], `${padding}`)
    t.equal((await warn(stored)).length, isAligned ? 0 : 1)
    t.match(await warn(makeTabled(padding, { isDeflated: true })), [unmapped], 'compressed')
    t.same(await warn(makeTabled(padding, { isDeflated: true, targetSdk: 29 })), [])
  }
  const testOnly = /INSTALL_FAILED_TEST_ONLY unless they install it with -t/
  t.match(await warn(makeTabled(0, { isTestOnly: true })), [testOnly, unmapped])
  t.match(await warn(makeTabled(1, { isTestOnly: true, targetSdk: 29 })), [testOnly])
  const damaged = makeTabled(0, {})
  damaged.writeUInt32LE(0, damaged.indexOf('resources.arsc') - 30)
  t.same(await warn(damaged), [], 'phones find no such entry')
})

function summary(verdict: PackageVerdict) {
  if (verdict.kind === 'invalid') return { refused: verdict.reason, signers: undefined }
  const { signing } = verdict
  if (signing.kind === 'broken') return { refused: signing.reason, signers: undefined }
  if (signing.kind === 'unsigned') return { refused: 'unsigned', signers: undefined }
  return { scheme: signing.scheme, signers: signing.signers, replaced: signing.replaced }
}

/** APKs from npm packages unchanged, and the smallest re-signed with Debian's apksigner: a second each. */
function realVariants(dir: string, { a, b, ec }: VariantKeys) {
  const from = process.env['TEST_APK_DIR']
  if (from === undefined) return []
  const files = [a, b, ec].map((key, n) => keyFiles(dir, `key${n}`, key))
  const [first = [], second = []] = files.map(({ key, cert }) => ['--key', key, '--cert', cert])
  const lineage = join(dir, 'lineage')
  apksigner('rotate', '--out', lineage, '--old-signer', ...first, '--new-signer', ...second)
  const only = (...schemes: readonly number[]) =>
    [1, 2, 3, 4].flatMap((n) => [`--v${n}-signing-enabled`, String(schemes.includes(n))])
  const ways: Readonly<Record<string, readonly string[]>> = {
    'v1 again': [...only(1), ...first],
    'v2 again': [...only(2), ...first],
    'v3 again': [...only(3), ...first],
    'v1 to v3 again': [...only(1, 2, 3), ...first],
    'v4 as well': [...only(2, 3, 4), ...first],
    'two signers': [...only(1, 2), ...first, '--next-signer', ...second],
    rotated: [...only(1, 2, 3), ...first, '--next-signer', ...second, '--lineage', lineage],
    verity: [...only(2, 3), '--verity-enabled', 'true', ...first],
  }
  const real = readdirSync(from)
    .filter((name) => name.endsWith('.apk'))
    .map((name) => ({ name, bytes: readFileSync(join(from, name)) }))
    .sort((one, other) => one.bytes.length - other.bytes.length)
  const [smallest] = real
  if (smallest === undefined) return []
  const signed = Object.entries(ways).map(([way, options]) => {
    const out = join(dir, 'signed.apk')
    apksigner('sign', '--in', join(from, smallest.name), '--out', out, ...options)
    return { name: `${smallest.name}, ${way}`, bytes: readFileSync(out) }
  })
  return [...real, ...signed]
}

function keyFiles(dir: string, name: string, key: SigningKey) {
  const paths = { key: join(dir, `${name}.pk8`), cert: join(dir, `${name}.der`) }
  writeFileSync(paths.key, key.privateKey.export({ type: 'pkcs8', format: 'der' }))
  writeFileSync(paths.cert, key.certificate)
  return paths
}

function apksigner(...args: readonly string[]): void {
  const { status, stderr } = spawnSync('apksigner', args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`apksigner ${args.join(' ')}: ${stderr}`)
}
