// The alternative names are there, and critical exactly when they alone name the subject.
import { oidOf } from '../../pki/oid.ts'
import type { Lint } from './lint.ts'

export const subjectAltName: Lint = {
  name: 'subject-alt-name',
  citation: 'RFC 5280 §4.1.2.6, §4.2.1.6',
  check: tbs => {
    const names = tbs.extension(oidOf.subjectAltName)
    if (names === undefined) return 'subjectAltName is missing'
    if (names.critical !== (tbs.subject.rdns.length === 0))
      return 'expected critical exactly where the subject is empty'
    return null
  },
}
