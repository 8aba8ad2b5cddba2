/**
 * node scripts/build.mjs <project>: compiles the sources of a tsconfig into its outDir, unless that holds what they give
 * already. Something may be running from there: it is compiled beside it, then each file that differs is renamed into its
 * place, so that no file is ever missing or half written. Of two at once, one waits.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
/** In the outDir: what it was made from, and what it held then. */
const STAMP = '.made-from'
/** Programs by the paths that operators type; why.js is a former name that they have in their notes. */
const PROGRAMS = { 'cli.js': './cli/main.js', 'why.js': './cli/why.js' }
const LOCK_POLL_MS = 50

const require = createRequire(import.meta.url)
const [project = ''] = process.argv.slice(2)
const { include, compilerOptions } = readProject(project)
const outDir = join(ROOT, compilerOptions.outDir)

if (!isUpToDate()) {
  const unlock = lock(`${outDir}.lock`)
  try {
    if (!isUpToDate()) process.exitCode = build()
  } finally {
    unlock()
  }
}

/** The exit code. */
function build() {
  const draft = `${outDir}.new`
  rmSync(draft, { recursive: true, force: true }) // of one that was killed
  try {
    const sources = sourcesHash()
    const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin/tsc')
    const how = { cwd: ROOT, stdio: ['ignore', 2, 2] }
    const { status } = spawnSync(process.execPath, [tsc, '-p', project, '--outDir', draft], how)
    if (status !== 0) return status ?? 1
    const src = compilerOptions.rootDir === 'src' ? draft : join(draft, 'src')
    for (const [name, file] of Object.entries(PROGRAMS)) {
      writeFileSync(join(src, name), `#!/usr/bin/env node\nimport '${file}'\n`, { mode: 0o755 })
    }
    rmSync(join(outDir, STAMP), { force: true })
    swap(draft)
    const stamp = join(draft, STAMP)
    writeFileSync(stamp, `${sources} ${hashOf(outDir, filesOf(outDir))}\n`)
    renameSync(stamp, join(outDir, STAMP))
    return 0
  } finally {
    rmSync(draft, { recursive: true, force: true })
  }
}

function swap(draft) {
  const made = filesOf(draft)
  for (const file of made) {
    const [from, to] = [join(draft, file), join(outDir, file)]
    if (read(to)?.equals(readFileSync(from))) continue
    mkdirSync(dirname(to), { recursive: true })
    renameSync(from, to)
  }
  const kept = new Set(made)
  for (const file of filesOf(outDir)) if (!kept.has(file)) rmSync(join(outDir, file))
}

function isUpToDate() {
  const stamp = read(join(outDir, STAMP))?.toString().trim()
  return stamp === `${sourcesHash()} ${hashOf(outDir, filesOf(outDir))}`
}

/** With the options that it inherits; what we use of it is in no other form than JSON. */
function readProject(file) {
  const { extends: base, ...own } = JSON.parse(readFileSync(join(ROOT, file), 'utf8'))
  if (base === undefined) return own
  const inherited = readProject(base)
  return {
    ...inherited,
    ...own,
    compilerOptions: { ...inherited.compilerOptions, ...own.compilerOptions },
  }
}

function sourcesHash() {
  const { version } = require('typescript/package.json')
  const folders = include.flatMap((folder) =>
    filesOf(join(ROOT, folder)).map((file) => join(folder, file)),
  )
  const files = folders.filter((file) => file.endsWith('.ts'))
  return hashOf(ROOT, files, JSON.stringify([version, compilerOptions]))
}

function hashOf(directory, files, more = '') {
  const hash = createHash('sha256').update(more)
  for (const file of [...files].sort()) {
    const content = readFileSync(join(directory, file))
    hash.update(`\0${file.replaceAll(sep, '/')}\0${content.length}\0`).update(content)
  }
  return hash.digest('hex')
}

/** Relative to `directory`; none where it is not there. The stamp is not one of them. */
function filesOf(directory) {
  let entries = []
  try {
    entries = readdirSync(directory, { recursive: true, withFileTypes: true })
  } catch (error) {
    if (error.code !== 'ENOENT') throw error
  }
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .filter((file) => file !== STAMP)
}

/** undefined where it is not there. */
function read(path) {
  try {
    return readFileSync(path)
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  }
}

/** Waits for another build of the same folder, but not for one that was killed. Answers what gives the lock back. */
function lock(path) {
  const own = `${path}-${process.pid}`
  writeFileSync(own, `${process.pid}`)
  try {
    for (;;) {
      try {
        linkSync(own, path)
        return () => rmSync(path, { force: true })
      } catch (error) {
        if (error.code !== 'EEXIST') throw error
      }
      if (isDead(Number(read(path)))) rmSync(path, { force: true })
      else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOCK_POLL_MS)
    }
  } finally {
    rmSync(own, { force: true })
  }
}

/** 0: it was given back just now. */
function isDead(pid) {
  if (!(pid > 0)) return false
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    return error.code === 'ESRCH'
  }
}
