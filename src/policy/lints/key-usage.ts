// The key signs handshakes and nothing else: neither certificates nor CRLs.
import type { Lint } from './lint.ts'

export const keyUsage: Lint = {
  name: 'key-usage',
  citation: 'RFC 5280 §4.2.1.3; X509-SVID §4.3',
  check: ({ keyUsage: usages }) =>
    usages?.join() === 'digitalSignature' ? null : `expected digitalSignature alone, got ${usages?.join() ?? 'none'}`,
}
