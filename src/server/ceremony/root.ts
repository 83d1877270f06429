// The root ceremony: a key that never leaves its own token, and the certificate it signs for itself. Done once, away from the server;
// the token is then locked away.
import type { Certificate } from '../../pki/certificate.ts'
import { encodePem } from '../../pki/pem.ts'
import { parseSubjectPublicKeyInfo } from '../../pki/spki.ts'
import type { CeremonyInput } from '../../schema/ceremony.ts'
import type { KeyPolicy } from './ceremony-keys.ts'
import { draftFacts, draftRoot } from './draft.ts'
import type { OutputFile } from './output.ts'
import {
  type CeremonyDeps,
  judgeCertificateSteps,
  planSignature,
  prepareStep,
  signCertificateStep,
  withKeys,
  writeStep,
} from './steps.ts'
import type { TokenTarget } from './token-target.ts'

export interface RootRequest {
  readonly input: CeremonyInput<'root'>
  readonly token: TokenTarget
  readonly keys: KeyPolicy
  /** PEM. */
  readonly output: OutputFile
}

/**
 * @returns the certificate, checked and written; null after a dry run
 * @throws CeremonyError, TokenError, SignerError: each is in the transcript too
 */
export const performRootCeremony = async (deps: CeremonyDeps, request: RootRequest): Promise<Certificate | null> => {
  const { input, output } = request
  const now = deps.clock.now()
  const draft = draftRoot(input, now)
  await prepareStep(deps, output, () => draftFacts(draft))
  const certificate = await withKeys(
    deps,
    { token: request.token, wanted: [input.key], policy: request.keys },
    ([key]) => signCertificateStep(deps, { draft, spkiDer: key!.publicKeySpki, issuer: 'self', key: key! }),
  )
  if (certificate === null) {
    planSignature(deps, input.key.label, draft)
    return null
  }
  const spki = parseSubjectPublicKeyInfo(certificate.spkiDer)
  await judgeCertificateSteps(deps, certificate, { madeBy: 'us', issuer: 'self', spki, draft, now })
  await writeStep(deps, output, encodePem('CERTIFICATE', certificate.der))
  return certificate
}
