// What an issuance answers with (architecture.md, HTTP: `identity`). A function of the certificate, but for the seconds that are left:
// a repeated answer is the same answer.
import { hash } from 'node:crypto'
import type { IssuedCertificate } from '../ca/issuance.ts'
import type { Issuers } from '../ca/issuers.ts'
import { earliestRenewal, latestRenewal } from '../ca/renewal-window.ts'
import { encodePem } from '../pki/pem.ts'
import type { IdentityAnswer } from '../schema/admin-answers.ts'
import type { RecordedFacts } from './call.ts'

/** What is left after this is for retries. */
const renewBefore = 0.9

/** 0 to 1, evenly spread, always the same for a serial. */
const draw = (serial: string): number => hash('sha256', serial, 'buffer').readUInt32BE(0) / 2 ** 32

const wholeSecond = (ms: number): number => Math.floor(ms / 1000) * 1000

/** What the answer speaks of: whatever state the certificate is in. */
export interface AnsweredCertificate
  extends Pick<IssuedCertificate, 'certificate' | 'spiffeId' | 'registration' | 'notGranted'> {
  readonly record: RecordedFacts
}

/** What the log key's signatures are verified by. */
export interface LogIdentity {
  readonly caId: string
  /** PEM PUBLIC KEY. */
  readonly logKey: string
}

export interface IdentityContext {
  readonly issuers: Pick<Issuers, 'chainPem' | 'bundlePem'>
  /** undefined: this server has no log key. */
  readonly logIdentity?: LogIdentity | undefined
}

/** @param now milliseconds since the epoch */
export const identityAnswer = (
  issued: AnsweredCertificate,
  { issuers, logIdentity }: IdentityContext,
  now: number,
): IdentityAnswer => {
  const { record, certificate, spiffeId, registration } = issued
  const { serial, notBefore, notAfter } = record
  const at = (share: number): number => wholeSecond(notBefore + (notAfter - notBefore) * share)
  const renewAfter = at(earliestRenewal + (latestRenewal - earliestRenewal) * draw(serial))
  const time = (ms: number): string => new Date(ms).toISOString()
  const secondsUntil = (ms: number): number => Math.max(0, Math.floor((ms - now) / 1000))
  return {
    spiffeId,
    agent: registration.name,
    instance: record.instanceId,
    serial,
    generation: record.generation,
    notBefore: time(notBefore),
    notAfter: time(notAfter),
    renewAfter: time(renewAfter),
    renewBefore: time(at(renewBefore)),
    renewInSeconds: secondsUntil(renewAfter),
    expiresInSeconds: secondsUntil(notAfter),
    certificate: encodePem('CERTIFICATE', certificate),
    chain: issuers.chainPem(record.issuerId),
    bundle: issuers.bundlePem(),
    notGranted: issued.notGranted,
    ...logIdentity,
  }
}

// The chain, the bundle and the log key are in every answer: each as JSON, by the text itself. Owned by this module; bounded.
const asJson = new Map<string, string>()
const maxAsJson = 64

const jsonOf = (text: string): string => {
  const known = asJson.get(text)
  if (known !== undefined) return known
  if (asJson.size >= maxAsJson) asJson.clear()
  const json = JSON.stringify(text)
  asJson.set(text, json)
  return json
}

/** The answer as JSON, octet by octet what JSON.stringify makes of it: what is the same in all answers is not written anew. */
export const identityJson = (issued: AnsweredCertificate, context: IdentityContext, now: number): string => {
  const { chain, bundle, notGranted, caId, logKey, ...own } = identityAnswer(issued, context, now)
  const log = caId === undefined || logKey === undefined ? '' : `,"caId":${jsonOf(caId)},"logKey":${jsonOf(logKey)}`
  const shared = `"chain":${jsonOf(chain)},"bundle":${jsonOf(bundle)}`
  return `${JSON.stringify(own).slice(0, -1)},${shared},"notGranted":${JSON.stringify(notGranted)}${log}}`
}
