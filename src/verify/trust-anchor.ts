// Trust anchors (RFC 5280 §6.1.1 (d)): a name and a key that are believed, and what holds below them. An anchor is not a
// certificate to be validated: nothing signs it, and what its self-signed certificate says holds only if the caller wants it to
// (RFC 5937).
import type { Certificate } from '../pki/certificate.ts'
import type { KeyUsage, NameConstraints } from '../pki/extensions.ts'
import type { SubjectPublicKeyInfo } from '../pki/spki.ts'

export interface TrustAnchor {
  /** The name in the form of `comparableName`. */
  readonly comparableSubject: string
  readonly subjectDer: Uint8Array
  readonly spki: SubjectPublicKeyInfo
  readonly spkiHashHex: string
  readonly constraints: 'none' | AnchorConstraints
}

/** Null where the anchor makes no rule. Policies of anchors (RFC 5937 §3.2) are the caller's policy inputs. */
export interface AnchorConstraints {
  readonly validity: { readonly notBefore: number; readonly notAfter: number } | null
  readonly pathLength: number | null
  readonly keyUsage: readonly KeyUsage[] | null
  readonly extendedKeyUsage: readonly string[] | null
  readonly nameConstraints: NameConstraints | null
}

/**
 * The anchor in a root's certificate. `honour`: `name-and-key` is RFC 5280's anchor, `constraints` also takes over validity, path length,
 * key usage, extended key usage and name constraints, as OpenSSL does for roots.
 * @throws PkiError when the certificate's key or one of those extensions cannot be read
 */
export const anchorOf = (certificate: Certificate, honour: 'name-and-key' | 'constraints'): TrustAnchor => ({
  comparableSubject: certificate.comparableSubject,
  subjectDer: certificate.subjectDer,
  spki: certificate.spki,
  spkiHashHex: certificate.spkiHashHex,
  constraints: honour === 'name-and-key' ? 'none' : constraintsOf(certificate),
})

const constraintsOf = (certificate: Certificate): AnchorConstraints => ({
  validity: { notBefore: certificate.notBefore, notAfter: certificate.notAfter },
  pathLength: certificate.basicConstraints?.pathLength ?? null,
  keyUsage: certificate.keyUsage,
  extendedKeyUsage: certificate.extendedKeyUsage,
  nameConstraints: certificate.nameConstraints,
})
