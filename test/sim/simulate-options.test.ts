/** The command line of `npm run simulate`. */
import t from 'tap'
import { readCommandLine, UsageError } from '../../sim/simulate/options.ts'

t.test('the command line is read, and refused in words', (t) => {
  const read = (...args: readonly string[]) => readCommandLine(args, { ADMIN_TOKEN: 'token' }, 'id')
  t.match(read(), {
    ...{ origin: 'http://127.0.0.1:8080', adminToken: 'token', aliasPrefix: 'sim-id' },
    ...{ devices: 10, minutes: 1, intervalS: 600, commandsPerMinute: 6, commandTtlS: 1_200 },
  })
  t.match(read('--devices', '1000', '--heartbeats', '2'), { commandsPerMinute: 100, minutes: 60 })
  t.equal(read('--help'), 'help')
  const faults: readonly (readonly [args: readonly string[], message: RegExp])[] = [
    [['--device', '1'], /--device/],
    [['extra'], /extra/],
    [['--admin-token', 'in-ps'], /--admin-token/],
    [['--url', 'localhost:8080'], /--url is http/],
    [['--url', 'http://host/path'], /without a path/],
    [['--url', 'http://fleet.example'], /in clear; give https/],
    [['--minutes', ''], /--minutes is a number/],
    [['--late', '1.5'], /--late is a number from 0 to 1/],
    [['--late', '0.6', '--never', '0.6'], /more than all commands/],
    [['--commands', '5', '--commands-per-minute', '0'], /--commands needs/],
    [['--alias-prefix', '=x'], /--alias-prefix/],
    [['--admin-token-file', '/nowhere/token'], /\/nowhere\/token cannot be read/],
  ]
  for (const [args, message] of faults) {
    const first = args[0] ?? ''
    t.throws(() => readCommandLine(args, {}, 'id'), UsageError, first)
    t.throws(() => readCommandLine(args, {}, 'id'), { message }, first)
  }
  t.end()
})
