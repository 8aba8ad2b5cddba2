/** The settings, as a start reads them, and what a start accepts but production does not work with. */
import { type Config, ConfigError, parseConfig, unknownNote } from '../../config/config.ts'
import { type Finding, fault, good } from './finding.ts'

const AREA = 'settings'
const ANYBODY = /^(0\.0\.0\.0|::)\/0$/

/** undefined: a start would refuse them. */
export function checkConfiguration(
  env: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
): { readonly config: Config | undefined; readonly findings: readonly Finding[] } {
  let config: Config
  try {
    config = parseConfig(env, readFile)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return { config: undefined, findings: error.faults.map((text) => fault(AREA, text)) }
  }
  const faults = [
    ...config.unknownVariables.map((variable) => fault(AREA, unknownNote(variable))),
    ...proxyFaults(config),
    ...safetyFaults(config),
  ]
  const mode = config.isProduction ? 'for production' : 'not for production (NODE_ENV)'
  return { config, findings: faults.length > 0 ? faults : [good(AREA, `valid, ${mode}`)] }
}

/** The service does not terminate TLS, so phones come through a proxy or not at all. */
function proxyFaults(config: Config): readonly Finding[] {
  const { isProduction, requireHttps, trustedProxies, plaintextOkCidrs } = config
  const open = trustedProxies.find((cidr) => ANYBODY.test(cidr))
  if (open !== undefined) {
    const risk = `TRUSTED_PROXIES: with ${open} anybody can claim another address and https`
    return [fault('proxies', `${risk}; list only the addresses of your proxies`)]
  }
  const isUnreachable =
    isProduction && requireHttps && trustedProxies.length === 0 && plaintextOkCidrs.length === 0
  if (!isUnreachable) return []
  const effect = 'TRUSTED_PROXIES is empty: phones behind a proxy get 403 https_required'
  return [fault('proxies', `${effect}; list the addresses of the proxy that terminates TLS`)]
}

function safetyFaults({ isProduction, allowUnsafeDatabase }: Config): readonly Finding[] {
  if (!isProduction || !allowUnsafeDatabase) return []
  return [
    fault(
      AREA,
      'ALLOW_UNSAFE_DATABASE is true in production: unset it once the database is mended',
    ),
  ]
}
