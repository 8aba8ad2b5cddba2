/** Admin tokens: finds the token of a secret in constant time and checks its scopes. */
import { timingSafeEqual } from 'node:crypto'
import type { Admin, AdminScope, AdminToken } from '../domain/identity.ts'
import { hashToken } from './tokens.ts'

/** Compares with every token, so that the time reveals nothing. */
export function adminLookup(tokens: readonly AdminToken[]): (secret: string) => Admin | undefined {
  const known = tokens.map((token) => ({ admin: token, hash: hashToken(token.secret) }))
  return (secret) => {
    const hash = hashToken(secret)
    let found: Admin | undefined
    for (const { admin, hash: expected } of known) {
      if (timingSafeEqual(hash, expected)) found = admin
    }
    return found
  }
}

export function mayUse(admin: Admin, scopes: readonly AdminScope[]): boolean {
  return admin.scopes.includes('admin') || scopes.some((scope) => admin.scopes.includes(scope))
}
