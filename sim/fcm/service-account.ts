/** A fake Google service account with a real RSA key, which the fake FCM accepts. Development code. */
import { generateKeyPair, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import type { ServiceAccount } from '../../src/domain/identity.ts'

export interface MadeServiceAccount {
  readonly account: ServiceAccount
  /**
   * For FIREBASE_SERVICE_ACCOUNT_JSON, or a file for GOOGLE_APPLICATION_CREDENTIALS: the fields that Google writes.
   */
  readonly json: string
  readonly publicKey: KeyObject
}

export interface KeyPair {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

/** RSA, 2048 bits, as Google's. It takes 0.1 to 0.7 s; share it within a test file. */
export function makeKeyPair(): Promise<KeyPair> {
  return promisify(generateKeyPair)('rsa', { modulusLength: 2048 })
}

export async function makeServiceAccount(options: {
  readonly tokenUri: string
  readonly projectId?: string
  readonly keyPair?: KeyPair
}): Promise<MadeServiceAccount> {
  const { tokenUri, projectId = 'fleetloop-sim' } = options
  const pair = options.keyPair ?? (await makeKeyPair())
  const privateKey = pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const clientEmail = `firebase-adminsdk@${projectId}.iam.gserviceaccount.com`

  return {
    account: { projectId, clientEmail, privateKey, tokenUri },
    json: JSON.stringify({
      type: 'service_account',
      project_id: projectId,
      private_key_id: 'simulated',
      private_key: privateKey,
      client_email: clientEmail,
      token_uri: tokenUri,
    }),
    publicKey: pair.publicKey,
  }
}
