/** `audit`: who changed what. */
import type { AuditEntry } from '../api/openapi.ts'
import { pages } from '../api/pages.ts'
import { LIMIT, limitOf, printList, secondsOf, timeAfter } from '../terminal/list.ts'
import type { Cell } from '../terminal/table.ts'
import { EXIT, type Verb } from '../verb.ts'

const list = {
  columns: [
    { title: 'AT', isFixed: true },
    { title: 'WHO' },
    { title: 'WHAT', isFixed: true },
    { title: 'SUBJECT' },
    { title: 'FROM' },
    { title: 'DETAIL' },
  ],
  nothing: 'No change matches.',
  row: ({ at, admin, what, subject, ip, detail }: AuditEntry): readonly Cell[] => [
    ...[at.slice(0, 19).replace('T', ' '), admin, what, subject, ip],
    Object.entries(detail ?? {})
      .filter(([, value]) => value !== null)
      .map(
        ([name, value]) => `${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`,
      )
      .join(' '),
  ],
} as const

export const auditVerb: Verb = {
  name: 'audit',
  summary: 'list changes: who did what to which phone, token or build',
  words: '',
  count: [0, 0],
  options: {
    since: { value: '2d', help: 'only the last minutes, hours or days' },
    alias: { value: 'ALIAS', help: 'changes of this phone' },
    subject: { value: 'ID', help: 'changes of this token, command, build or device id' },
    admin: { value: 'NAME', help: 'changes by this admin' },
    what: { value: 'WHAT', help: 'only such changes: enrollment_token.revoke' },
    ...LIMIT,
  },
  calls: ['audit'],
  examples: ['audit', 'audit --since 2d --alias D01', 'audit --what device.delete --limit 5'],
  async run(context) {
    const { args } = context
    const api = context.api()
    const sinceS = secondsOf(args.text('since'), '--since', undefined)
    // For the service's clock.
    if (sinceS !== undefined) await api.call('audit', { query: { limit: 1 } })
    const since = sinceS === undefined ? {} : { since: timeAfter(-sinceS, api.now()) }
    const given = ['alias', 'subject', 'admin', 'what'].flatMap((name) => {
      const value = args.text(name)
      return value === undefined ? [] : [[name, value]]
    })
    const query = { ...Object.fromEntries(given), ...since }
    await printList(context, list, pages(api, 'audit', 'audit', query, limitOf(context)))
    return EXIT.ok
  },
}
