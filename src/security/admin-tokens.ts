/** Admin tokens: which name a secret belongs to, found in constant time, and whether its scopes suffice. */
import { timingSafeEqual } from 'node:crypto'
import type { AdminScope } from '../domain/identity.ts'
import { hashToken } from './tokens.ts'

export interface AdminToken {
  readonly name: string
  readonly scopes: readonly AdminScope[]
  readonly secret: string
}

export interface Admin {
  readonly name: string
  readonly scopes: readonly AdminScope[]
}

/** A look-up that compares with every token, whichever matches: its time tells nothing. */
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
