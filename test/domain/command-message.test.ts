import t from 'tap'
import { verifyCommandData } from '../../sim/device/verify-command.ts'
import {
  type CommandMessage,
  commandData,
  commandKey,
  isReservedParamName,
} from '../../src/domain/delivery/command-message.ts'

/*
 * Golden vectors, also for authors of device agents. They were not made by this code:
 *   hmac_key: printf 'device-command-key:v1:<device_id>:3' | openssl dgst -sha256 -hmac 'test-secret-0123456789' -binary | base64
 *             (then +/ to -_, without =)
 *   hmac:     printf 'cmd-1|<device_id>|launch_app|2026-03-04T05:06:07.089Z' | openssl dgst -sha256 -hmac <hmac_key>
 *   hmac2:    python3 hmac.new(hmac_key, text), where text, with the params below, is
 *             2:v2,5:cmd-1,36:<device_id>,10:launch_app,24:2026-03-04T05:06:07.089Z,24:2026-03-05T05:06:07.089Z,1:2,
 *             2:a1,1:x,3:a_b,0:,5:empty,0:,4:note,12:Zürich 🚚,7:package,14:io.example.app,   (one line)
 */
const DEVICE_ID = '6377acb3-0000-4000-8000-000000000025'
const KEY = 'Q9TA6JCEFKrCE74Q3vxY3W00RMc25o5dNav0Yz9AFPQ'
const HMAC = '2a2897fe7459951532b95277b16b2efcf6220d0bf875f168dff2f3cb46fcac92'
const HMAC2 = 'd7e10d2e7c93f14802622b1b8abd2515ad202f57474c976b8d91fc0b90791dfd'
const HMAC2_WITHOUT_PARAMS = 'ada3542e44991021a3cb3b061e4f170057d312002b64a5f7b27e69884b7851e2'

const MESSAGE: CommandMessage = {
  requestId: 'cmd-1',
  deviceId: DEVICE_ID,
  action: 'launch_app',
  params: { package: 'io.example.app', note: 'Zürich 🚚', a_b: '', a1: 'x', empty: '' },
  expiresAt: new Date('2026-03-05T05:06:07.089Z'),
  attempt: 2,
  ts: new Date('2026-03-04T05:06:07.089Z'),
  hmacKey: KEY,
}

t.test('the key of a device is the golden one, and changes with the enrollment', async (t) => {
  t.equal(commandKey('test-secret-0123456789', DEVICE_ID, 3), KEY)
  t.not(commandKey('test-secret-0123456789', DEVICE_ID, 4), KEY)
})

t.test('the data object holds exactly the documented fields, all strings', async (t) => {
  t.strictSame(commandData(MESSAGE), {
    action: 'launch_app',
    request_id: 'cmd-1',
    device_id: DEVICE_ID,
    ts: '2026-03-04T05:06:07.089Z',
    hmac: HMAC,
    hmac2: HMAC2,
    expires_at: '2026-03-05T05:06:07.089Z',
    attempt: '2',
    package: 'io.example.app',
    note: 'Zürich 🚚',
    a_b: '',
    a1: 'x',
    empty: '',
  })
  t.match(commandData({ ...MESSAGE, params: {} }), { hmac: HMAC, hmac2: HMAC2_WITHOUT_PARAMS })
})

t.test('the order of the params as given does not change the signature', async (t) => {
  const params = Object.fromEntries(Object.entries(MESSAGE.params).reverse())
  t.match(commandData({ ...MESSAGE, params }), { hmac2: HMAC2 })
})

t.test('a param with a reserved name neither replaces a field nor is signed', async (t) => {
  const params = {
    ...{ action: 'reboot', from: 'x', google_x: 'y', gcm: 'z', hmac2: '0' },
    ...{ correlation_id: 'c', collapse_key: 'k', message_type: 'm' },
  }
  const data = commandData({ ...MESSAGE, params })
  t.strictSame(data, commandData({ ...MESSAGE, params: {} }))
  for (const name of Object.keys(params)) t.ok(isReservedParamName(name), name)
  for (const name of ['package', 'actions', 'go', 'message']) t.notOk(isReservedParamName(name))
})

t.test('what is signed verifies; any other key does not', async (t) => {
  t.strictSame(verifyCommandData(commandData(MESSAGE), KEY), { hmac: true, hmac2: true })
  t.strictSame(verifyCommandData(commandData(MESSAGE), 'other'), { hmac: false, hmac2: false })
})

t.test('each changed field breaks hmac2; hmac covers four of them only', async (t) => {
  const data = commandData(MESSAGE)
  for (const name of Object.keys(data).filter((name) => !name.startsWith('hmac'))) {
    const { hmac, hmac2 } = verifyCommandData({ ...data, [name]: `${data[name]}1` }, KEY)
    t.equal(hmac2, false, name)
    t.equal(hmac, !['request_id', 'device_id', 'action', 'ts'].includes(name), name)
  }
  t.strictSame(verifyCommandData({ ...data, extra: '' }, KEY), { hmac: true, hmac2: false })
})

t.test('text moved from one part to its neighbour breaks hmac2', async (t) => {
  const signed = commandData({ ...MESSAGE, params: { ab: 'c' } })
  const { ab: _, ...rest } = signed
  t.equal(verifyCommandData({ ...rest, a: 'bc' }, KEY).hmac2, false)
})

t.test('data that is no command fails both and throws nothing', async (t) => {
  t.strictSame(verifyCommandData({}, KEY), { hmac: false, hmac2: false })
  t.strictSame(verifyCommandData({ hmac: 'é', hmac2: '\ud800' }, KEY), {
    hmac: false,
    hmac2: false,
  })
})
