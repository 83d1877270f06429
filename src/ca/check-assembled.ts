// Step 5 of ISSUANCE.md, second half: what will be released is what was recorded. The inside of the to-be-signed bytes was parsed when they
// were linted, and they are the same octets; the frame around them is new.
import { equalBytes } from '../base/bytes.ts'
import { signatureAlgorithms } from '../pki/algorithms.ts'
import { readSignedCertificate } from '../pki/certificate.ts'
import { CaError } from './errors.ts'
import type { LintedDraft } from './issuance.ts'

/** @throws CaError `internal`; PkiError der_malformed */
export const checkAssembled = (draft: LintedDraft, certificate: Uint8Array): void => {
  const { tbs, signatureAlgorithmDer } = readSignedCertificate(certificate)
  const algorithm = signatureAlgorithms[draft.issuer.signatureAlgorithm].der
  if (!equalBytes(tbs, draft.tbs) || !equalBytes(signatureAlgorithmDer, algorithm))
    throw new CaError('internal', 'the assembled certificate is not the recorded one')
}
