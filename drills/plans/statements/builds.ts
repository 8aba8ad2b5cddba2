/** Downloads of builds, their withdrawal and release, the signers that are pinned, and builds of a former release. */
import { randomUUID } from 'node:crypto'
import { apkStore } from '../../../src/db/apks/apks.ts'
import { downloadStore } from '../../../src/db/apks/downloads.ts'
import { checkSigners, pinSigners } from '../../../src/db/apks/signer-pins.ts'
import { deviceId, type Installation } from '../installation.ts'
import { BY } from './push.ts'
import { BOTH, type Statement } from './statement.ts'

export function buildStatements({ builds }: Installation): readonly Statement[] {
  return [
    {
      title: 'download begun and completed',
      modes: BOTH,
      async run(database) {
        const eventId = randomUUID()
        const downloader = { source: 'ota', deviceId: deviceId(1) } as const
        const request = { ip: null, requestId: 'r', statusCode: 200, rangeStart: null }
        const store = downloadStore(database, database)
        await store.begin({ eventId, buildId: 'build-1', downloader, ...request })
        await store.complete(eventId, 1, true, null)
      },
      index: 'apk_download_events_pkey',
      mostRows: 1,
    },
    {
      title: 'build withdrawn, and again',
      modes: BOTH,
      async run(database) {
        await apkStore(database).withdraw('build-1', BY)
        await apkStore(database).withdraw('build-1', BY)
      },
      mostRows: 6,
      mostPages: 60,
    },
    {
      title: 'build of a former release read, its signer pinned and changed, another unreadable',
      modes: BOTH,
      async run(database) {
        const store = apkStore(database)
        const levels = { packageName: 'com.example.app', minSdk: 24, targetSdk: 34 }
        const facts = { ...levels, isDebuggable: true, signing: 'v2', signers: ['00'] } as const
        await store.nextUnread()
        await store.describe('build-1', { facts, replaced: [] })
        await store.markUnreadable('build-1', 'damaged')
        await store.release('build-1', BY)
        const signed = { ...facts, buildId: 'build-1', mayReplace: () => true }
        await checkSigners(database, signed)
        await pinSigners(database, signed, true)
        await pinSigners(database, { ...signed, signers: ['01'] }, true)
      },
      mostRows: 12,
      mostPages: 120 + builds, // without a pin it reads the live builds of the package, once
    },
    {
      title: 'phones that report a version',
      modes: BOTH,
      run: (database) =>
        apkStore(database).countReported([
          { buildId: 'build-1', versionCode: 1, versionName: 'none', facts: null },
        ]),
      mostRows: 0,
      mostPages: 20_000,
    },
  ]
}
