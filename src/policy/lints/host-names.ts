// Beside the SPIFFE ID only DNS names in their preferred form and addresses, and those only for whom other hosts connect to.
import { isDnsName } from '../../pki/host-names.ts'
import type { Lint } from './lint.ts'

export const hostNames: Lint = {
  name: 'host-names',
  citation: 'RFC 5280 §4.2.1.6; RFC 1123 §2.1; CABF BR §7.1.2.7.12',
  check: ({ subjectAltName }, principal) => {
    for (const name of subjectAltName ?? []) {
      if (name.kind === 'uri') continue
      if (name.kind !== 'dns' && name.kind !== 'ip') return `names of kind ${name.kind} are not issued`
      if (name.kind === 'dns' && principal?.kind === 'operator') return 'operators have no DNS names'
      if (name.kind === 'ip' && principal?.kind !== 'service') return 'only services have IP addresses'
      if (name.kind === 'dns' && !isDnsName(name.value)) return `not in preferred name syntax: ${name.value}`
      if (name.kind === 'ip' && name.bytes.length !== 4 && name.bytes.length !== 16)
        return `an address has 4 or 16 octets, got ${name.bytes.length}`
    }
    return null
  },
}
