// The steps that ceremonies share, each one entry of the transcript: token, keys, signature, checks, file. Nothing is written as a file
// before it has passed every check.
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { equalBytes, toHex } from '../../base/bytes.ts'
import type { Clock } from '../../base/clock.ts'
import type { Certificate } from '../../pki/certificate.ts'
import { nameToString } from '../../pki/names.ts'
import { buildCaCertificate } from '../../pki/peculiar.ts'
import { encodePem } from '../../pki/pem.ts'
import { encodeSerial } from '../../pki/serial.ts'
import { parseSubjectPublicKeyInfo } from '../../pki/spki.ts'
import type { CeremonyKey, CeremonyToken } from '../../signer/ceremony-token.ts'
import {
  checkLabels,
  externalKey,
  findKey,
  type KeyPolicy,
  keyFacts,
  provideKeys,
  type SoughtKey,
  tokenDescription,
  type WantedKey,
} from './ceremony-keys.ts'
import { certificateRules, type ExpectedCa, rootRules } from './certificate-rules.ts'
import { type CaDraft, draftFacts, timeText } from './draft.ts'
import { CeremonyError } from './errors.ts'
import type { Judge } from './judge.ts'
import { checkOutputFree, type OutputFile, writeOutput } from './output.ts'
import { requireRules } from './rules.ts'
import { createToken, isMissing, type TokenTarget, tokenFacts, withToken } from './token-target.ts'
import type { Facts, Transcript } from './transcript.ts'

export interface CeremonyDeps {
  readonly clock: Pick<Clock, 'now'>
  readonly randomBytes: (length: number) => Uint8Array
  readonly judge: Judge
  readonly transcript: Transcript
  /** `dry-run`: everything but creating tokens, generating keys, signing and writing. */
  readonly mode: 'perform' | 'dry-run'
}

export const fingerprintOf = (der: Uint8Array): string => `sha256:${toHex(createHash('sha256').update(der).digest())}`

export const certificateFacts = (certificate: Certificate): Facts => ({
  subject: nameToString(certificate.subject),
  issuer: nameToString(certificate.issuer),
  serial: certificate.serialHex,
  'not before': timeText(certificate.notBefore),
  'not after': timeText(certificate.notAfter),
  'signature algorithm': certificate.signatureAlgorithm,
  'public key sha256': certificate.spkiHashHex,
  fingerprint: fingerprintOf(certificate.der),
  certificate: encodePem('CERTIFICATE', certificate.der),
})

/** Nothing is in the way of the ceremony's end. @throws CeremonyError `output_exists`, and what `describe` throws */
export const prepareStep = (deps: CeremonyDeps, output: OutputFile, describe: () => Facts): Promise<void> =>
  deps.transcript.step('prepare', () => {
    checkOutputFree(output, existsSync)
    return { facts: { ...describe(), output: output.path, judge: deps.judge.version }, value: undefined }
  })

/** A missing SoftHSM2 token is made. @returns whether there is one now, which in a dry run there may not be */
export const ensureTokenStep = async (deps: CeremonyDeps, target: TokenTarget): Promise<boolean> => {
  if (!isMissing(target)) return true
  const { directory, label } = target
  if (deps.mode === 'dry-run') {
    deps.transcript.plan('create the SoftHSM2 token', { directory, label })
    return false
  }
  await deps.transcript.step('create the SoftHSM2 token', async () => {
    const { uri, pinFile, confPath } = await createToken(target)
    return { facts: { directory, label, uri, pinFile, confPath }, value: undefined }
  })
  return true
}

const openFacts = (target: TokenTarget, token: CeremonyToken): Facts => ({
  ...tokenDescription(tokenFacts(target).uri, token.description),
  'keys before': token.listKeys().map(({ label }) => label),
})

const wantedFacts = (wanted: readonly WantedKey[]): Facts =>
  Object.fromEntries(wanted.map(({ label, algorithm }) => [label, algorithm]))

/**
 * Opens the token, provides the keys, hands them on and closes it.
 * @param work gets the keys in the order wanted
 * @returns null for a dry run
 */
export const withKeys = async <T>(
  deps: CeremonyDeps,
  request: { readonly token: TokenTarget; readonly wanted: readonly WantedKey[]; readonly policy: KeyPolicy },
  work: (keys: readonly CeremonyKey[]) => Promise<T>,
): Promise<T | null> => {
  const { token: target, wanted, policy } = request
  const { transcript, mode } = deps
  if (!(await ensureTokenStep(deps, target))) {
    transcript.plan('generate keys', wantedFacts(wanted))
    return null
  }
  return withToken(target, async token => {
    const present = await transcript.step('open the token', () => ({
      facts: openFacts(target, token),
      value: checkLabels(token, wanted, policy),
    }))
    if (mode === 'dry-run') {
      transcript.plan('generate keys', wantedFacts(wanted.filter(({ label }) => !present.has(label))))
      return null
    }
    const keys = await transcript.step('provide the keys', async () => {
      const provided = await provideKeys(token, wanted, policy)
      const facts = provided.map(({ key, origin }) => [key.label, { origin, ...keyFacts(key) }])
      return { facts: Object.fromEntries(facts), value: provided.map(({ key }) => key) }
    })
    return work(keys)
  })
}

/** Opens a token and finds a key that must be there; with a certificate, the one that belongs to it. */
export const withExistingKey = <T>(
  deps: CeremonyDeps,
  request: { readonly token: TokenTarget; readonly key: SoughtKey; readonly certificate: Certificate | null },
  work: (key: CeremonyKey) => Promise<T>,
): Promise<T> =>
  withToken(request.token, async token => {
    const { certificate, key: wanted } = request
    const key = await deps.transcript.step(`open the token of ${wanted.label} and find the key`, () => {
      const found = findKey(token, wanted)
      if (certificate !== null && !equalBytes(found.publicKeySpki, certificate.spkiDer))
        throw new CeremonyError('ceremony_refused', `key "${wanted.label}" is not the key of its certificate`, {
          hint: 'name the certificate and the key label that belong together',
        })
      return { facts: { ...openFacts(request.token, token), key: keyFacts(found) }, value: found }
    })
    return work(key)
  })

export interface RootKey {
  readonly token: TokenTarget
  readonly keyLabel: string
  readonly root: Certificate
}

export const withRootKey = <T>(
  deps: CeremonyDeps,
  { token, keyLabel, root }: RootKey,
  work: (key: CeremonyKey) => Promise<T>,
): Promise<T> =>
  withExistingKey(deps, { token, key: { label: keyLabel, algorithm: root.spki.algorithm }, certificate: root }, work)

/** The root as the ceremony was given it. @throws CeremonyError `self_check_failed` */
export const checkRootStep = (deps: CeremonyDeps, root: Certificate): Promise<void> =>
  deps.transcript.step('check the root’s certificate', () => ({
    facts: { ...certificateFacts(root), checks: requireRules(rootRules, root, { now: deps.clock.now() }) },
    value: undefined,
  }))

/** First octet of CA serials: the same space as leaves' (pki/serial.ts), of the first replica. */
const serialPrefix = 1

export const signCertificateStep = (
  deps: CeremonyDeps,
  request: {
    readonly draft: CaDraft
    readonly spkiDer: Uint8Array
    readonly issuer: Certificate | 'self'
    readonly key: CeremonyKey
  },
): Promise<Certificate> =>
  deps.transcript.step('sign the certificate', async () => {
    const serial = encodeSerial({
      prefix: serialPrefix,
      nowMs: deps.clock.now(),
      random10: deps.randomBytes(10),
    })
    const value = await buildCaCertificate({
      ...request.draft,
      spki: parseSubjectPublicKeyInfo(request.spkiDer),
      issuer: request.issuer,
      issuerKey: externalKey(request.key),
      serial,
    })
    return { facts: { key: request.key.label, ...certificateFacts(value) }, value }
  })

/** Our judges, then the outside one. @throws CeremonyError `self_check_failed` */
export const judgeCertificateSteps = async (
  deps: CeremonyDeps,
  certificate: Certificate,
  expected: ExpectedCa,
): Promise<void> => {
  await deps.transcript.step('check the certificate against the input', () => ({
    facts: requireRules(certificateRules, certificate, expected),
    value: undefined,
  }))
  await deps.transcript.step('have OpenSSL verify the certificate', async () => {
    const root = expected.issuer === 'self' ? certificate : expected.issuer
    // The ceremony's certificate may begin later than now.
    const at = Math.max(expected.now, certificate.notBefore + 1000)
    return { facts: { ...(await deps.judge.verifyCertificate({ root, certificate, at })) }, value: undefined }
  })
}

export const writeStep = (deps: CeremonyDeps, output: OutputFile, content: string | Uint8Array): Promise<void> =>
  deps.transcript.step('write the file', () => {
    writeOutput(output, content)
    const sha256 = toHex(createHash('sha256').update(content).digest())
    return { facts: { file: output.path, sha256 }, value: undefined }
  })

export const planSignature = (deps: CeremonyDeps, key: string, draft: CaDraft): void =>
  deps.transcript.plan('sign the certificate', { key, ...draftFacts(draft) })
