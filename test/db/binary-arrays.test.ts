/** Arrays in binary arrive as PostgreSQL would have read them from text. */
import t from 'tap'
import {
  BinaryArrays,
  BOOL,
  BYTEA,
  type ElementType,
  FLOAT4,
  INT2,
  INT4,
  INT8,
  TEXT,
  TIMESTAMPTZ,
} from '../../src/db/postgres/binary-arrays.ts'
import { connect, createDatabase } from '../helpers/database.ts'

const db = await connect(t, await createDatabase(t))
const arrays = new BinaryArrays()

/** Sends the values as a binary array of `type`; answers its elements as text. */
async function elements<T>(name: string, type: ElementType<T>, values: readonly (T | null)[]) {
  const sent = arrays.encode(type, values, (value) => value)
  const { rows } = await db.query(
    `select e::text as text from unnest($1::${name}[]) with ordinality u(e, ord) order by ord`,
    [sent],
  )
  return rows.map((row) => row.text)
}

t.test('each type, its limits, and nulls between them', async (t) => {
  await db.query(`set time zone 'UTC'`)
  t.same(await elements('int2', INT2, [-32_768, null, 0, 32_767]), ['-32768', null, '0', '32767'])
  t.same(await elements('int4', INT4, [-2_147_483_648, 7]), ['-2147483648', '7'])
  t.same(await elements('int8', INT8, [Number.MIN_SAFE_INTEGER, null, 4_000_000_000]), [
    '-9007199254740991',
    null,
    '4000000000',
  ])
  t.same(await elements('bool', BOOL, [true, false, null]), ['true', 'false', null])
  t.same(await elements('float4', FLOAT4, [28.5, -0.25, null]), ['28.5', '-0.25', null])
  t.same(await elements('bytea', BYTEA, [Buffer.from('00ff', 'hex'), Buffer.alloc(0), null]), [
    '\\x00ff',
    '\\x',
    null,
  ])
  const texts = ['', 'wifi', 'a"b\\c,{d}', 'null', 'ü — 電池 🔋', 'x'.repeat(20_000)]
  t.same(await elements('text', TEXT, [...texts, null]), [...texts, null])
  const times = ['1970-01-01T00:00:00.000Z', '1999-12-31T23:59:59.999Z', '2999-12-31T23:59:59.001Z']
  t.same(
    (
      await elements(
        'timestamptz',
        TIMESTAMPTZ,
        times.map((time) => new Date(time)),
      )
    ).map((text) => new Date(text).toISOString()),
    times,
  )
})

t.test(
  'a column without a value is an empty array, which unnest fills up with nulls',
  async (t) => {
    const ids = arrays.encode(INT4, [1, 2, 3], (id) => id)
    const nothing = arrays.encode(TEXT, [1, 2, 3], () => null)
    t.equal(nothing.length, 12)
    const { rows } = await db.query('select * from unnest($1::int4[], $2::text[]) u(id, name)', [
      ids,
      nothing,
    ])
    t.same(
      rows,
      [1, 2, 3].map((id) => ({ id, name: null })),
    )
  },
)

t.test('what was encoded before stays as it is, and a number that does not fit is refused', (t) => {
  const first = arrays.encode(TEXT, ['kept'], (text) => text)
  const copy = Buffer.from(first)
  arrays.encode(TEXT, ['y'.repeat(100_000)], (text) => text)
  t.same(first, copy)
  t.throws(() => arrays.encode(INT2, [40_000], (value) => value), { name: 'RangeError' })
  t.end()
})
