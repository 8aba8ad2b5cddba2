/** What Debian's aapt and apksigner say of an APK. Development code. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** apksigner's own library: one JVM for many files, where the command starts one a file. */
const LIBRARY = '/usr/share/java/apksig.jar'
const PROGRAM = fileURLToPath(new URL('../../../sim/apk/VerifyApks.java', import.meta.url))

/** The Debian packages that are missing here; none: both tools can be asked. */
export function missingTools(): readonly string[] {
  const runs = (command: string, option: string) =>
    spawnSync(command, [option], { stdio: 'ignore' }).error === undefined
  return [
    ...(runs('aapt', 'version') ? [] : ['aapt']),
    ...(existsSync(LIBRARY) ? [] : ['apksigner']),
    ...(runs('javac', '-version') ? [] : ['default-jdk-headless']),
  ]
}

export interface AaptFacts {
  readonly packageName: string
  /** As printed; empty where the manifest has none. */
  readonly versionCode: string
  readonly versionName: string
  readonly minSdk: string | undefined
  readonly targetSdk: string | undefined
  readonly isDebuggable: boolean
}

/** undefined: aapt does not read it. */
export function askAapt(path: string): AaptFacts | undefined {
  const { stdout, status } = spawnSync('aapt', ['dump', 'badging', path], { encoding: 'utf8' })
  const line = /^package: name='(.*?)' versionCode='(.*?)' versionName='(.*?)'/m.exec(stdout)
  if (line === null || status !== 0) return undefined
  const [, packageName = '', versionCode = '', versionName = ''] = line
  return {
    packageName,
    versionCode,
    versionName,
    minSdk: /^sdkVersion:'(.*?)'/m.exec(stdout)?.[1],
    targetSdk: /^targetSdkVersion:'(.*?)'/m.exec(stdout)?.[1],
    isDebuggable: /^application-debuggable$/m.test(stdout),
  }
}

export type SignerVerdict =
  | {
      readonly kind: 'verified'
      /** Such as '12'. */
      readonly schemes: string
      /** SHA-256 of the signers' certificates, hex. */
      readonly signers: readonly string[]
    }
  | { readonly kind: 'refused'; readonly reason: string }

export interface ApkSigner {
  /** One file at a time. */
  verify(path: string): Promise<SignerVerdict>
  /** Ends the JVM. */
  close(): Promise<void>
}

export function startApkSigner(): ApkSigner {
  const options = ['-Xshare:auto', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Xmx512m']
  const java = spawn('java', [...options, '-cp', LIBRARY, PROGRAM], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = new Promise<void>((resolve) => java.once('close', () => resolve()))
  const lines = createInterface({ input: java.stdout })[Symbol.asyncIterator]()
  return {
    async verify(path) {
      java.stdin.write(`${path}\n`)
      const line = await lines.next()
      if (line.done === true) throw new Error('apksigner ended')
      return readVerdict(line.value)
    },
    async close() {
      java.stdin.end()
      await ended
    },
  }
}

function readVerdict(line: string): SignerVerdict {
  const [kind, schemes = '', digests = ''] = line.split(' ')
  if (kind !== 'verified') return { kind: 'refused', reason: line }
  return { kind, schemes, signers: digests.split(',') }
}
