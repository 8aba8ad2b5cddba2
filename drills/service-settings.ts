/** What each drill's service is told, and the credentials that it then takes. */
import type { FcmStandIn } from '../sim/fcm-stand-in.ts'

export const ADMIN_TOKEN = 'drill-admin-token-0123456789abcdef'
/** A lone HMAC_SECRET has the id `default`. */
export const HMAC_SECRET = { id: 'default', secret: 'drill-hmac-secret-0123456789abcdef' }

export function serviceSettings(databaseUrl: string, dataDir: string) {
  return {
    DATABASE_URL: databaseUrl,
    DATA_DIR: dataDir,
    ADMIN_TOKENS: `drill=${ADMIN_TOKEN}`,
    HMAC_SECRET: HMAC_SECRET.secret,
  }
}

/** Of a service that pushes to `fcm`, or to what stands before it. */
export function pushSettings(fcm: Pick<FcmStandIn, 'serviceAccount' | 'baseUrl'>) {
  return { FIREBASE_SERVICE_ACCOUNT_JSON: fcm.serviceAccount.json, FCM_BASE_URL: fcm.baseUrl }
}
