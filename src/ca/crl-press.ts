// Where lists are written: one table per issuing CA, filled by pages, and lists made of them in two steps with the signature in between.
// One implementation for both places: in the event loop, and in a thread (crl-press-thread.ts) once there is much to write.
import { createHash } from 'node:crypto'
import { concatBytes, toHex } from '../base/bytes.ts'
import { encodeSignatureAlgorithm, type SignatureAlgorithm } from '../pki/algorithms.ts'
import { bitString } from '../pki/der.ts'
import { checkSignature } from '../pki/signature.ts'
import { parseSubjectPublicKeyInfo } from '../pki/spki.ts'
import {
  type CrlTable,
  closeList,
  createCrlTable,
  type EntryPage,
  type ListOrder,
  type UnsignedList,
} from './crl-table.ts'

export interface SignedOrder {
  readonly list: UnsignedList
  readonly algorithm: SignatureAlgorithm
  /** Content of the BIT STRING. */
  readonly signature: Uint8Array
  /** DER of the issuer's SubjectPublicKeyInfo: the signature is checked before the list leaves. */
  readonly spki: Uint8Array
}

export interface SignedList {
  /** The whole list; its buffer holds nothing else of use. */
  readonly der: Uint8Array<ArrayBuffer>
  readonly sha256: string
}

/** Pages and orders take effect in the order in which they are given. */
export interface CrlPress {
  apply(issuerId: number, page: EntryPage): void
  /** @throws PkiError not_encodable */
  write(issuerId: number, order: ListOrder): Promise<UnsignedList>
  /** The list's buffer is not to be used afterwards. @throws PkiError signature_invalid */
  finish(order: SignedOrder): Promise<SignedList>
  close(): Promise<void>
}

export const finishList = ({ list, algorithm, signature, spki }: SignedOrder): SignedList => {
  const tbs = list.buffer.subarray(list.from, list.to)
  checkSignature(parseSubjectPublicKeyInfo(spki), algorithm, tbs, signature)
  const der = closeList(list, concatBytes([encodeSignatureAlgorithm(algorithm), bitString(signature)]))
  return { der, sha256: toHex(createHash('sha256').update(der).digest()) }
}

export interface CrlTables {
  of(issuerId: number): CrlTable
}

export const createCrlTables = (): CrlTables => {
  const tables = new Map<number, CrlTable>()
  return {
    of: issuerId => {
      const table = tables.get(issuerId) ?? createCrlTable()
      tables.set(issuerId, table)
      return table
    },
  }
}

/** In the event loop: for as little as takes no time worth mentioning. */
export const createInlinePress = (): CrlPress => {
  const tables = createCrlTables()
  return {
    apply: (issuerId, page) => tables.of(issuerId).apply(page),
    write: async (issuerId, order) => tables.of(issuerId).write(order),
    finish: async order => finishList(order),
    close: async () => {},
  }
}
