/**
 * The signers that a package's builds must have: those of its first build, until a build that may replace them goes live. A
 * package whose builds are from a release that did not pin is pinned by its next upload, by the same rule: its oldest live
 * build that could be read, and those after it whose lineage proves that they replace it. The pin is the last row that a
 * transaction locks, so that no upload holds it while its bytes are written.
 */
import type { Queryable } from '../postgres/pool.ts'

/** Who signed a build. */
export interface SignedBuild {
  readonly buildId: string
  readonly packageName: string
  /** SHA-256 of the certificates, hex, sorted. Empty: it is not signed, and nothing is compared. */
  readonly signers: readonly string[]
  /** Whether these signers may replace the pinned ones, which are others. */
  readonly mayReplace: (pinned: readonly string[]) => boolean
}

/** Other signers are pinned. Rolls the transaction back. */
export class SignerChanged extends Error {
  readonly pinned: readonly string[]

  constructor(pinned: readonly string[]) {
    super('another signer')
    this.pinned = pinned
  }
}

const PINNED = /* sql */ `
  select signers from apk_signers where package = $1`

const LOCK_PINNED = /* sql */ `
  select signers from apk_signers where package = $1 for update`

/** Live builds of a package without a pin; of two published at once, always the same is first. */
const FORMER = /* sql */ `
  select build_id as "buildId", signers, replaces from apk_builds
  where package = $1 and build_id <> $2 and withdrawn_at is null and cardinality(signers) > 0
  order by published_at, build_id`

/** Waits for another transaction that pins the package's signers. */
const PIN = /* sql */ `
  insert into apk_signers (package, signers, build_id) values ($1, $2, $3)
  on conflict (package) do nothing`

const REPIN = /* sql */ `
  update apk_signers set signers = $2, build_id = $3, pinned_at = now() where package = $1`

/** Spares the writing of bytes that pinSigners would refuse. Throws SignerChanged. */
export async function checkSigners(tx: Queryable, build: SignedBuild): Promise<void> {
  judge(build, (await readPin(tx, build)) ?? (await findFormer(tx, build))?.signers)
}

/**
 * Pins the signers of a package's first build. Of a live one that may replace the pinned signers, too; resolves with those
 * that it replaces, or, if it is staged, will replace. Throws SignerChanged.
 */
export async function pinSigners(
  tx: Queryable,
  build: SignedBuild,
  isLive: boolean,
): Promise<readonly string[] | null> {
  const { packageName, signers, buildId } = build
  if (signers.length === 0) return null
  if ((await readPin(tx, build)) === undefined) {
    const first = (await findFormer(tx, build)) ?? build
    const values = [packageName, first.signers, first.buildId]
    await tx.query({ name: 'apks.pin', text: PIN, values })
  }
  const query = { name: 'apks.lock_pinned', text: LOCK_PINNED, values: [packageName] }
  const replaced = judge(build, await readSigners(tx, query))
  if (replaced !== null && isLive) {
    const values = [packageName, signers, buildId]
    await tx.query({ name: 'apks.repin', text: REPIN, values })
  }
  return replaced
}

function readPin(tx: Queryable, { packageName }: SignedBuild) {
  return readSigners(tx, { name: 'apks.pinned', text: PINNED, values: [packageName] })
}

interface FormerBuild extends Pick<SignedBuild, 'buildId' | 'signers'> {
  readonly replaces: readonly string[] | null
}

/** The build that pins the package, if it has builds but no pin. */
async function findFormer(
  tx: Queryable,
  { packageName, buildId }: SignedBuild,
): Promise<FormerBuild | undefined> {
  const values = [packageName, buildId]
  const query = { name: 'apks.former_signers', text: FORMER, values }
  const { rows } = await tx.query<FormerBuild>(query)
  let pin = rows[0]
  for (const row of rows) {
    if (pin !== undefined && row.replaces?.includes(pin.signers.join())) pin = row
  }
  return pin
}

/** The signers that the build replaces; null: they are its own, or there are none. */
function judge(
  { signers, mayReplace }: SignedBuild,
  pinned: readonly string[] | undefined,
): readonly string[] | null {
  if (pinned === undefined || signers.length === 0) return null
  if (pinned.join() === signers.join()) return null
  if (!mayReplace(pinned)) throw new SignerChanged(pinned)
  return pinned
}

async function readSigners(
  tx: Queryable,
  query: Parameters<Queryable['query']>[0],
): Promise<readonly string[] | undefined> {
  return (await tx.query<{ signers: string[] }>(query)).rows[0]?.signers
}
