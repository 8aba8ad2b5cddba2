/** The documentation as its readers find it: which pages there are, and the blocks that operators run or copy. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Block, blocksOf } from '../docs/markdown.ts'

const ROOT = dirname(fileURLToPath(import.meta.resolve('#package.json')))

export const readPage = (path: string) => readFileSync(join(ROOT, path), 'utf8')

const markdownIn = (directory: string) =>
  readdirSync(join(ROOT, directory))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(directory, name))
    .toSorted()

/** The runbook first: its first block sets the variables that the others use. */
export const OPERATOR_PAGES = ['RUNBOOK.md', ...markdownIn('docs/operate')]
export const PAGES = [
  ...new Set([
    ...markdownIn('.'),
    ...OPERATOR_PAGES,
    ...['docs', 'docs/reference', 'docs/develop'].flatMap(markdownIn),
  ]),
]

export interface PageBlock extends Block {
  readonly path: string
}

export const operatorBlocks = (): readonly PageBlock[] =>
  OPERATOR_PAGES.flatMap((path) => blocksOf(readPage(path)).map((block) => ({ ...block, path })))

/** The text of the one block of the operator's pages with this name. */
export function documentedBlock(name: string): string {
  const [block, ...more] = operatorBlocks().filter(({ rest }) => rest === name)
  if (block === undefined || more.length > 0) throw new Error(`there is no one block ${name}`)
  return block.text
}
