/** `tokens` and `revoke`: the enrollment tokens. */
import type { EnrollmentToken } from '../api/openapi.ts'
import { pages } from '../api/pages.ts'
import { agree, YES } from '../terminal/agree.ts'
import { LIMIT, limitOf, minute, printList } from '../terminal/list.ts'
import { oneByOne } from '../terminal/one-by-one.ts'
import type { Cell } from '../terminal/table.ts'
import { visible } from '../terminal/text.ts'
import { UsageError } from '../usage.ts'
import { EXIT, type ExitCode, type Verb } from '../verb.ts'
import { UUID } from '../why/phone.ts'

const STATUSES = ['active', 'exhausted', 'expired', 'revoked'] as const

const tokenList = {
  columns: [
    { title: 'ALIAS' },
    { title: 'STATUS', isFixed: true },
    { title: 'USED', align: 'right', isFixed: true },
    { title: 'EXPIRES (UTC)', isFixed: true },
    { title: 'BY' },
    { title: 'TOKEN ID', isFixed: true },
    { title: 'NOTE' },
  ] as const,
  nothing: 'No token matches.',
  row: (token: EnrollmentToken): readonly Cell[] => [
    ...[token.alias, token.status, `${token.uses_consumed}/${token.uses_allowed}`],
    ...[minute(token.expires_at), token.issued_by, token.token_id, token.note],
  ],
}

export const tokensVerb: Verb = {
  name: 'tokens',
  summary: 'list enrollment tokens, newest first',
  words: '[ALIAS]',
  count: [0, 1],
  options: { status: { value: 'STATUS', help: STATUSES.join(', ') }, ...LIMIT },
  calls: ['listEnrollmentTokens'],
  examples: ['tokens', 'tokens D01', 'tokens --status active --limit 500'],
  async run(context) {
    const { args } = context
    const api = context.api()
    const [alias] = args.words
    const text = args.text('status')
    const status = STATUSES.find((each) => each === text)
    if (text !== undefined && status === undefined) {
      throw new UsageError(`--status takes ${STATUSES.join(', ')}.`)
    }
    const query = { ...(alias !== undefined && { alias }), ...(status !== undefined && { status }) }
    const found = pages(api, 'listEnrollmentTokens', 'tokens', query, limitOf(context))
    await printList(context, tokenList, found)
    return EXIT.ok
  },
}

export const revokeVerb: Verb = {
  name: 'revoke',
  summary: 'revoke the usable enrollment tokens of aliases, or single ones',
  words: 'ALIAS | TOKEN_ID …',
  count: [1, 500],
  options: { ...YES },
  calls: ['listEnrollmentTokens', 'revokeEnrollmentToken'],
  examples: ['revoke D10'],
  async run(context) {
    const { args, terminal } = context
    const api = context.api()
    const tokens: { readonly token_id: string; readonly alias: string | null }[] = []
    let code: ExitCode = EXIT.ok
    for (const name of args.words) {
      if (UUID.test(name)) {
        tokens.push({ token_id: name, alias: null })
        continue
      }
      const before = tokens.length
      const query = { alias: name, status: 'active' } as const
      for await (const { items } of pages(api, 'listEnrollmentTokens', 'tokens', query)) {
        tokens.push(...items)
      }
      if (tokens.length > before) continue
      terminal.note(`${visible(name)} has no usable token.`)
      code = EXIT.no
    }
    if (tokens.length === 0) return code
    const rows = tokens.map(({ alias, token_id }) => [alias, token_id])
    const plan = { verb: 'revoke', noun: 'tokens', titles: ['ALIAS', 'TOKEN ID'], rows }
    if ((await agree(context, plan)) !== 'yes') return EXIT.no
    const revoked = await oneByOne(terminal, tokens, async ({ token_id, alias }) => {
      await api.call('revokeEnrollmentToken', { path: { token_id } })
      terminal.note(`${visible(alias ?? token_id)} revoked`)
    })
    return code === EXIT.ok ? revoked : code
  },
}
