/**
 * What a container engine does to a process, by Linux alone: a mount namespace of its own in which everything is
 * read-only but one volume, an ordinary user without any capability. Root makes it; no engine, no image.
 */

import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { createDatabase } from '../helpers/database.ts'
import { tempDirectory } from '../helpers/directory.ts'

export interface Container {
  /** For what it runs; entered by its user, written to by nobody. */
  readonly tree: string
  /** The one place where it may write. */
  readonly volume: string
  /** A database that it reaches. */
  readonly databaseUrl: string
  /** Its user. */
  readonly uid: number
  /** The command line that runs the words behind it inside; `node` is there whatever PATH says. */
  readonly enter: readonly string[]
}

const NOBODY = { uid: 65_534, gid: 65_534 }

/**
 * $1 to $5: work, socket, node, uid, gid. Remounting is per namespace: nobody else notices. The kernel refuses it for
 * some mounts of its own (of /proc), which only root could write to.
 */
const ENTER = `
set -eu
work=$1 socket=$2 node=$3 uid=$4 gid=$5
shift 5
mount --bind "$node" "$work/bin/node"
if [ -n "$socket" ]; then mount --bind "$socket" "$work/socket"; fi
chown "$uid:$gid" "$work/volume"
mount --bind "$work/volume" "$work/volume"
cut -d ' ' -f 5 /proc/self/mountinfo | while read -r point; do
  if [ "$point" != "$work/volume" ]; then mount -o remount,bind,ro "$point" 2>/dev/null || true; fi
done
PATH=$work/bin:$PATH
cd "$work/tree"
exec setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all -- "$@"
`

/** Why there can be none here; false where there can. */
export function noContainer(): string | false {
  const tried = spawnSync('unshare', ['--mount', 'setpriv', '--no-new-privs', 'true'])
  const isRoot = process.geteuid?.() === 0
  return !(isRoot && tried.status === 0) && 'no container here: only root may unshare mounts'
}

/** Removed at the end of `t`, with its database. */
export async function makeContainer(t: Test): Promise<Container> {
  const work = tempDirectory(t)
  chmodSync(work, 0o755)
  for (const name of ['tree', 'volume', 'socket', 'bin']) mkdirSync(join(work, name))
  writeFileSync(join(work, 'bin/node'), '', { mode: 0o755 })

  const url = new URL(await createDatabase(t))
  const socket = url.searchParams.get('host')
  const { uid, gid } = socket === null ? NOBODY : statSync(socket)
  if (socket !== null) url.searchParams.set('host', join(work, 'socket'))
  const words = [work, socket ?? '', process.execPath, String(uid), String(gid)]
  return {
    tree: join(work, 'tree'),
    volume: join(work, 'volume'),
    databaseUrl: url.href,
    uid,
    enter: [
      'unshare',
      '--mount',
      '--propagation=private',
      'sh',
      '-c',
      ENTER,
      'container',
      ...words,
    ],
  }
}
