// The issuing CA's ceremony, in its three forms: signed by a root of ours; a request for another organisation's root; and, later, the
// certificate that root made. The key is generated inside the online token in each of them and only its public half goes anywhere.

import { equalBytes } from '../../base/bytes.ts'
import type { Certificate } from '../../pki/certificate.ts'
import type { CertificationRequest } from '../../pki/csr.ts'
import { encodeName, nameToString } from '../../pki/names.ts'
import { buildCsr } from '../../pki/peculiar.ts'
import { encodePem } from '../../pki/pem.ts'
import { parseSubjectPublicKeyInfo } from '../../pki/spki.ts'
import type { CeremonyInput } from '../../schema/ceremony.ts'
import { externalKey, type KeyPolicy, type WantedKey } from './ceremony-keys.ts'
import { checkWithinRoot, draftFacts, draftIssuing } from './draft.ts'
import type { OutputFile } from './output.ts'
import { differs, type Rule, requireRules, unless } from './rules.ts'
import {
  type CeremonyDeps,
  certificateFacts,
  checkRootStep,
  fingerprintOf,
  judgeCertificateSteps,
  planSignature,
  prepareStep,
  signCertificateStep,
  withExistingKey,
  withKeys,
  withRootKey,
  writeStep,
} from './steps.ts'
import type { TokenTarget } from './token-target.ts'

export interface OnlineKeysRequest {
  readonly input: CeremonyInput<'issuing'>
  /** The online token, which gets the key. */
  readonly token: TokenTarget
  readonly keys: KeyPolicy
  /** PEM. */
  readonly output: OutputFile
}

const wantedKeys = (input: CeremonyInput<'issuing'>): readonly WantedKey[] => [
  input.key,
  ...input.alsoGenerate.map(label => ({ label, algorithm: 'P-256' as const })),
]

/**
 * @returns the certificate, checked and written; null after a dry run
 * @throws CeremonyError, TokenError, SignerError: each is in the transcript too
 */
export const performIssuingCeremony = async (
  deps: CeremonyDeps,
  request: OnlineKeysRequest & { readonly root: Certificate; readonly rootToken: TokenTarget },
): Promise<Certificate | null> => {
  const { input, root, output } = request
  const now = deps.clock.now()
  await checkRootStep(deps, root)
  const draft = draftIssuing(input, now)
  await prepareStep(deps, output, () => {
    checkWithinRoot(draft, root)
    return draftFacts(draft)
  })
  const rootKey = { token: request.rootToken, keyLabel: input.issuer.keyLabel, root }
  // Before the new key: a root that cannot sign would leave a key that no certificate belongs to.
  await withRootKey(deps, rootKey, async () => {})
  const wanted = wantedKeys(input)
  const spkiDer = await withKeys(deps, { token: request.token, wanted, policy: request.keys }, async ([key]) =>
    key!.publicKeySpki.slice(),
  )
  if (spkiDer === null) {
    planSignature(deps, input.issuer.keyLabel, draft)
    return null
  }
  const certificate = await withRootKey(deps, rootKey, key =>
    signCertificateStep(deps, { draft, spkiDer, issuer: root, key }),
  )
  const spki = parseSubjectPublicKeyInfo(spkiDer)
  await judgeCertificateSteps(deps, certificate, { madeBy: 'us', issuer: root, spki, draft, now })
  await writeStep(deps, output, encodePem('CERTIFICATE', certificate.der))
  return certificate
}

const requestRules: readonly Rule<
  CertificationRequest,
  { readonly subjectDer: Uint8Array; readonly spkiDer: Uint8Array }
>[] = [
  {
    rule: 'the public key is the one in the token',
    source: 'this ceremony',
    fault: (csr, { spkiDer }) => unless(equalBytes(csr.spki.der, spkiDer), 'it is another key'),
  },
  {
    rule: 'subject name',
    source: 'RFC 2986 §4.1',
    fault: (csr, { subjectDer }) => unless(equalBytes(csr.subject.der, subjectDer), nameToString(csr.subject)),
  },
  {
    rule: 'it asks for nothing else',
    source: 'this ceremony',
    fault: csr => differs(csr.subjectAltNames.length, 0),
  },
]

/**
 * A PKCS#10 request for another organisation's root.
 * @returns the request, checked and written; null after a dry run
 */
export const requestIssuingCertificate = async (
  deps: CeremonyDeps,
  request: OnlineKeysRequest,
): Promise<CertificationRequest | null> => {
  const { input, output } = request
  const { transcript, judge } = deps
  const subjectDer = encodeName(input.subject)
  await prepareStep(deps, output, () => ({ subject: input.subject.map(([label, value]) => `${label}=${value}`) }))
  const online = { token: request.token, wanted: wantedKeys(input), policy: request.keys }
  const csr = await withKeys(deps, online, ([key]) =>
    transcript.step('sign the request', async () => {
      const value = await buildCsr({ subject: input.subject, key: externalKey(key!) })
      const checks = requireRules(requestRules, value, { subjectDer, spkiDer: key!.publicKeySpki })
      return { facts: { sha256: fingerprintOf(value.der), checks, ...(await judge.verifyRequest(value.der)) }, value }
    }),
  )
  if (csr === null) {
    transcript.plan('sign the request', { key: input.key.label })
    return null
  }
  await writeStep(deps, output, encodePem('CERTIFICATE REQUEST', csr.der))
  return csr
}

/**
 * Takes the certificate that another organisation's root made for the key in the token. Further keys of the input are generated if
 * they are missing.
 * @returns the certificate, checked and written; null after a dry run
 */
export const acceptIssuingCertificate = async (
  deps: CeremonyDeps,
  request: Omit<OnlineKeysRequest, 'keys'> & { readonly root: Certificate; readonly certificate: Certificate },
): Promise<Certificate | null> => {
  const { input, root, certificate, output } = request
  const now = deps.clock.now()
  await checkRootStep(deps, root)
  await prepareStep(deps, output, () => certificateFacts(certificate))
  const { token } = request
  const spkiDer = await withExistingKey(deps, { token, key: input.key, certificate: null }, async key =>
    key.publicKeySpki.slice(),
  )
  const spki = parseSubjectPublicKeyInfo(spkiDer)
  const draft = draftIssuing(input, now)
  await judgeCertificateSteps(deps, certificate, { madeBy: 'another', issuer: root, spki, draft, now })
  const further = wantedKeys(input).slice(1)
  if (further.length > 0) await withKeys(deps, { token, wanted: further, policy: 'keep' }, async () => {})
  if (deps.mode === 'dry-run') return null
  await writeStep(deps, output, encodePem('CERTIFICATE', certificate.der))
  return certificate
}
