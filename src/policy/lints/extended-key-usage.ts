// TLS only, and as a server only for services.
import { oidName, oidOf } from '../../pki/oid.ts'
import type { Lint } from './lint.ts'

export const extendedKeyUsage: Lint = {
  name: 'extended-key-usage',
  citation: 'RFC 5280 §4.2.1.12; X509-SVID §4.4',
  check: ({ extendedKeyUsage: usages }, principal) => {
    if (usages === null) return 'extendedKeyUsage is missing'
    const other = usages.find(usage => usage !== oidOf.clientAuth && usage !== oidOf.serverAuth)
    if (other !== undefined) return `expected clientAuth and serverAuth only, got ${oidName(other)}`
    if (new Set(usages).size !== usages.length) return 'a usage twice'
    return usages.includes(oidOf.serverAuth) && principal?.kind !== 'service' ? 'only services are servers' : null
  },
}
