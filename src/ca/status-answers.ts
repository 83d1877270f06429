// What the status listener serves, as the parts that make it offer it: finished bytes with their validity, no signing on the request
// path where it can be avoided. No code here, so that the listener need not load the authority.

import type { Pieces } from '../base/pieces.ts'
import type { Shard } from '../pki/crl-shards.ts'

/** Bytes that are never rebuilt for a request. */
export interface PublishedCrl {
  readonly issuer: string
  /** null: the complete list. */
  readonly shard: Shard | null
  readonly number: bigint
  readonly der: Uint8Array
  readonly thisUpdate: number
  readonly nextUpdate: number
  readonly entries: number
  /** Lower-case hex; the ETag. */
  readonly sha256: string
}

export interface CrlSource {
  /** The complete list. null: no such CA, or no list yet. */
  byIssuer(name: string): PublishedCrl | null
  /** One of its shards. null: no such CA or shard, or no list yet. */
  shardOf(name: string, shard: Shard): PublishedCrl | null
  /** Of every set that certificates of this CA may name. */
  shardsOf(name: string): readonly PublishedCrl[]
  /** PEM with one CRL for every CA in the chain (OpenSSL demands it), and its ETag. */
  bundle(): {
    readonly pem: Uint8Array | Pieces
    readonly sha256: string
    readonly thisUpdate: number
    readonly nextUpdate: number
  }
}

/** One answer of the OCSP responder; always HTTP 200 (RFC 6960 App. A). */
export interface OcspReply {
  readonly der: Uint8Array
  /** RFC 5019 §6.2 headers come from these; null: not to be cached (errors, answers with a nonce). */
  readonly validity: { readonly thisUpdate: number; readonly nextUpdate: number; readonly sha1Hex: string } | null
}

export interface OcspSource {
  /** Never rejects: what cannot be answered is an OCSP error response. A cached answer comes back synchronously. */
  respond(request: Uint8Array): OcspReply | Promise<OcspReply>
  /**
   * Whether the reply may be given once more, to the very bytes it was given to; counts it as given. For a listener that knows a
   * question by its text: no from the moment the ledger says something else, and now and then, so that `respond` sees what is asked.
   */
  again(reply: OcspReply): boolean
}
