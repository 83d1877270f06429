// CsrAttrs of EST (RFC 7030 §4.5.2, RFC 9908): what a server wants a certification request to be made with. Here it is a kind of key and
// the signature that goes with it; names are not asked for, since they come from the registration.
import { type KeyAlgorithm, keyAlgorithms, signatureAlgorithms } from './algorithms.ts'
import { integer, oid, sequence, set } from './der.ts'
import { oidOf } from './oid.ts'

/** Of RSA keys, which clients are told by an attribute as well (RFC 9908 §3.4); what other standards of the day ask for until 2030. */
const rsaBits = 3072

/** An Attribute, or an OID alone where there is nothing to say beside it. */
const keyAttribute = (algorithm: KeyAlgorithm): Uint8Array => {
  switch (algorithm) {
    case 'P-256':
      return sequence(oid(oidOf.ecPublicKey), set(oid(oidOf.p256)))
    case 'P-384':
      return sequence(oid(oidOf.ecPublicKey), set(oid(oidOf.p384)))
    case 'Ed25519':
      return oid(oidOf.ed25519)
    case 'RSA':
      return sequence(oid(oidOf.rsaEncryption), set(integer(rsaBits)))
  }
}

/** One kind of key only: a client that is given several to choose from has no rule to choose by. @returns DER */
export const encodeCsrAttributes = (algorithm: KeyAlgorithm): Uint8Array => {
  const signature = oid(signatureAlgorithms[keyAlgorithms[algorithm].signatureAlgorithm].oid)
  // An Ed25519 key and its signature have one identifier.
  return algorithm === 'Ed25519' ? sequence(signature) : sequence(keyAttribute(algorithm), signature)
}
