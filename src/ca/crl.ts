// A complete CRL of one issuing CA, from the ledger's entries to signed bytes that are recorded and never rebuilt. Numbers come from
// the ledger's lock and only grow. Where and when it is published is the caller's.
import { createHash } from 'node:crypto'
import { fromHex, toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import type { ReachedStep } from '../base/steps.ts'
import { assembleCrl, createTbsCertListWriter, type RevocationReason } from '../pki/crl.ts'
import { checkSignature } from '../pki/signature.ts'
import type { SignerPort } from '../signer/port.ts'
import type { RevocationsPort, StatusPort } from '../store/ports.ts'
import type { CrlRecord, LeafDraft, RevokedEntry } from '../store/records.ts'
import { CaError } from './errors.ts'
import type { IssuingKey } from './issuance.ts'

/** Entries read from the ledger at a time: the event loop is free in between. */
const pageSize = 2000

/** An issuer as a CRL names it: its certificate's subject and key identifier, byte for byte. */
export interface CrlIssuer extends IssuingKey {
  readonly name: string
  readonly subjectDer: Uint8Array
  readonly keyIdentifier: Uint8Array
}

export interface CrlDeps {
  readonly clock: Clock
  readonly revocations: Pick<RevocationsPort, 'entries' | 'revision'>
  readonly status: Pick<StatusPort, 'reserveCrlNumber' | 'recordCrl' | 'latestCrl'>
  readonly signer: SignerPort
  readonly published: (issuer: CrlIssuer, crl: CrlRecord) => LeafDraft
  readonly lifetimeSeconds: number
  /** Between two lists when nothing is revoked. */
  readonly regularIntervalSeconds: number
  readonly signDeadlineMs: number
  readonly reached: ReachedStep
}

const serialBytes = (entry: RevokedEntry): Uint8Array => {
  const bytes = fromHex(entry.serial)
  if (bytes === null) throw new CaError('internal', 'a serial in the ledger is not hex')
  return bytes
}

/**
 * RFC 5280 §3.3: an entry stays until it was on one regularly scheduled CRL beyond the certificate's end. Lists that a revocation
 * caused come at any time and do not count as such: a relying party whose clock is behind would take the certificate for valid and
 * find it on no list. So it stays for a whole regular interval, and for longer when no list was made since.
 */
export const entriesSince = (last: CrlRecord | null, now: number, regularIntervalSeconds: number): number =>
  Math.min(now - regularIntervalSeconds * 1000, last?.thisUpdate ?? now) - 1

/**
 * Signs and records the next CRL of this issuer. The ledger's revision is read first, so a revocation that lands meanwhile is at
 * worst on this list already and makes the caller publish once more; it is never missed.
 * @returns the CRL and the revision of the revocation set it certainly covers
 * @throws SignerError when it cannot be signed: the number is burnt, the last CRL stays; StoreError `crl_number_regressed`
 */
export const issueCrl = async (
  deps: CrlDeps,
  issuer: CrlIssuer,
): Promise<{ readonly crl: CrlRecord; readonly revision: number }> => {
  const revision = deps.revocations.revision(issuer.id)
  const now = deps.clock.now()
  const number = await deps.status.reserveCrlNumber(issuer.id, now)
  deps.reached('crl 1')
  const thisUpdate = Math.floor(now / 1000) * 1000
  const nextUpdate = thisUpdate + deps.lifetimeSeconds * 1000
  const writer = createTbsCertListWriter({
    issuerName: issuer.subjectDer,
    signatureAlgorithm: issuer.signatureAlgorithm,
    authorityKeyId: issuer.keyIdentifier,
    crlNumber: number,
    thisUpdate,
    nextUpdate,
  })
  const since = entriesSince(deps.status.latestCrl(issuer.id), now, deps.regularIntervalSeconds)
  let after: string | null = null
  for (;;) {
    const page = deps.revocations.entries({ issuerId: issuer.id, since, after, limit: pageSize })
    for (const entry of page)
      writer.add({ serial: serialBytes(entry), revokedAt: entry.revokedAt, reason: entry.reason as RevocationReason })
    if (page.length < pageSize) break
    after = page.at(-1)?.serial ?? null
    await new Promise(setImmediate)
  }
  const tbs = writer.finish()
  deps.reached('crl 2')
  const signature = await deps.signer.sign({
    purpose: 'crl',
    key: issuer.keyLabel,
    tbs,
    priority: 'status',
    deadlineMs: deps.signDeadlineMs,
  })
  checkSignature(issuer.spki, issuer.signatureAlgorithm, tbs, signature)
  deps.reached('crl 3')
  const der = assembleCrl(tbs, issuer.signatureAlgorithm, signature)
  const crl: CrlRecord = {
    issuerId: issuer.id,
    number,
    thisUpdate,
    nextUpdate,
    sha256: toHex(createHash('sha256').update(der).digest()),
    entries: writer.entries,
    der,
  }
  await deps.status.recordCrl(crl, deps.published(issuer, crl))
  deps.reached('crl 4')
  return { crl, revision }
}
