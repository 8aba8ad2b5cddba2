/** Which hardware ids say which phone it is. */
import t from 'tap'
import { isIdentifying } from '../../src/core/same-phone.ts'

const SHARED = `unknown Unknown NULL none nil n/a N/A NaN undefined unset false default not-available
  NOT_SET redacted error 0 00 000000000000000 00000000-0000-0000-0000-000000000000 00:00:00:00:00:00 ff:ff:ff:ff:ff:ff
  xxxxxxxx ****** - 0123456789ABCDEF 0123456789abcdef 123456789ABCDEF 1234567890 0123456789012345678901234567890
  012345678901234 123456 9774d56d682e549c 02:00:00:00:00:00 020000000000 EMULATOR30X7X0X0 emulator-5554
  358240051111110 004999010640000 android_id serial unknown-serial unknown:1 generic test`

const OWN = `R4S1409240004533 H1 SIM-D01 a3f9c2d1e0b74a15 52638d7 12345 354916080123456 b8:27:eb:12:34:56
  6377acb3-0000-4000-8000-000000000025 123456789X serial-1 testbed nullsoft RF8N30ABCDE`

t.test('values that many phones share, or that stand for none, identify nobody', async (t) => {
  t.equal(isIdentifying(null), false)
  for (const id of ['', '  ', 'To be filled by O.E.M.', 'Default string', ...SHARED.split(/\s+/)]) {
    t.equal(isIdentifying(id), false, id)
  }
})

t.test('a phone’s own id does', async (t) => {
  for (const id of OWN.split(/\s+/)) t.equal(isIdentifying(id), true, id)
})
