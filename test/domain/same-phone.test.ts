/** Which hardware ids identify a phone. */
import t from 'tap'
import { isIdentifying, type PhoneFacts, samePhoneProof } from '../../src/domain/same-phone.ts'

const SHARED = `unknown Unknown NULL none nil n/a N/A NaN undefined unset false default not-available
  NOT_SET redacted error 0 00 000000000000000 00000000-0000-0000-0000-000000000000 00:00:00:00:00:00 ff:ff:ff:ff:ff:ff
  xxxxxxxx ****** - 0123456789ABCDEF 0123456789abcdef 123456789ABCDEF 1234567890 0123456789012345678901234567890
  012345678901234 123456 9774d56d682e549c 02:00:00:00:00:00 020000000000 EMULATOR30X7X0X0 emulator-5554
  358240051111110 004999010640000 android_id serial unknown-serial unknown:1 generic test
  1234567890ABCDEF fedcba9876543210 9876543210 abcdefghijk 00:11:22:33:44:55 112233445566 0102030405060708 AABBCCDDEEFF
  deadbeef DEADBEEFDEADBEEF 12341234 000000000000000000000001 20080411 -2147483648 2147483647 (null) <unknown>
  [object_Object] permission_denied java.lang.SecurityException NOT_FOUND no_permission serial_unknown anonymous
  qcom ranchu goldfish mt6765 exynos9610 msm8953 sdk_gphone64_x86_64 hidden restricted dummy NoSN ｕｎｋｎｏｗｎ ００００`

const OWN = `R4S1409240004533 H1 SIM-D01 a3f9c2d1e0b74a15 52638d7 12345 354916080123456 b8:27:eb:12:34:56
  6377acb3-0000-4000-8000-000000000025 123456789X serial-1 testbed nullsoft RF8N30ABCDE
  HW-A phone-a 00000001 10111213X 1212 FA6AB0301534 0011223344556 mt6765-1 exposed`

const NOTHING: PhoneFacts = {
  hardwareId: null,
  model: null,
  manufacturer: null,
  androidVersion: null,
}
const PIXEL = { ...NOTHING, model: 'Pixel 3', manufacturer: 'Google', androidVersion: '12' }

t.test('values that many phones share, or that stand for none, identify nobody', async (t) => {
  t.equal(isIdentifying(NOTHING), false)
  for (const id of ['', '  ', 'To be filled by O.E.M.', 'Default string', ...SHARED.split(/\s+/)]) {
    t.equal(isIdentifying({ ...NOTHING, hardwareId: id }), false, id)
  }
  for (const hardwareId of ['Pixel 3', 'pixel_3', 'google', 'Google Pixel 3']) {
    t.equal(isIdentifying({ ...PIXEL, hardwareId }), false, `${hardwareId} is what the phone is`)
  }
})

t.test('a phone’s own id does', async (t) => {
  for (const hardwareId of OWN.split(/\s+/)) {
    t.equal(isIdentifying({ ...PIXEL, hardwareId }), true, hardwareId)
  }
})

t.test('an id proves nothing where model or manufacturer speak against it', async (t) => {
  const first = { ...PIXEL, hardwareId: 'R4S1409240004533' }
  for (const [again, proof] of [
    [first, 'hardware_id'],
    [{ ...first, androidVersion: '13' }, 'hardware_id'],
    [{ ...first, model: null, manufacturer: null }, 'hardware_id'],
    [{ ...first, model: 'PIXEL-3', manufacturer: 'unknown' }, 'hardware_id'],
    [{ ...first, model: 'Pixel 4' }, undefined],
    [{ ...first, manufacturer: 'samsung' }, undefined],
    [{ ...first, hardwareId: 'R4S1409240004534' }, undefined],
  ] as const) {
    t.equal(samePhoneProof(first, again), proof, JSON.stringify(again))
    t.equal(samePhoneProof(again, first), proof, 'whichever comes first')
  }
  const made = { ...PIXEL, hardwareId: 'Pixel 3' }
  t.equal(samePhoneProof(made, made), 'description')
  t.equal(samePhoneProof({ ...made, model: null }, made), undefined, 'one call does not name it')
})
