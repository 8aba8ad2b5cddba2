/** Imports that the layers of src refuse, and such as they allow: planted by structure.test.ts. */

/** `folder/file` under src, what it must not import, and what it may. */
export const IMPORTS: readonly {
  file: string
  refused: readonly string[]
  allowed: readonly string[]
}[] = [
  {
    file: 'domain/x.ts',
    refused: [
      `import { a } from '../db/postgres/pool.ts'`,
      `import { a } from '../http/route.ts'`,
      `import type { A } from '../server.ts'`,
      `import { a } from '../../sim/apk.ts'`,
      `import pg from 'pg'`,
      `import { JWT } from 'google-auth-library'`,
    ],
    allowed: [
      `import { a } from './a.ts'`,
      `import { a } from '../lib/text.ts'`,
      `import { randomBytes } from 'node:crypto'`,
    ],
  },
  {
    file: 'lib/x.ts',
    refused: [
      `import { a } from '../db/postgres/pool.ts'`,
      `import { a } from '../domain/command.ts'`,
      `import type { A } from '../server.ts'`,
      `import { a } from '../../sim/apk.ts'`,
      `import pg from 'pg'`,
    ],
    allowed: [`import { a } from './a.ts'`, `import { AppError } from '../domain/errors.ts'`],
  },
  {
    file: 'telemetry/log/x.ts',
    refused: [
      `import { a } from '../../db/postgres/pool.ts'`,
      `import { a } from '../../domain/errors.ts'`,
      `import { a } from '../../http/route.ts'`,
      `import type { A } from '../../server.ts'`,
      `import { a } from '../../../sim/apk.ts'`,
      `import pg from 'pg'`,
    ],
    allowed: [`import { a } from './a.ts'`, `import { a } from '../metrics/registry.ts'`],
  },
  {
    file: 'cli/verbs/x.ts',
    refused: [
      `import { a } from '../../domain/errors.ts'`,
      `import type { A } from '../../db/devices/devices.ts'`,
      `import { a } from '../../http/fields.ts'`,
      `import { a } from '../../telemetry/log/log.ts'`,
      `import pg from 'pg'`,
    ],
    allowed: [
      `import { ago } from '../terminal/ago.ts'`,
      `import { a } from '../../lib/nearest.ts'`,
      `import { a } from '../../telemetry/log/readable-line.ts'`,
      `import { a } from '../../telemetry/log/events.ts'`,
      `import { a } from '../../app/version.ts'`,
    ],
  },
  {
    file: 'cli/doctor/x.ts',
    refused: [
      `import { a } from '../../http/fields.ts'`,
      `import type { A } from '../../routes/table.ts'`,
      `import { a } from '../../server.ts'`,
      `import pg from 'pg'`,
    ],
    allowed: [
      `import { a } from '../../app/startup.ts'`,
      `import { a } from '../../db/schema/migrate.ts'`,
      `import { a } from '../../push/fcm.ts'`,
      `import { a } from '../api/client.ts'`,
    ],
  },
  {
    file: 'http/x.ts',
    refused: [
      `import { a } from '../db/postgres/pool.ts'`,
      `import type { A } from '../routes/table.ts'`,
      `import { a } from '../apk/spool.ts'`,
      `import { a } from '../push/fcm.ts'`,
      `import { a } from '../config/config.ts'`,
      `import { a } from '../../sim/apk.ts'`,
      `import pg from 'pg'`,
      `import { JWT } from 'google-auth-library'`,
    ],
    allowed: [
      `import { Router } from '../router.ts'`,
      `import { a } from '../domain/errors.ts'`,
      `import { a } from '../security/denial.ts'`,
      `import type { Log } from '../telemetry/log/log.ts'`,
    ],
  },
  {
    file: 'http/connection/x.ts',
    refused: [
      `import { a } from '../../db/postgres/pool.ts'`,
      `import { a } from '../../config/config.ts'`,
      `import { a } from '../../../sim/apk.ts'`,
    ],
    allowed: [
      `import type { Exchange } from '../exchange.ts'`,
      `import { a } from '../../lib/linked-list.ts'`,
    ],
  },
  {
    file: 'routes/commands/x.ts',
    refused: [
      `import { a } from '../../db/commands/commands.ts'`,
      `import { QUERY } from '../../db/commands/commands.ts'`,
      `import { a } from '../../push/fcm.ts'`,
      `import { a } from '../../security/guard.ts'`,
      `import { a } from '../../apk/spool.ts'`,
      `import type { A } from '../../telemetry/log/log.ts'`,
      `import type { A } from '../../config/config.ts'`,
      `import { a } from '../../../sim/apk.ts'`,
      `import pg from 'pg'`,
      `import { JWT } from 'google-auth-library'`,
    ],
    allowed: [
      `import { json } from '../../http/route.ts'`,
      `import { AppError } from '../../domain/errors.ts'`,
      `import { a } from '../apks/build-json.ts'`,
      `import type { CommandRow } from '../../db/commands/commands.ts'`,
    ],
  },
  ...['push', 'security', 'apk'].map((folder) => ({
    file: `${folder}/x.ts`,
    refused: [
      ...['routes', 'http', 'db', 'push', 'security', 'apk']
        .filter((other) => other !== folder)
        .map((other) => `import type { A } from '../${other}/a.ts'`),
      `import { a } from '../telemetry/log/logger.ts'`,
      `import type { A } from '../config/config.ts'`,
      `import { a } from '../../sim/apk.ts'`,
      `import pg from 'pg'`,
    ],
    allowed: [
      `import { a } from '../domain/errors.ts'`,
      `import type { Log } from '../telemetry/log/log.ts'`,
    ],
  })),
  {
    file: 'db/commands/x.ts',
    refused: [
      ...['routes', 'http', 'push', 'security', 'apk'].map(
        (other) => `import type { A } from '../../${other}/a.ts'`,
      ),
      `import { a } from '../../telemetry/log/logger.ts'`,
      `import type { A } from '../../config/config.ts'`,
      `import { a } from '../../../sim/apk.ts'`,
      `import { JWT } from 'google-auth-library'`,
    ],
    allowed: [
      `import pg from 'pg'`,
      `import { a } from '../../lib/timeouts.ts'`,
      `import { a } from '../devices/push-id-limit.ts'`,
      `import type { Line } from '../../telemetry/log/log.ts'`,
    ],
  },
]
