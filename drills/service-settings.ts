/** What each drill's service is told, and the credentials that it then takes. */

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
