// From a ceremony's input to what its certificate will say. Pure: time is an argument. What the input cannot have, given the root it
// is to be signed by, is refused here, before any key exists.
import type { Certificate } from '../../pki/certificate.ts'
import type { GeneralName } from '../../pki/general-names.ts'
import { encodeName, nameToString, parseName } from '../../pki/names.ts'
import type { CaCertificateDraft } from '../../pki/peculiar.ts'
import type { CeremonyInput } from '../../schema/ceremony.ts'
import { CeremonyError } from './errors.ts'
import type { Facts } from './transcript.ts'

/** All of a certificate but serial, keys and signature. */
export type CaDraft = Omit<CaCertificateDraft, 'spki' | 'issuer' | 'issuerKey' | 'serial'>

/** Relying parties whose clocks are this much behind take a new CA at once. */
const backdateMs = 3_600_000

/** RFC 5280 §4.1.2.5: the last second is part of the validity. @throws CeremonyError `ceremony_refused` */
const validity = (input: { readonly notBefore?: number | undefined; readonly lifetime: number }, now: number) => {
  const notBefore = Math.floor((input.notBefore ?? now - backdateMs) / 1000) * 1000
  const notAfter = notBefore + (input.lifetime - 1) * 1000
  if (notAfter <= now)
    throw new CeremonyError('ceremony_refused', `the certificate would have ended ${timeText(notAfter)}, before now`)
  return { notBefore, notAfter }
}

const sharedParts = (
  input: CeremonyInput<'root'> | CeremonyInput<'issuing'>,
): Pick<CaDraft, 'subject' | 'pathLength' | 'permittedNames' | 'spiffeId'> => ({
  subject: input.subject,
  pathLength: input.pathLength,
  ...(input.nameConstraints === undefined ? {} : { permittedNames: input.nameConstraints }),
  ...(input.trustDomain === undefined ? {} : { spiffeId: `spiffe://${input.trustDomain}` }),
})

/** @throws CeremonyError `ceremony_refused` */
export const draftRoot = (input: CeremonyInput<'root'>, now: number): CaDraft => ({
  ...sharedParts(input),
  ...validity(input, now),
})

/** @throws CeremonyError `ceremony_refused` */
export const draftIssuing = (input: CeremonyInput<'issuing'>, now: number): CaDraft => {
  const { name } = input.issuer
  return {
    ...sharedParts(input),
    ...validity(input, now),
    ...(input.statusUrl === undefined
      ? {}
      : {
          crlDistributionPoints: [`${input.statusUrl}/crl/${name}.crl`],
          authorityInfoAccess: { ocsp: [], caIssuers: [`${input.statusUrl}/aia/${name}.cer`] },
        }),
  }
}

/** Nothing may outlive its issuer or go deeper than it allows. @throws CeremonyError `ceremony_refused` with every fault */
export const checkWithinRoot = ({ notBefore, notAfter, pathLength }: CaDraft, root: Certificate): void => {
  const rootLimit = root.basicConstraints?.pathLength ?? null
  const faults = [
    notAfter > root.notAfter &&
      `the certificate would outlive the root, which ends ${timeText(root.notAfter)}: shorten lifetime`,
    notBefore < root.notBefore &&
      `the certificate would begin before the root, which begins ${timeText(root.notBefore)}`,
    rootLimit !== null &&
      (pathLength === null || pathLength >= rootLimit) &&
      `the root's path length is ${rootLimit}: it allows ${rootLimit === 0 ? 'no CA below it' : `less than ${rootLimit} here`}`,
  ].filter(fault => fault !== false)
  if (faults.length > 0) throw new CeremonyError('ceremony_refused', faults.join('; '), { facts: { faults } })
}

export const timeText = (ms: number): string => new Date(ms).toISOString()

export const generalNameText = (name: GeneralName): string =>
  'value' in name ? `${name.kind}:${name.value}` : name.kind

/** What a transcript says of a draft. */
export const draftFacts = (draft: CaDraft): Facts => ({
  subject: nameToString(parseName(encodeName(draft.subject))),
  'not before': timeText(draft.notBefore),
  'not after': timeText(draft.notAfter),
  'path length': draft.pathLength ?? 'no limit',
  'key usage': 'keyCertSign, cRLSign',
  'CRL distribution points': [...(draft.crlDistributionPoints ?? [])],
  'CA issuers': [...(draft.authorityInfoAccess?.caIssuers ?? [])],
  'permitted names': (draft.permittedNames ?? []).map(generalNameText),
  'SPIFFE ID': draft.spiffeId ?? 'none',
})
