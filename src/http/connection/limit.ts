/** Limits open connections, in all and per address; an idle one gives way to a new one. */
import type { Socket } from 'node:net'
import { LinkedList, type ListNode } from '../../lib/linked-list.ts'
import { isIpv6, subnetOf } from '../../lib/subnet.ts'
import { peerAddress } from '../client-address.ts'
import type { Connection } from './connection.ts'

/** Share of all connections that one address may hold, unless it is a trusted proxy: many phones share a NAT. */
const ADDRESS_SHARE = 1 / 2
/** How many of the least recently used connections are checked for an idle one. */
const EVICTION_CHECKS = 64

/** An admitted connection. */
export interface Admission {
  readonly connection: Connection
  inAll: ListNode<Admission> | undefined
  /** undefined: the peer is a trusted proxy. */
  ofAddress: { readonly key: string; readonly node: ListNode<Admission> } | undefined
}

export interface ConnectionLimitOptions {
  readonly max: number
  readonly isTrustedProxy: (address: string) => boolean
}

/** Connections in the order of their last use. An address has an entry only while it has connections. */
export class ConnectionLimit {
  readonly #max: number
  readonly #maxOfAddress: number
  readonly #isTrustedProxy: (address: string) => boolean
  readonly #all = new LinkedList<Admission>()
  readonly #addresses = new Map<string, LinkedList<Admission>>()
  #refused = 0
  #evicted = 0

  constructor({ max, isTrustedProxy }: ConnectionLimitOptions) {
    this.#max = max
    this.#maxOfAddress = Math.ceil(max * ADDRESS_SHARE)
    this.#isTrustedProxy = isTrustedProxy
  }

  /** Connections that are open. */
  get open(): number {
    return this.#all.size
  }

  get sockets(): readonly Socket[] {
    return Array.from(this.#all, ({ connection }) => connection.socket)
  }

  /** Connections closed unread because no other was idle, and connections that pipelined too much. */
  get refused(): number {
    return this.#refused
  }

  /** Idle connections closed to let another one in. */
  get evicted(): number {
    return this.#evicted
  }

  /**
   * Admits a connection. Over a limit, closes the one that has been idle for longest; if none is idle, closes this one and
   * returns undefined.
   */
  add(connection: Connection): Admission | undefined {
    const ofAddress = this.#listOf(connection)
    const isOver = ofAddress !== undefined && ofAddress.list.size >= this.#maxOfAddress
    if ((isOver && !this.#evict(ofAddress.list)) || !this.#hasRoom()) {
      this.countRefused()
      connection.socket.destroy()
      return undefined
    }
    const admission: Admission = { connection, inAll: undefined, ofAddress: undefined }
    admission.inAll = this.#all.add(admission)
    if (ofAddress !== undefined) {
      const { key, list } = ofAddress
      this.#addresses.set(key, list)
      admission.ofAddress = { key, node: list.add(admission) }
    }
    return admission
  }

  countRefused(): void {
    this.#refused += 1
  }

  /** A request has ended: the connection is the most recently used. */
  used({ inAll, ofAddress }: Admission): void {
    if (inAll !== undefined) this.#all.moveToEnd(inAll)
    if (ofAddress !== undefined) this.#addresses.get(ofAddress.key)?.moveToEnd(ofAddress.node)
  }

  /** The connection has closed. Repeatable. */
  remove(admission: Admission): void {
    const { inAll, ofAddress } = admission
    admission.inAll = admission.ofAddress = undefined
    if (inAll !== undefined) this.#all.remove(inAll)
    if (ofAddress === undefined) return
    const list = this.#addresses.get(ofAddress.key)
    list?.remove(ofAddress.node)
    if (list?.size === 0) this.#addresses.delete(ofAddress.key)
  }

  #hasRoom(): boolean {
    return this.#all.size < this.#max || this.#evict(this.#all)
  }

  /** Closes the connection of `list` that has been idle for longest; busy ones move to the end. */
  #evict(list: LinkedList<Admission>): boolean {
    for (let checks = 0; checks < EVICTION_CHECKS; checks += 1) {
      const oldest = list.first
      if (oldest === undefined) return false
      if (oldest.connection.isBusy) {
        this.used(oldest)
        continue
      }
      this.remove(oldest)
      this.#evicted += 1
      oldest.connection.socket.destroy()
      return true
    }
    return false
  }

  #listOf({ socket }: Connection): { key: string; list: LinkedList<Admission> } | undefined {
    const address = peerAddress(socket.remoteAddress)
    if (address === null || this.#isTrustedProxy(address)) return undefined
    const key = isIpv6(address) ? subnetOf(address) : address // a client with one IPv6 address has 2^64
    return { key, list: this.#addresses.get(key) ?? new LinkedList() }
  }
}
