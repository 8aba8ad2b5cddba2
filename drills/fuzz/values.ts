/** Hostile values: JSON as text (JavaScript cannot hold all of it), query values, headers. */

const DEEP = ['[', '{"a":'].flatMap((open) => {
  const close = open === '[' ? ']' : '}'
  return [17, 2_000].map((levels) => `${open.repeat(levels)}1${close.repeat(levels)}`)
})

export const ODD_JSON: readonly string[] = [
  ...['null', 'true', 'false', '[]', '{}', '[null]', '{"a":1}', '[[],{}]'],
  ...['0', '-0', '-1', '1', '1.5', '85.0', '1.2345678E7', '1e999', '-1e999', '1e-400'],
  ...['32767', '32768', '2147483647', '2147483648', '9007199254740993', '1e21', '-129'],
  ...['""', '" "', '"x"', '"1"', '"-1"', '"1e3"', '"NaN"', '"true"', '"null"', '"0x10"'],
  ...[
    '"\\u0000"',
    '"a\\u0000b"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"a\\ud83d"',
    '"\\ud83d\\ude00"',
  ],
  ...['"\\u2028\\u2029"', '"\\ufeff"', '"\\uffff"', '"\\r\\n"', '"\\u001b[2J"', '"\\\\"', '"\\""'],
  ...['"2026-02-30T00:00:00Z"', '"2026-01-31T09:15:27.042Z"', '"now"', '"tomorrow"', '"infinity"'],
  ...['"1970-01-01T00:00:00Z"', '"9999-12-31T23:59:59.999999999Z"', '"0000-01-01T00:00:00Z"'],
  ...[
    '"__proto__"',
    '"constructor"',
    '"\' or 1=1 --"',
    '"%00%0d%0a"',
    '"x\\",\\"level\\":\\"ERROR"',
  ],
  ...['"018f0000-0000-7000-8000-000000000000"', '"P1"', '"ping"', '"success"', '"c1"', '"d1"'],
  ...[65, 129, 2_001, 4_097].map((length) => `"${'q'.repeat(length)}"`),
  ...DEEP,
]

export const BROKEN_JSON: readonly string[] = [
  ...['', ' ', '{', '}', '{"a"}', '{"a":}', '{"a":1,}', '[1,]', '{}{}', '{} x', 'nul', 'NaN'],
  ...['{"a":NaN}', '{"a":01}', '{"a":+1}', '{"a":1.}', '{"a":.5}', "{'a':1}", '{"a":"\t"}'],
  ...[
    '{"a":"\u0001"}',
    '{"a":"\\x"}',
    '{"a":"\\ud8"}',
    '\ufeff{}',
    '//\n{}',
    '"a',
    '['.repeat(9_000),
  ],
]

/** Valid JSON that is no object. */
export const NO_OBJECT: readonly string[] = ['null', 'true', '1', '"a"', '[]', '[{}]']

/** Names that must reach no prototype and no column. */
export const ODD_NAMES: readonly string[] = [
  ...['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'length', '', ' '],
  ...['a\\u0000b', '\\ud800', '$where', 'device_id', 'deviceId', "a'b", 'q'.repeat(300)],
]

/** As written in a URL. */
export const ODD_QUERY: readonly string[] = [
  ...['', '0', '-1', '1', '50', '500', '501', '1.5', '1e3', '+1', '0x1', '999999999999999999999'],
  ...[
    '%00',
    '%ff',
    '%',
    '%zz',
    '%f0%9f%98%80',
    '%ed%a0%80',
    'a%20b',
    'a+b',
    '%0d%0a',
    "'",
    '%27--',
  ],
  ...['2026-02-30T00:00:00Z', '2026-01-31T09:15:27Z', 'now', 'infinity', '__proto__', '[]', '{}'],
  ...['active', 'revoked', 'queued', 'completed', 'debug', 'ping', 'P1', 'tester', 'f7', 'b1'],
  ...['018f0000-0000-7000-8000-000000000000', 'WzEsMl0', 'bm90IGEgY3Vyc29y', 'q'.repeat(600)],
]

/** Cursors that look like ours. PostgreSQL refuses most of these times and ids. */
export const FORGED_CURSORS: readonly string[] = [
  ...['2026-01-31T09:15:27.042000Z', '2026-01-31T09:15:27.042000+23:59', '294277-01-01T00:00:00Z'],
  ...['-infinity', 'NaN', '\0'],
].flatMap((at) =>
  ['018f0000-0000-7000-8000-000000000000', '7', '9223372036854775808', 'a\ud800', '\0'].map((id) =>
    Buffer.from(JSON.stringify([at, id])).toString('base64url'),
  ),
)

/** Values of any path segment. */
export const ODD_SEGMENTS: readonly string[] = [
  ...[
    '',
    '.',
    '..',
    '%2e%2e',
    '%2f',
    '%00',
    '%ff',
    '%',
    '%zz',
    '%f0%9f%98%80',
    '%ed%a0%80',
    '*',
    '~',
  ],
  ...['__proto__', "'", '"', '{request_id}', ';a=b', '018f0000-0000-7000-8000-000000000000'],
  ...['018F0000-0000-7000-8000-00000000000G', 'q'.repeat(129), 'q'.repeat(3_000), 'ack', 'a b'],
]

/** Whole header lines. */
export const ODD_HEADERS: readonly string[] = [
  ...[
    'Accept: */*',
    'Accept: text/event-stream',
    'Last-Event-ID: x',
    'Accept-Encoding: gzip',
    'Content-Encoding: gzip',
    'Content-Encoding: identity',
  ],
  ...[
    'Range: bytes=0-99',
    'Range: bytes=-5',
    'Range: bytes=9-',
    'Range: bytes=5-1',
    'Range: lines=1',
  ],
  ...[
    'Range: bytes=0-0,2-3',
    'Range: bytes=99999999999999999999-',
    'If-Range: "x"',
    'If-Range: W/"x"',
  ],
  ...[
    'If-Match: "x"',
    'If-Match: *',
    'If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT',
    'If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT',
    'If-Modified-Since: Sun Nov  6 08:49:37 9999',
    'If-None-Match: *',
    'If-None-Match: "x", W/"y"',
    'If-None-Match: "',
    'Upgrade: h2c',
    'TE: trailers',
  ],
  ...['Connection: close', 'Connection: keep-alive, X-A', 'Expect: 100-continue', 'Expect: 200-ok'],
  ...[
    'X-Forwarded-For: 203.0.113.9',
    'X-Forwarded-For: ::ffff:1.2.3.4, unknown',
    'X-Forwarded-Proto: http',
  ],
  ...['User-Agent: ', `User-Agent: ${'u'.repeat(900)}`, 'User-Agent: a"b\\c\u00ff', 'Cookie: a=b'],
  ...[
    'X-Device-Token: x',
    'X-Signature: t=1,v1=00',
    'X-Signature: x',
    'X-APK-SHA256: 00',
    'X-A: \t b \t',
  ],
  ...[
    'Transfer-Encoding: gzip, chunked',
    'Host: second',
    'Host: a b',
    'Content-Type: text/plain',
    'Via: 1.0 x',
  ],
  ...[
    'Idempotency-Key: k1',
    'Idempotency-Key: \u00e9',
    'Content-Length: 0',
    'Trailer: X-A',
    'Authorization: x',
  ],
]

/** What mutations insert into a request. */
export const FRAGMENTS: readonly string[] = [
  ...[
    '\r\n',
    '\r\n\r\n',
    '\n',
    '\r',
    '\0',
    ' ',
    '\t',
    ':',
    ',',
    '\xff',
    '\x7f',
    '\x0b',
    '"',
    '\\',
    '{',
    ']',
  ],
  ...[
    'Transfer-Encoding: chunked\r\n',
    'Content-Length: 5\r\n',
    'Content-Length: 99999\r\n',
    '0\r\n\r\n',
  ],
  ...[
    'GET /v1/hidden HTTP/1.1\r\nHost: a\r\n\r\n',
    'HTTP/1.0',
    'HTTP/9.9',
    '//',
    '%00',
    '%',
    '?',
    '#',
    '..',
  ],
  ...[
    'Host: b\r\n',
    ' folded',
    'a'.repeat(9_000),
    '\u00c3\u0028',
    'fffffffff\r\n',
    ';ext=1',
    'Expect: x\r\n',
  ],
]
