// A CRL of one issuing CA, complete or of one shard, from what is revoked to signed bytes that are recorded and never rebuilt. Numbers
// come from the ledger's lock and only grow. Where and when it is published is the caller's.
import type { Clock } from '../base/clock.ts'
import type { ReachedStep } from '../base/steps.ts'
import { allOctets, type OctetRange, type Shard } from '../pki/crl-shards.ts'
import type { SignerPort } from '../signer/port.ts'
import type { StatusPort } from '../store/ports.ts'
import type { CrlRecord, LeafDraft } from '../store/records.ts'
import type { CrlEntries } from './crl-entries.ts'
import type { IssuingKey } from './issuance.ts'

/** An issuer as a CRL names it: its certificate's subject and key identifier, byte for byte. */
export interface CrlIssuer extends IssuingKey {
  readonly name: string
  readonly subjectDer: Uint8Array
  readonly keyIdentifier: Uint8Array
}

export interface CrlDeps {
  readonly clock: Clock
  readonly entries: Pick<CrlEntries, 'follow' | 'write' | 'finish'>
  readonly signer: SignerPort
  readonly published: (issuer: CrlIssuer, list: ListFacts, shard: Shard | null) => LeafDraft
  readonly lifetimeSeconds: number
  /** Between two lists when nothing is revoked. */
  readonly regularIntervalSeconds: number
  readonly signDeadlineMs: number
  readonly reached: ReachedStep
}

export type ListFacts = Omit<CrlRecord, 'issuerId' | 'der'>

/** Which certificates a list is about, and the sequence of its numbers. */
export interface CrlScope {
  readonly octets: OctetRange
  /** null: the complete list. */
  readonly shard: Shard | null
  /** The URL in the certificates that it covers, byte for byte; null: the complete list, which says no scope. */
  readonly distributionPoint: string | null
  /** The next number: above `seen`, the last that is known to have been published, and above every one that was reserved. */
  reserve(now: number, seen: bigint): Promise<bigint>
  last(): Pick<CrlRecord, 'thisUpdate'> | null
  /** @throws StoreError `crl_number_regressed` */
  record(list: IssuedCrl, leaf: LeafDraft): Promise<void>
}

export interface IssuedCrl extends ListFacts {
  readonly der: Uint8Array
  /** Of the revocations that it certainly shows. */
  readonly revision: number
}

/** A longer one would keep the ledger from other work while it is written; its file is enough. */
const maxRecordedBytes = 1 << 20

/** The list of everything that an issuer revoked. */
export const completeScope = (
  status: Pick<StatusPort, 'reserveCrlNumber' | 'recordCrl' | 'latestCrl'>,
  issuerId: number,
): CrlScope => ({
  octets: allOctets,
  shard: null,
  distributionPoint: null,
  reserve: now => status.reserveCrlNumber(issuerId, now),
  last: () => status.latestCrl(issuerId),
  record: ({ der, revision: _, ...facts }, leaf) =>
    status.recordCrl({ issuerId, ...facts, der: der.length > maxRecordedBytes ? null : der }, leaf),
})

/**
 * RFC 5280 §3.3: an entry stays until it was on one regularly scheduled CRL beyond the certificate's end. Lists that a revocation
 * caused come at any time and do not count as such: a relying party whose clock is behind would take the certificate for valid and
 * find it on no list. So it stays for a whole regular interval, and for longer when no list was made since.
 */
export const entriesSince = (
  last: Pick<CrlRecord, 'thisUpdate'> | null,
  now: number,
  regularIntervalSeconds: number,
): number => Math.min(now - regularIntervalSeconds * 1000, last?.thisUpdate ?? now) - 1

/**
 * Signs and records the next CRL of this issuer and scope. What is revoked while it is made is at worst on it already and makes the
 * caller publish once more; it is never missed.
 * @throws SignerError when it cannot be signed: the number is burnt, the last CRL stays; StoreError `crl_number_regressed`
 */
export const issueCrl = async (deps: CrlDeps, issuer: CrlIssuer, scope: CrlScope, seen: bigint): Promise<IssuedCrl> => {
  const followed = await deps.entries.follow(issuer.id)
  const now = deps.clock.now()
  const number = await scope.reserve(now, seen)
  deps.reached('crl 1')
  const thisUpdate = Math.floor(now / 1000) * 1000
  const nextUpdate = thisUpdate + deps.lifetimeSeconds * 1000
  const { distributionPoint, octets } = scope
  const list = await deps.entries.write(followed, {
    octets,
    since: entriesSince(scope.last(), now, deps.regularIntervalSeconds),
    fields: {
      issuerName: issuer.subjectDer,
      signatureAlgorithm: issuer.signatureAlgorithm,
      authorityKeyId: issuer.keyIdentifier,
      crlNumber: number,
      thisUpdate,
      nextUpdate,
      ...(distributionPoint === null ? {} : { distributionPoint: { uris: [distributionPoint] } }),
    },
  })
  deps.reached('crl 2')
  const signature = await deps.signer.sign({
    purpose: 'crl',
    key: issuer.keyLabel,
    tbs: list.buffer.subarray(list.from, list.to),
    priority: 'status',
    deadlineMs: deps.signDeadlineMs,
  })
  const { entries } = list
  const { signatureAlgorithm: algorithm, spki } = issuer
  const { der, sha256 } = await deps.entries.finish(followed, { list, algorithm, signature, spki: spki.der })
  deps.reached('crl 3')
  const facts = { number, thisUpdate, nextUpdate, sha256, entries }
  const crl = { ...facts, der, revision: followed.revision }
  await scope.record(crl, deps.published(issuer, facts, scope.shard))
  deps.reached('crl 4')
  return crl
}
