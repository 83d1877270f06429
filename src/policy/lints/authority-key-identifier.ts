// The issuer's key is named, and not one of its certificates, so that a CA certified anew keeps its leaves.
import type { Lint } from './lint.ts'

export const authorityKeyIdentifier: Lint = {
  name: 'authority-key-identifier',
  citation: 'RFC 5280 §4.2.1.1; CABF BR §7.1.2.11.1',
  check: ({ authorityKeyIdentifier: authority }) => {
    if (authority?.keyId == null || authority.keyId.length === 0) return 'the key identifier of the issuer is missing'
    return authority.issuer === null && authority.serial === null ? null : 'names the issuer’s certificate'
  },
}
