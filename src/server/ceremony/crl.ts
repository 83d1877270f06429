// The root's CRL, signed in the root's token: long-lived, rarely more than empty, and demanded by every relying party that checks the
// whole chain. A revocation once published is never taken back.
import { toHex } from '../../base/bytes.ts'
import { signatureAlgorithmFor } from '../../pki/algorithms.ts'
import type { Certificate } from '../../pki/certificate.ts'
import { assembleCrl, encodeTbsCertList, parseCrl, type RevokedEntry } from '../../pki/crl.ts'
import { nameToString } from '../../pki/names.ts'
import { serialFromHex, serialHex } from '../../pki/serial.ts'
import { verifySignature } from '../../pki/signature.ts'
import { keyIdentifier } from '../../pki/spki.ts'
import type { CeremonyInput } from '../../schema/ceremony.ts'
import { crlRules, type ExpectedCrl } from './crl-rules.ts'
import { timeText } from './draft.ts'
import { CeremonyError } from './errors.ts'
import type { OutputFile } from './output.ts'
import { requireRules } from './rules.ts'
import { type CeremonyDeps, checkRootStep, fingerprintOf, prepareStep, withRootKey, writeStep } from './steps.ts'
import type { TokenTarget } from './token-target.ts'
import type { Facts } from './transcript.ts'

export interface CrlRequest {
  readonly input: CeremonyInput<'crl'>
  readonly root: Certificate
  readonly rootToken: TokenTarget
  /** DER of the list that is published now; null for the first one. */
  readonly previous: Uint8Array | null
  /** DER. */
  readonly output: OutputFile
}

export interface RootCrl {
  readonly der: Uint8Array
  readonly number: bigint
  readonly thisUpdate: number
  readonly nextUpdate: number
  readonly entries: number
}

const previousList = ({ root, previous }: CrlRequest): { number: bigint | null; serials: readonly string[] } => {
  if (previous === null) return { number: null, serials: [] }
  const crl = parseCrl(previous)
  if (
    Buffer.compare(crl.issuerName, root.subjectDer) !== 0 ||
    !verifySignature(root.spki, crl.signatureAlgorithm, crl.tbs, crl.signature)
  )
    throw new CeremonyError('ceremony_refused', 'the previous list is not signed by this root', {
      hint: 'name the root’s published list with --previous',
    })
  return { number: crl.crlNumber, serials: [...crl.entries()].map(({ serial }) => serialHex(serial)) }
}

/** What the list will say. @throws CeremonyError `ceremony_refused` with every fault */
const draftCrl = (request: CrlRequest, now: number): ExpectedCrl => {
  const { input, root } = request
  const previous = previousList(request)
  const thisUpdate = Math.floor(now / 1000) * 1000
  const nextUpdate = thisUpdate + input.lifetime * 1000
  const listed = new Set(input.revoked.map(({ serial }) => serial))
  const lost = previous.serials.filter(serial => !listed.has(serial))
  const faults = [
    nextUpdate > root.notAfter && `the list would outlive the root, which ends ${timeText(root.notAfter)}`,
    root.keyUsage !== null &&
      !root.keyUsage.includes('cRLSign') &&
      'the root’s key usage does not allow it to sign CRLs',
    lost.length > 0 && `revoked before and not in the input: ${lost.join(', ')}`,
    ...input.revoked.map(({ serial, at }) => at > now && `${serial} would be revoked in the future, ${timeText(at)}`),
    listed.has(root.serialHex) && 'a root cannot revoke itself: it is removed from the relying parties’ stores',
  ].filter(fault => fault !== false)
  if (faults.length > 0) throw new CeremonyError('ceremony_refused', faults.join('; '), { facts: { faults } })
  return {
    issuer: root,
    number: maxNumber((previous.number ?? -1n) + 1n, BigInt(now)),
    previousNumber: previous.number,
    thisUpdate,
    nextUpdate,
    entries: input.revoked.map(({ serial, at, reason }): RevokedEntry => {
      // Whole seconds, as the list has them.
      const revokedAt = Math.floor(at / 1000) * 1000
      return { serial: serialFromHex(serial), revokedAt, reason }
    }),
  }
}

const maxNumber = (a: bigint, b: bigint): bigint => (a > b ? a : b)

const crlFacts = (draft: ExpectedCrl): Facts => ({
  issuer: nameToString(draft.issuer.subject),
  number: String(draft.number),
  'previous number': draft.previousNumber === null ? 'none' : String(draft.previousNumber),
  'this update': timeText(draft.thisUpdate),
  'next update': timeText(draft.nextUpdate),
  revoked: draft.entries.map(({ serial, revokedAt, reason }) => ({
    serial: serialHex(serial),
    at: timeText(revokedAt),
    reason: reason ?? 'unspecified',
  })),
})

/**
 * @returns the list, checked and written; null after a dry run
 * @throws CeremonyError, TokenError, SignerError: each is in the transcript too
 */
export const performCrlCeremony = async (deps: CeremonyDeps, request: CrlRequest): Promise<RootCrl | null> => {
  const { transcript, judge } = deps
  const { input, root, output } = request
  await checkRootStep(deps, root)
  const draft = await transcript.step('draft the list', () => {
    const value = draftCrl(request, deps.clock.now())
    return { facts: crlFacts(value), value }
  })
  await prepareStep(deps, output, () => ({}))
  const rootKey = { token: request.rootToken, keyLabel: input.issuer.keyLabel, root }
  const der = await withRootKey(deps, rootKey, async key => {
    if (deps.mode === 'dry-run') return null
    return transcript.step('sign the list', async () => {
      const signatureAlgorithm = signatureAlgorithmFor(root.spki.algorithm)
      const tbs = encodeTbsCertList({
        issuerName: root.subjectDer,
        signatureAlgorithm,
        authorityKeyId: root.subjectKeyIdentifier ?? keyIdentifier(root.spki),
        crlNumber: draft.number,
        thisUpdate: draft.thisUpdate,
        nextUpdate: draft.nextUpdate,
        entries: draft.entries,
      })
      const value = assembleCrl(tbs, signatureAlgorithm, await key.sign(tbs))
      return { facts: { key: key.label, fingerprint: fingerprintOf(value), der: toHex(value) }, value }
    })
  })
  if (der === null) {
    transcript.plan('sign the list', { key: input.issuer.keyLabel, ...crlFacts(draft) })
    return null
  }
  await transcript.step('check the list against the input', () => ({
    facts: requireRules(crlRules, parseCrl(der), draft),
    value: undefined,
  }))
  await transcript.step('have OpenSSL verify the list', async () => ({
    facts: { ...(await judge.verifyCrl({ issuer: root, crl: der })) },
    value: undefined,
  }))
  await writeStep(deps, output, der)
  const { number, thisUpdate, nextUpdate, entries } = draft
  return { der, number, thisUpdate, nextUpdate, entries: entries.length }
}
