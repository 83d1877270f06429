// The keys and certificates of a new CA, each by its ceremony, or adopted where they are already there. A step that is whole is never
// done again: a root has one certificate, however often `init` was interrupted.
import { existsSync, readFileSync } from 'node:fs'
import { equalBytes } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { readPublishedCrl, rootCrlOf } from '../ca/published-crl.ts'
import type { PublishedCrl } from '../ca/status-answers.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { encodePem, parseOnePem } from '../pki/pem.ts'
import { type CeremonyInput, type CeremonyKind, parseCeremony } from '../schema/ceremony.ts'
import { findKey } from './ceremony/ceremony-keys.ts'
import { performCrlCeremony } from './ceremony/crl.ts'
import { CeremonyError } from './ceremony/errors.ts'
import { acceptIssuingCertificate, performIssuingCeremony } from './ceremony/issuing.ts'
import type { Judge } from './ceremony/judge.ts'
import { writeOutput } from './ceremony/output.ts'
import { performRootCeremony } from './ceremony/root.ts'
import { runCeremony } from './ceremony/run.ts'
import type { CeremonyDeps } from './ceremony/steps.ts'
import { isMissing, type TokenTarget, withToken } from './ceremony/token-target.ts'
import { type CeremonyText, transcriptFile } from './ceremony/transcript.ts'
import { caFile, type InitPlace, issuingName, onlineTarget, rootCrlFile, rootName, rootTarget } from './init-places.ts'
import { writeOnlineKey } from './online-keys.ts'
import { logKeyLabel, responderKeyLabel } from './signer-config.ts'

/** CA certificates that were made elsewhere, each PEM; the issuing CA's key must be in the online token. */
export interface ExistingCertificates {
  readonly root: string
  readonly issuing: string
  /** DER of the root's CRL, if its organisation gave one. */
  readonly rootCrl: Uint8Array | null
}

/** The three inputs, checked to be what `init` can work with. */
export type CeremonyInputs = Readonly<Record<CeremonyKind, CeremonyText>>

/** The names that the rest of the server goes by are not up for choice. @throws SchemaError, CeremonyError `ceremony_refused` */
export const checkInputs = (texts: CeremonyInputs): CeremonyInputs => {
  const parsed = <K extends CeremonyKind>(kind: K) => parseCeremony(kind, texts[kind].text, texts[kind].source)
  const [root, issuing, crl] = [parsed('root'), parsed('issuing'), parsed('crl')]
  const wanted: readonly (readonly [name: string, got: string, expected: string])[] = [
    ['root: name', root.name, rootName],
    ['issuing: name', issuing.name, issuingName],
    ['issuing: key.label', issuing.key.label, issuingName],
    ['issuing: issuer.name', issuing.issuer.name, rootName],
    ['issuing: issuer.keyLabel', issuing.issuer.keyLabel, root.key.label],
    ['issuing: alsoGenerate', issuing.alsoGenerate.toSorted().join(', '), `${logKeyLabel}, ${responderKeyLabel}`],
    ['crl: issuer.name', crl.issuer.name, rootName],
    ['crl: issuer.keyLabel', crl.issuer.keyLabel, root.key.label],
  ]
  const faults = wanted
    .filter(([, got, expected]) => got !== expected)
    .map(([name, got, expected]) => `${name}: expected ${expected}, got ${got || 'nothing'}`)
  if (faults.length > 0)
    throw new CeremonyError('ceremony_refused', `init needs its own names: ${faults.join('; ')}`, { facts: { faults } })
  return texts
}

export interface Making extends InitPlace {
  readonly clock: Clock
  readonly log: Log
  readonly randomBytes: (length: number) => Uint8Array
  readonly judge: Judge
  readonly inputs: CeremonyInputs
  readonly existing?: ExistingCertificates
}

export interface Authority {
  readonly root: Certificate
  readonly issuing: Certificate
  readonly rootCrl: PublishedCrl | null
}

/** @throws whatever a ceremony throws */
export const makeAuthority = async (making: Making): Promise<Authority> => {
  const { paths, existing, judge, clock, log } = making
  const root = await provideRoot(making)
  const issuing = await provideIssuing(making, root)
  await publishOnlineKeys(making)
  const rootCrl = await provideRootCrl(making, root)
  const crl = rootCrl === null ? {} : { crl: rootCrl.der }
  await judge.verifyCertificate({ root, certificate: issuing, at: clock.now(), ...crl })
  if (existing === undefined) log.info({ directory: paths.rootCeremony }, 'the root’s token can now be moved away')
  return { root, issuing, rootCrl }
}

const ceremony = <K extends CeremonyKind, T>(
  making: Making,
  kind: K,
  work: (deps: CeremonyDeps, input: CeremonyInput<K>) => Promise<T>,
): Promise<T> => {
  const { clock, randomBytes, judge, log, paths } = making
  return runCeremony(
    { clock, randomBytes, judge },
    {
      kind,
      text: making.inputs[kind],
      mode: 'perform',
      transcriptFile: transcriptFile(paths.ceremonies, kind, clock.now()),
      onStep: ({ title, result }) => log.info({ ceremony: kind, result }, `${kind} ceremony: ${title}`),
    },
    work,
  ).then(({ value }) => value)
}

const readCertificate = (file: string): Certificate => parsePem(readFileSync(file, 'utf8'))
const parsePem = (pem: string): Certificate => parseCertificate(parseOnePem(pem, 'CERTIFICATE'))

const madeOrThrow = <T>(made: T | null): T => {
  if (made === null) throw new CeremonyError('home_damaged', 'a ceremony of init made nothing')
  return made
}

/** What a ceremony made in this home is not exchanged by naming another file. @throws CeremonyError `output_exists` */
const refuseAnother = (path: string, certificate: Certificate): void => {
  if (existsSync(path) && !equalBytes(readCertificate(path).der, certificate.der))
    throw new CeremonyError('output_exists', `${path} is there already and is another certificate`, {
      hint: 'begin in an empty home, or move that file away',
    })
}

const provideRoot = async (making: Making): Promise<Certificate> => {
  const { paths, existing } = making
  const path = caFile(paths, rootName)
  if (existing !== undefined) {
    const root = parsePem(existing.root)
    refuseAnother(path, root)
    writeOutput({ path, mode: 'replace' }, encodePem('CERTIFICATE', root.der))
    return root
  }
  if (existsSync(path)) return readCertificate(path)
  return madeOrThrow(
    await ceremony(making, 'root', (deps, input) =>
      performRootCeremony(deps, { input, token: rootTarget(making), keys: 'keep', output: { path, mode: 'new' } }),
    ),
  )
}

const provideIssuing = async (making: Making, root: Certificate): Promise<Certificate> => {
  const { paths, existing } = making
  const path = caFile(paths, issuingName)
  const token = onlineTarget(making)
  if (existing !== undefined || existsSync(path)) {
    // Made before, by a ceremony of its own or by an init that was interrupted: it passes as if it came from outside.
    const certificate = existing === undefined ? readCertificate(path) : parsePem(existing.issuing)
    refuseAnother(path, certificate)
    const output = { path, mode: 'replace' } as const
    return madeOrThrow(
      await ceremony(making, 'issuing', (deps, input) =>
        acceptIssuingCertificate(deps, { input, token, root, certificate, output }),
      ),
    )
  }
  const rootToken = rootTarget(making)
  requireRootToken(making, rootToken)
  return madeOrThrow(
    await ceremony(making, 'issuing', (deps, input) =>
      performIssuingCeremony(deps, { input, token, keys: 'keep', root, rootToken, output: { path, mode: 'new' } }),
    ),
  )
}

const requireRootToken = ({ paths }: Making, rootToken: TokenTarget): void => {
  if (isMissing(rootToken))
    throw new CeremonyError(
      'ceremony_refused',
      `the root’s certificate is here, but not its token (${paths.rootCeremony})`,
      {
        hint: 'bring the token back, or perform the ceremonies where it is and give their certificates to: agentca init --root FILE --issuing FILE',
      },
    )
}

/** Who the keys without a certificate are must be known while the HSM is dead. */
const publishOnlineKeys = (making: Making): Promise<void> =>
  withToken(onlineTarget(making), async token => {
    for (const label of [responderKeyLabel, logKeyLabel])
      writeOnlineKey(making.paths, label, findKey(token, { label, algorithm: 'P-256' }).publicKeySpki)
  })

const provideRootCrl = async (making: Making, root: Certificate): Promise<PublishedCrl | null> => {
  const { paths, existing } = making
  const path = rootCrlFile(paths, rootName)
  const given = existing?.rootCrl ?? (existsSync(path) ? new Uint8Array(readFileSync(path)) : null)
  if (given !== null) {
    const crl = readPublishedCrl(rootCrlOf(rootName, root), given)
    if (existing !== undefined) writeOutput({ path, mode: 'replace' }, given)
    return crl
  }
  const rootToken = rootTarget(making)
  if (existing !== undefined && isMissing(rootToken)) return null
  requireRootToken(making, rootToken)
  const made = madeOrThrow(
    await ceremony(making, 'crl', (deps, input) =>
      performCrlCeremony(deps, { input, root, rootToken, previous: null, output: { path, mode: 'new' } }),
    ),
  )
  return readPublishedCrl(rootCrlOf(rootName, root), made.der)
}
