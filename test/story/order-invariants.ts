// What must hold of ACME's orders (invariants.ts has the rest): an account that a client was told of is there, an order that was answered
// with a certificate has exactly that one, and no account got a certificate that none of its orders has.
import type Database from 'better-sqlite3'
import { parseCertificate } from '../../src/pki/certificate.ts'
import type { Judged } from './invariants.ts'
import { idText } from './stored-ids.ts'

/** An order whose certificate reached its client. */
export interface Ordered {
  /** Its account, which is an instance. */
  readonly account: string
  readonly order: string
  readonly der: Uint8Array
}

export interface OrderRow {
  readonly id: string
  readonly account: string
  /** Serial, recorded with the intent. */
  readonly certificate: string | null
}

export interface OrdersView {
  readonly accounts: ReadonlySet<string>
  readonly orders: ReadonlyMap<string, OrderRow>
}

export const readOrders = (db: Database.Database): OrdersView => {
  const accounts = db
    .prepare(`SELECT ${idText('i.id')} AS id FROM acme_account a JOIN instance i ON i.seq = a.instance`)
    .pluck()
    .all() as string[]
  const orders = db
    .prepare(
      `SELECT o.id, ${idText('i.id')} AS account, iif(o.certificate IS NULL, NULL, lower(hex(o.certificate))) AS certificate
       FROM acme_order o JOIN instance i ON i.seq = o.account`,
    )
    .all() as OrderRow[]
  return { accounts: new Set(accounts), orders: new Map(orders.map(row => [row.id, row])) }
}

export function* orders({ ledger, evidence }: Judged): Iterable<string> {
  const { accounts, orders: rows } = ledger.acme
  const certificateOf = new Map<string, string>()
  for (const { account, order, der } of evidence.ordered) {
    const serial = parseCertificate(der).serialHex
    const row = rows.get(order)
    if (!accounts.has(account)) yield `account ${account} is gone`
    if (row?.account !== account) yield `order ${order} is not one of account ${account}`
    if (row?.certificate !== serial) yield `order ${order} was answered with ${serial}, it has ${row?.certificate}`
    if ((certificateOf.get(order) ?? serial) !== serial) yield `order ${order} was answered with two certificates`
    certificateOf.set(order, serial)
  }
  const known = new Set(evidence.ordered.map(({ account }) => account))
  const ordered = new Set([...rows.values()].map(({ certificate }) => certificate))
  for (const { serial, instance, issued_at } of ledger.certificates)
    if (issued_at !== null && known.has(instance) && !ordered.has(serial))
      yield `${serial} was issued to account ${instance} and is no order's`
}
