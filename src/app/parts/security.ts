/** Guards, signatures and command keys, from the configured secrets. */
import type { Config } from '../../config/config.ts'
import type { Stores } from '../../db/stores.ts'
import { singleFlight } from '../../lib/timeouts.ts'
import { createCommandKeys } from '../../security/command-keys.ts'
import { createDeadTokens } from '../../security/dead-tokens.ts'
import { createGuards } from '../../security/guard.ts'
import { createSignatures } from '../../security/signature.ts'

export function createSecurity(config: Config, stores: Stores, now: () => Date) {
  const deadTokens = createDeadTokens()
  return {
    deadTokens,
    guards: createGuards({
      adminTokens: config.adminTokens,
      hmacSecrets: config.hmacSecrets,
      authenticateDevice: stores.deviceTokens.authenticate,
      enrollmentTokens: stores.tokens,
      deadTokens,
      hasDevices: singleFlight(stores.devices.exist),
    }),
    signatures: createSignatures({
      adminSecret: config.adminHmacSecret,
      requireSignedResults: config.requireSignedResults,
      remember: stores.signatures.remember,
      now,
    }),
    commandKeys: createCommandKeys(config.hmacSecrets),
  }
}
