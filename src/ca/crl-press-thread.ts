// The thread in which long lists are written. Beside the event loop's own it has nothing: no ledger, no signer, no files. What goes to
// and fro are transferred buffers, never copies.
import { parentPort } from 'node:worker_threads'
import { createCrlTables, finishList, type SignedList, type SignedOrder } from './crl-press.ts'
import type { EntryPage, ListOrder, UnsignedList } from './crl-table.ts'

export type ToPress =
  | { readonly kind: 'apply'; readonly issuerId: number; readonly page: EntryPage }
  | { readonly kind: 'write'; readonly id: number; readonly issuerId: number; readonly order: ListOrder }
  | { readonly kind: 'finish'; readonly id: number; readonly order: SignedOrder }

export type FromPress =
  | { readonly kind: 'written'; readonly id: number; readonly list: UnsignedList }
  | { readonly kind: 'finished'; readonly id: number; readonly list: SignedList }
  | { readonly kind: 'failed'; readonly id: number; readonly message: string }

const tables = createCrlTables()

const answer = (message: ToPress): { readonly message: FromPress; readonly moved: ArrayBuffer } | null => {
  switch (message.kind) {
    case 'apply':
      tables.of(message.issuerId).apply(message.page)
      return null
    case 'write': {
      const list = tables.of(message.issuerId).write(message.order)
      return { message: { kind: 'written', id: message.id, list }, moved: list.buffer.buffer }
    }
    case 'finish': {
      const list = finishList(message.order)
      return { message: { kind: 'finished', id: message.id, list }, moved: list.der.buffer }
    }
  }
}

parentPort?.on('message', (message: ToPress) => {
  try {
    const made = answer(message)
    if (made !== null) parentPort?.postMessage(made.message, [made.moved])
  } catch (error) {
    // A page that cannot be taken would be missing from every later list: better no thread than that.
    if (message.kind === 'apply') throw error
    const text = error instanceof Error ? error.message : String(error)
    parentPort?.postMessage({ kind: 'failed', id: message.id, message: text } satisfies FromPress)
  }
})
