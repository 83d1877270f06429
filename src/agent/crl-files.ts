// `crl.pem` of a credential directory, kept as fresh as the identity: fetched after each renewal.
import { silentLog } from '../base/log.ts'
import type { Credential } from './credential.ts'
import type { CredentialDirectory } from './credential-directory.ts'
import { fetchCrls, unverifiedHint } from './crl-fetch.ts'
import type { Parts } from './obtain.ts'

/** After each renewal; programs that check revocation by these files would rather have none than an old one. */
export const refreshCrls = async (
  parts: Parts,
  directory: CredentialDirectory,
  credential: Credential,
): Promise<void> => {
  const log = parts.options.log ?? silentLog
  try {
    const fetched = await fetchCrls(credential, parts.timing.clock.now(), parts.signal)
    if (fetched === null) return
    for (const issuer of fetched.leftOut) log.warn({ issuer, hint: unverifiedHint }, 'a revocation list is left out')
    await directory.saveCrls(fetched.pem)
  } catch (error) {
    if (!parts.signal.aborted) log.warn({ err: error }, 'crl.pem stays as it is')
  }
}
