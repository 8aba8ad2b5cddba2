/** The description of the API that this release serves. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** openapi.json without its white space. */
export function readOpenApi(): string {
  const text = readFileSync(fileURLToPath(import.meta.resolve('#openapi.json')), 'utf8')
  return `${JSON.stringify(JSON.parse(text))}\n`
}
