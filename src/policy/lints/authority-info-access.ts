// OCSP and the issuer's certificate are found over plain HTTP, for the reason that holds for CRLs.
import type { Lint } from './lint.ts'

export const authorityInfoAccess: Lint = {
  name: 'authority-info-access',
  citation: 'RFC 5280 §4.2.2.1; CABF BR §7.1.2.7.7',
  check: ({ authorityInfoAccess: access }) => {
    if (access === null) return null
    const uris = [...access.ocsp, ...access.caIssuers]
    if (uris.length === 0) return 'neither ocsp nor caIssuers has a URL'
    return uris.every(uri => uri.startsWith('http://')) ? null : 'expected http URLs'
  },
}
