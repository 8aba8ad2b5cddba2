/** Settings of each drill's service, and its credentials. */

export const ADMIN_TOKEN = 'drill-admin-token-Qd8vXr2kWz9mBt4sLh7cYp3n'
/** A lone HMAC_SECRET has the id `default`. */
export const HMAC_SECRET = { id: 'default', secret: 'drill-hmac-secret-Qd8vXr2kWz9mBt4sLh7cYp3n' }

export function serviceSettings(databaseUrl: string, dataDir: string) {
  return {
    DATABASE_URL: databaseUrl,
    DATA_DIR: dataDir,
    ADMIN_TOKENS: `drill=${ADMIN_TOKEN}`,
    HMAC_SECRET: HMAC_SECRET.secret,
  }
}
