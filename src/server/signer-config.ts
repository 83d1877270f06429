// The signer's configuration, made from the ledger's issuers and the home: which keys it may use, for what, bound to which certificate.
// Written anew at each start and whenever an issuing CA was added; it holds paths and certificates, never a secret.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Issuers } from '../ca/issuers.ts'
import { encodePem } from '../pki/pem.ts'
import type { TrustDomain } from '../pki/spiffe.ts'
import type { Config } from '../schema/config.ts'
import type { SignerConfigInput } from '../signer/config.ts'
import { parsePkcs11Uri } from '../signer/pkcs11-uri.ts'
import { defaultSofthsmModule, softHsmPaths } from '../signer/softhsm-token.ts'
import type { HomePaths } from './home.ts'
import { makeRunDirectory } from './run-directory.ts'

export const onlineTokenLabel = 'agentca'
export const responderKeyLabel = 'ocsp-1'
export const logKeyLabel = 'log-1'
/** What the key of an issuing CA signs. */
export const issuingPurposes = ['leaf', 'crl', 'ocsp-responder', 'test-sign'] as const

/** The token of the online keys: SoftHSM2 in the home unless the configuration names another. */
const moduleOf = (config: Config, paths: HomePaths): SignerConfigInput['module'] => {
  if (config.hsm.uri === undefined) {
    const { confPath, pinFile } = softHsmPaths(paths.tokens)
    return { path: defaultSofthsmModule, tokenLabel: onlineTokenLabel, pinSource: pinFile, softhsmConf: confPath }
  }
  const uri = parsePkcs11Uri(config.hsm.uri)
  return {
    path: uri.modulePath,
    tokenLabel: uri.token ?? '',
    ...(uri.serial === undefined ? {} : { tokenSerial: uri.serial }),
    ...(uri.pinFile === undefined ? {} : { pinSource: uri.pinFile }),
    ...(config.hsm.softhsmConf === undefined ? {} : { softhsmConf: config.hsm.softhsmConf }),
  }
}

export const signerConfigOf = (
  config: Config,
  facts: { readonly paths: HomePaths; readonly trustDomain: TrustDomain; readonly issuers: Issuers },
): SignerConfigInput => ({
  socket: facts.paths.signerSocket,
  stateDirectory: facts.paths.signer,
  trustDomain: facts.trustDomain,
  module: moduleOf(config, facts.paths),
  sessions: config.hsm.sessions,
  keys: [
    ...facts.issuers.online().map(issuer => ({
      label: issuer.keyLabel,
      purposes: issuingPurposes,
      certificate: encodePem('CERTIFICATE', issuer.certificate.der),
    })),
    { label: responderKeyLabel, purposes: ['ocsp-response', 'test-sign'] },
    { label: logKeyLabel, purposes: ['checkpoint', 'test-sign'] },
  ],
})

export interface WrittenSignerConfig {
  readonly file: string
  /** Whether a signer that was started before has to start again. */
  readonly changed: boolean
}

export const writeSignerConfig = (paths: HomePaths, config: SignerConfigInput): WrittenSignerConfig => {
  mkdirSync(paths.signer, { recursive: true, mode: 0o700 })
  makeRunDirectory(paths.run)
  const file = join(paths.signer, 'signer.json')
  const text = `${JSON.stringify(config, null, 2)}\n`
  if (existsSync(file) && readFileSync(file, 'utf8') === text) return { file, changed: false }
  writeFileSync(file, text, { mode: 0o600 })
  return { file, changed: true }
}
