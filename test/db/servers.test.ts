/** Several hosts of one URL. */
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import t, { type Test } from 'tap'
import { connect as dial } from '../../src/db/connect.ts'
import { serversOf } from '../../src/db/database-url.ts'
import { Pool } from '../../src/db/pool.ts'
import { createDatabase } from '../helpers/database.ts'
import { lineTo } from '../helpers/database-line.ts'

/** Listens, and says nothing. */
async function silentPort(t: Test): Promise<number> {
  const silent = createServer()
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => silent.close())
  return (silent.address() as AddressInfo).port
}

/** `url` with a list of hosts that are all at 127.0.0.1. */
function urlWith(url: string, ...ports: readonly (number | string)[]): string {
  const list = new URL(url)
  list.searchParams.set('host', ports.map(() => '127.0.0.1').join(','))
  list.searchParams.set('port', ports.join(','))
  return list.href
}

t.test('a silent host does not hold up the next one', async (t) => {
  const { url } = await lineTo(t, await createDatabase(t))
  const hosts = serversOf(urlWith(url, await silentPort(t), new URL(url).port))
  const client = await dial(hosts, {}, AbortSignal.timeout(20_000))
  t.equal(client.server, hosts[1])
  await client.end()
  const over = AbortSignal.abort(new Error('over'))
  await t.rejects(dial(hosts, {}, over), { message: 'over' })
})

t.test('a host whose statements hang is tried last', async (t) => {
  const url = await createDatabase(t)
  const lines = [await lineTo(t, url), await lineTo(t, url)] as const
  const [first, second] = lines.map((line) => new URL(line.url).port)
  const list = urlWith(lines[0].url, first ?? '', second ?? '')
  const pool = new Pool({ url: list, maxConnections: 2, isPrepared: true, queryTimeoutMs: 500 })
  t.teardown(() => pool.close(1_000))
  const ask = () => pool.query({ name: 'ask', text: 'select 1' })
  await ask()
  lines[0].freezeOpen()
  await t.rejects(ask(), { code: 'db_unavailable' })
  const portOfNext = async () => {
    const client = await pool.attempt(AbortSignal.timeout(20_000))
    await client.end()
    return String(client.server.port)
  }
  t.equal(await portOfNext(), second, 'though the first one takes connections')
  t.equal(await portOfNext(), first, 'once')
})
