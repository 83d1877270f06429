// The delegated OCSP responders' certificates as files, so that a restart with a dead HSM has them.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ResponderCertificates } from '../ca/ocsp-certificate.ts'

/** Issuer names come from the ledger, which took only names without separators. */
export const createResponderCertificates = (directory: string): ResponderCertificates => {
  const fileOf = (issuer: string): string => join(directory, `${issuer}.cer`)
  return {
    load: issuer => (existsSync(fileOf(issuer)) ? new Uint8Array(readFileSync(fileOf(issuer))) : null),
    save: (issuer, der) => {
      mkdirSync(directory, { recursive: true })
      writeFileSync(`${fileOf(issuer)}.new`, der)
      renameSync(`${fileOf(issuer)}.new`, fileOf(issuer))
    },
  }
}
