/** Which release this is. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export function readVersion(): string {
  const text = readFileSync(fileURLToPath(import.meta.resolve('#package.json')), 'utf8')
  const { version }: { version: string } = JSON.parse(text)
  return version
}
