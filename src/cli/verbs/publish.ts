/** `publish`, `release` and `withdraw`: which APK phones get. */
import { statSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { errorText } from '../../lib/error-text.ts'
import type { PublishedBuild } from '../api/openapi.ts'
import { uploadBuild } from '../api/upload.ts'
import { agree, YES } from '../terminal/agree.ts'
import { bar } from '../terminal/bar.ts'
import { oneByOne } from '../terminal/one-by-one.ts'
import { jsonLine, visible } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'
import { type Context, EXIT, type Verb } from '../verb.ts'
import { sizeText } from './builds.ts'

/** Options that go into the query, and their names there. */
const CLAIMS = {
  'git-sha': 'git_sha',
  'ci-run': 'ci_run_id',
  signer: 'signer_fingerprint',
  'accept-signer': 'accept_signer',
} as const

export const publishVerb: Verb = {
  name: 'publish',
  summary: 'upload an APK; phones get it at once, or after release with --staged',
  words: 'FILE',
  count: [1, 1],
  options: {
    id: { value: 'BUILD', help: "the build's id; default: the name of the file without .apk" },
    staged: { help: 'no phone gets it before fleetloop release' },
    'git-sha': { value: 'SHA', help: 'kept with the build' },
    'ci-run': { value: 'ID', help: 'kept with the build' },
    signer: { value: 'SHA256', help: 'refuse an APK of another signer' },
    'accept-signer': { value: 'SHA256', help: 'accept this new signer for the package' },
  },
  calls: ['publishBuild'],
  examples: ['publish app.apk', 'publish app.apk --id app-43 --staged'],
  notes: ['Interrupted? Repeat it: the same bytes under the same id are published once.'],
  async run(context) {
    const { args, terminal, connection, cwd } = context
    const [name = ''] = args.words
    const path = resolve(cwd, name)
    const sizeBytes = sizeOf(path)
    const build_id = args.text('id') ?? basename(path).replace(/\.apk$/i, '')
    const given = Object.entries(CLAIMS).flatMap(([option, key]) => {
      const value = args.text(option)
      return value === undefined ? [] : [[key, value]]
    })
    const query = {
      ...Object.fromEntries(given),
      ...(args.has('staged') && { release: 'staged' as const }),
    }
    const request = { path: { build_id }, query }
    terminal.farewell('Interrupted. Repeat it: the same bytes under one id are published once.')
    const build = await uploadBuild(connection(), { path, sizeBytes }, request, (bytes) => {
      terminal.progress(progressOf(bytes, sizeBytes))
    })
    await printBuild(context, build, build.state === 'staged' ? 'staged' : 'published')
    return EXIT.ok
  },
}

export const releaseVerb: Verb = {
  name: 'release',
  summary: 'make a staged build live',
  words: 'BUILD',
  count: [1, 1],
  options: {},
  calls: ['releaseBuild'],
  examples: ['release app-43'],
  async run(context) {
    const [build_id = ''] = context.args.words
    const build = await context.api().call('releaseBuild', { path: { build_id } })
    await printBuild(context, build, 'released')
    return EXIT.ok
  },
}

export const withdrawVerb: Verb = {
  name: 'withdraw',
  summary: 'withdraw builds: no phone gets them any more',
  words: 'BUILD …',
  count: [1, 100],
  options: { ...YES },
  calls: ['withdrawBuild'],
  examples: ['withdraw app-43'],
  async run(context) {
    const { args, terminal } = context
    const rows = args.words.map((id) => [id])
    const plan = { verb: 'withdraw', noun: 'builds', titles: ['BUILD'], rows }
    if ((await agree(context, plan)) !== 'yes') return EXIT.no
    const api = context.api()
    return oneByOne(terminal, args.words, async (build_id) => {
      await api.call('withdrawBuild', { path: { build_id } })
      terminal.note(`${visible(build_id)} withdrawn`)
    })
  },
}

function sizeOf(path: string): number {
  try {
    const { size, isFile } = { size: statSync(path).size, isFile: statSync(path).isFile() }
    if (isFile) return size
  } catch (error) {
    throw new UsageError(`${visible(path)} cannot be read: ${visible(errorText(error))}`)
  }
  throw new UsageError(`${visible(path)} is no file.`)
}

function progressOf(bytes: number, ofBytes: number): string {
  return `${bar(ofBytes === 0 ? 1 : bytes / ofBytes)} of ${sizeText(ofBytes)}`
}

async function printBuild(context: Context, build: PublishedBuild, verb: string): Promise<void> {
  const { terminal, isJson } = context
  for (const warning of build.warnings) terminal.note(visible(warning))
  if (isJson) {
    await terminal.print(jsonLine(build))
    return
  }
  const version = [build.version_code, build.version_name && `(${build.version_name})`]
  const name = [build.package, 'version', ...version].filter((part) => part !== null).join(' ')
  await terminal.print(
    visible(
      `${build.build_id} ${verb}: ${name}, ${build.build_type}, ${sizeText(build.size_bytes)}`,
    ),
  )
}
