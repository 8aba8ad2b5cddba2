/** docs/device-protocol.md is true: its golden vectors, by our code and without it, its codes and its paths. */

import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { createHash, createHmac } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { verifyCommandData } from '../../sim/device/verify-command.ts'
import {
  commandData,
  commandKey,
  isReservedParamName,
  RESERVED_PARAM_NAMES,
} from '../../src/domain/delivery/command-message.ts'
import { STATUS } from '../../src/http/errors.ts'
import { ROUTE_LIST } from '../../src/routes/table.ts'
import { checkSignature } from '../../src/security/signature.ts'
import { tempDirectory } from '../helpers/directory.ts'
import { blocksOf, codesOf, sectionOf, tableOf } from './markdown.ts'

const pathOf = (path: string) => fileURLToPath(new URL(path, import.meta.resolve('#package.json')))
const read = (path: string) => readFileSync(pathOf(path), 'utf8')
const TEXT = read('docs/device-protocol.md')

function golden(name: string): string {
  const [block, ...more] = blocksOf(TEXT).filter(({ rest }) => rest === `golden-${name}`)
  if (block === undefined || more.length > 0) throw new Error(`there is no one golden-${name}`)
  return block.text.trimEnd()
}

interface GoldenKey {
  readonly secret: string
  readonly device_id: string
  readonly enrollment_no: number
  readonly hmac_key: string
}

/** As much of it as is read here; openapi.test.ts checks its form. */
interface OpenApi {
  readonly paths: Readonly<
    Record<string, Readonly<Record<string, { security: readonly object[]; responses: Responses }>>>
  >
}
type Responses = Readonly<Record<string, { readonly $ref?: string }>>

// Checked where they are read: what is missing fails its assertion.
const KEY = JSON.parse(golden('key')) as GoldenKey
const DATA = JSON.parse(golden('message')) as Readonly<Record<string, string>>

const hex = (text: string) => createHmac('sha256', KEY.hmac_key).update(text).digest('hex')

t.test('the golden key is the one of the secret, device and enrollment', async (t) => {
  const independent = createHmac('sha256', KEY.secret).update(golden('key-text')).digest()
  t.equal(independent.toString('base64url'), KEY.hmac_key)
  t.equal(commandKey(KEY.secret, KEY.device_id, KEY.enrollment_no), KEY.hmac_key)
  t.equal(KEY.hmac_key.length, 43)
})

t.test('the golden message is signed over exactly the golden texts', async (t) => {
  t.equal(hex(golden('hmac-text')), DATA['hmac'])
  t.equal(hex(golden('hmac2-text')), DATA['hmac2'])
})

t.test('the texts follow from the message as the document says', async (t) => {
  const { request_id = '', device_id = '', action = '', ts = '', expires_at = '' } = DATA
  const { attempt = '' } = DATA
  t.equal([request_id, device_id, action, ts].join('|'), golden('hmac-text'))
  const described = TEXT.split('Params are all entries but these: ')[1]?.split(/\.\s/)[0] ?? ''
  const reserved = codesOf(described).filter((name) => name !== 'google' && name !== 'gcm')
  t.same(reserved.toSorted(), RESERVED_PARAM_NAMES.toSorted())
  const names = Object.keys(DATA).filter((name) => !reserved.includes(name))
  t.equal(names.length, 5)
  const params = names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  const fixed = ['v2', request_id, device_id, action, ts, expires_at, attempt]
  const parts = [...fixed, ...params.flatMap((name) => [name, DATA[name] ?? ''])]
  const text = parts.map((part) => `${Buffer.byteLength(part, 'utf8')}:${part},`).join('')
  t.equal(text, golden('hmac2-text'))

  const bare = fixed.map((part) => `${Buffer.byteLength(part, 'utf8')}:${part},`).join('')
  t.match(TEXT, `Without params, all else equal, \`hmac2\` is \`${hex(bare)}\`.`)
})

t.test('our code makes the golden message, and takes it', async (t) => {
  const params = Object.entries(DATA).filter(([name]) => !isReservedParamName(name))
  const made = commandData({
    requestId: DATA['request_id'] ?? '',
    deviceId: DATA['device_id'] ?? '',
    action: DATA['action'] ?? '',
    params: Object.fromEntries(params),
    expiresAt: new Date(DATA['expires_at'] ?? ''),
    attempt: Number(DATA['attempt']),
    ts: new Date(DATA['ts'] ?? ''),
    hmacKey: KEY.hmac_key,
  })
  t.strictSame(made, DATA)
  t.same(verifyCommandData(DATA, KEY.hmac_key), { hmac: true, hmac2: true })
  for (const name of ['expires_at', 'attempt', 'package']) {
    const verified = verifyCommandData({ ...DATA, [name]: `${DATA[name]}0` }, KEY.hmac_key)
    t.same(verified, { hmac: true, hmac2: false }, name)
  }
})

t.test('the golden result is signed as the document says, and taken', async (t) => {
  const [body = '', header = ''] = golden('result').split('\n')
  const signature = header.replace('X-Signature: ', '')
  const timeS = /^t=(\d+),/.exec(signature)?.[1] ?? ''
  const bodySha256 = createHash('sha256').update(body).digest('hex')
  const url = '/v1/action-result'
  const text = [timeS, 'POST', url, 'result-1', bodySha256].join('\n')
  t.equal(signature, `t=${timeS},v1=${hex(text)}`)
  const request = {
    header: signature,
    method: 'POST',
    url,
    requestIdHeader: 'result-1',
    bodySha256,
  }
  t.equal(checkSignature(request, KEY.hmac_key, Number(timeS) + 120).kind, 'valid')
  t.match(checkSignature(request, KEY.hmac_key, Number(timeS) + 121), { reason: 'stale' })
})

t.test('the table of errors has every code that a phone can meet, with its status', async (t) => {
  const codes = tableOf(sectionOf(TEXT, 'Errors')).flatMap(([response = '']) =>
    response.split(/(?=\b\d{3} )/).flatMap((part) => {
      const status = Number(part.slice(0, 3))
      return codesOf(part).map((code) => ({ code, status }))
    }),
  )
  for (const { code, status } of codes) t.equal(Reflect.get(STATUS, code), status, code)
  const { paths } = JSON.parse(read('openapi.json')) as OpenApi
  const met = Object.values(paths)
    .flatMap((item) => Object.values(item))
    .filter(({ security }) => security.some((one) => 'device' in one || 'enrollment' in one))
    .flatMap(({ responses }) => Object.entries(responses))
    .filter(([status]) => Number(status) >= 400)
    .flatMap(([, { $ref = '' }]) => $ref.replace(/^.*\//, '').split('.'))
  // Of any path, and so of no operation in openapi.json.
  const anywhere = ['not_found', 'method_not_allowed', 'expectation_failed']
  t.same(codes.map(({ code }) => code).toSorted(), [...new Set([...met, ...anywhere])].toSorted())
})

t.test('each endpoint that it names is served', async (t) => {
  const routes = new Set(ROUTE_LIST.map(({ method, path }) => `${method} ${path}`))
  const named = [...TEXT.matchAll(/`((?:GET|POST) \/v1\/[^`?]+)`/g)].map(([, name = '']) => name)
  t.ok(new Set(named).size >= 5)
  for (const name of named) t.ok(routes.has(name), name)
})

t.test('each example is JSON', async (t) => {
  for (const { language, text, line } of blocksOf(TEXT)) {
    if (language === 'json') t.ok(JSON.parse(text), `line ${line}`)
  }
})

/** What a sample must say of the golden message and result: every line of it. */
function sampleOf(t: Test) {
  const [body = '', header = ''] = golden('result').split('\n')
  const expected = [DATA['hmac'], DATA['hmac2'], 'True', 'False', 'False', header]
  return {
    body,
    unixS: Number(/t=(\d+)/.exec(header)?.[1]),
    check({ status, stdout, stderr }: SpawnSyncReturns<string>): void {
      t.equal(status, 0, stderr)
      const printed = stdout.trimEnd().replaceAll('true', 'True').replaceAll('false', 'False')
      t.same(printed.split('\n'), expected)
    },
  }
}

const hasTool = (tool: string) => spawnSync(tool, ['--version']).error === undefined

t.test(
  'the Python sample gives the golden vectors',
  { skip: !hasTool('python3') && 'needs python3' },
  async (t) => {
    const { body, unixS, check } = sampleOf(t)
    const given = { key: KEY.hmac_key, id: KEY.device_id, data: DATA, body, unixS }
    const program = `
import json, sys
sys.path.insert(0, sys.argv[1])
from signatures import *
given = json.load(sys.stdin)
key, id, data = given["key"], given["id"], given["data"]
print(hmac_of(key, data))
print(hmac2_of(key, data))
print(is_ours(key, id, data))
print(is_ours(key, "another", data))
print(is_ours(key, id, {**data, "attempt": "3"}))
signed = x_signature(key, given["unixS"], "POST", "/v1/action-result", "result-1", given["body"].encode())
print("X-Signature: " + signed)`
    const args = ['-B', '-c', program, pathOf('docs/samples')]
    check(spawnSync('python3', args, { input: JSON.stringify(given), encoding: 'utf8' }))
  },
)

t.test(
  'the Kotlin sample gives the golden vectors',
  { skip: !(hasTool('kotlinc') && hasTool('java')) && 'only where kotlinc and java are' },
  async (t) => {
    const { body, unixS, check } = sampleOf(t)
    const directory = tempDirectory(t)
    const quoted = (text: string) => JSON.stringify(text).replaceAll('$', '\\$')
    const entries = Object.entries(DATA).map(([name, text]) => `${quoted(name)} to ${quoted(text)}`)
    const program = `
fun main() {
    val data = mapOf(${entries.join(', ')})
    val id = ${quoted(KEY.device_id)}
    val signatures = Signatures(${quoted(KEY.hmac_key)})
    println(signatures.hmacOf(data))
    println(signatures.hmac2Of(data))
    println(signatures.isOurs(id, data))
    println(signatures.isOurs("another", data))
    println(signatures.isOurs(id, data + ("attempt" to "3")))
    val signed = signatures.xSignature(${unixS}L, "POST", "/v1/action-result", "result-1", ${quoted(body)}.toByteArray())
    println("X-Signature: " + signed)
}`
    const main = join(directory, 'Main.kt')
    writeFileSync(main, program)
    const jar = join(directory, 'main.jar')
    const sources = [pathOf('docs/samples/Signatures.kt'), main]
    const compiled = spawnSync('kotlinc', [...sources, '-include-runtime', '-d', jar], {
      encoding: 'utf8',
    })
    t.equal(compiled.status, 0, compiled.stderr)
    check(spawnSync('java', ['-jar', jar], { encoding: 'utf8' }))
  },
)

t.test('both samples know the same fields as the document', async (t) => {
  const described = TEXT.split('Params are all entries but these: ')[1]?.split(/\.\s/)[0] ?? ''
  for (const sample of ['Signatures.kt', 'signatures.py']) {
    const text = read(`docs/samples/${sample}`)
    t.ok(codesOf(described).length > 5)
    for (const name of codesOf(described)) t.ok(text.includes(`"${name}"`), `${sample}: ${name}`)
  }
})
