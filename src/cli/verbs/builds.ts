/** `builds`: the APKs. */
import type { ListedBuild } from '../api/openapi.ts'
import { pages } from '../api/pages.ts'
import { ago } from '../terminal/ago.ts'
import { LIMIT, limitOf, printList } from '../terminal/list.ts'
import type { Cell } from '../terminal/table.ts'
import { visible } from '../terminal/text.ts'
import { EXIT, type Verb } from '../verb.ts'
import { liveBuilds } from '../why/apk.ts'

const MIB = 1024 ** 2

/** `4 KiB`, `12.3 MiB`. */
export function sizeText(bytes: number): string {
  return bytes < MIB ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / MIB).toFixed(1)} MiB`
}

export const buildsVerb: Verb = {
  name: 'builds',
  summary: 'list APKs, newest first, and which of them phones get',
  words: '',
  count: [0, 0],
  options: { type: { value: 'TYPE', help: 'only of this build type' }, ...LIMIT },
  calls: ['listBuilds'],
  examples: ['builds', 'builds --type release --limit 5'],
  async run(context) {
    const api = context.api()
    const type = context.args.text('type')
    const live = context.isJson ? [] : (await liveBuilds(api)).map(({ build_id }) => build_id)
    const stateOf = ({ build_id, state }: ListedBuild) =>
      state === 'live' && !live.includes(build_id) ? 'older' : state
    const list = {
      columns: [
        { title: 'BUILD' },
        { title: 'TYPE' },
        { title: 'VERSION', align: 'right', isFixed: true },
        { title: 'NAME' },
        { title: 'STATE', isFixed: true },
        { title: 'PHONES', align: 'right', isFixed: true },
        { title: 'SIZE', align: 'right', isFixed: true },
        { title: 'PUBLISHED', isFixed: true },
        { title: 'BY' },
        { title: 'PACKAGE' },
        { title: 'SHA256', isFixed: true },
      ] as const,
      nothing:
        type === undefined
          ? 'No APK was published: fleetloop publish app.apk'
          : `No APK of the type ${visible(type)} was published: fleetloop builds`,
      row: (build: ListedBuild): readonly Cell[] => [
        ...[build.build_id, build.build_type, build.version_code, build.version_name],
        ...[
          stateOf(build),
          build.devices,
          sizeText(build.size_bytes),
          ago(build.published_at, api.now()),
        ],
        ...[build.published_by, build.package, build.sha256],
      ],
    }
    const query = type === undefined ? {} : { build_type: type }
    await printList(context, list, pages(api, 'listBuilds', 'builds', query, limitOf(context)))
    return EXIT.ok
  },
}
