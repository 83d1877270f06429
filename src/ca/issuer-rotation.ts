// Rotation of issuing CAs: a certificate that a ceremony made is prepared, activated and, when its time is over, retired. Whoever is
// replaced is retired in the same transaction and goes on signing CRLs and OCSP answers for its leaves (issuers.ts, `online`).
import { createHash } from 'node:crypto'
import * as events from '../audit/events.ts'
import { toHex } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { equalNames } from '../pki/names.ts'
import { parseOnePem } from '../pki/pem.ts'
import { verifySignature } from '../pki/signature.ts'
import type { CertificatesPort, IssuersPort } from '../store/ports.ts'
import type { Issuer } from '../store/records.ts'
import { CaError } from './errors.ts'
import type { RequestContext } from './issuance.ts'
import type { Issuers, IssuerView } from './issuers.ts'
import { leafContextOf } from './leaf-context.ts'
import { invalidValue } from './operator-values.ts'

export interface IssuerRotationDeps {
  readonly clock: Clock
  readonly issuers: Pick<Issuers, 'all' | 'byName' | 'reload'>
  readonly ledger: Pick<IssuersPort, 'add' | 'setState'>
  readonly certificates: Pick<CertificatesPort, 'list'>
  /** The private keys in the online token. */
  readonly onlineKeys: () => Promise<readonly OnlineKey[]>
  /** Those of them that the signer is configured for, and so signs with. */
  readonly servedKeys: () => Promise<readonly ServedKey[]>
  /** After each change, durable and visible in `issuers`: the signer and the published files follow here. */
  readonly onIssuersChanged: () => Promise<void>
}

/** A private key as the token describes it; null: the token does not say. */
export interface OnlineKey {
  readonly label: string
  /** null: nobody knows its public half. */
  readonly spkiSha256Hex: string | null
  readonly sign: boolean | null
  readonly sensitive: boolean | null
  readonly extractable: boolean | null
  readonly alwaysSensitive: boolean | null
  readonly neverExtractable: boolean | null
  readonly local: boolean | null
}

export interface ServedKey {
  readonly label: string
  readonly spkiSha256Hex: string
}

export interface PreparedIssuer {
  readonly name: string
  readonly keyLabel: string
  readonly certificatePem: string
}

interface Options {
  readonly context: RequestContext
  readonly dryRun: boolean
}

export interface IssuerRotation {
  /** @throws CaError `value_invalid`, `conflict`, `not_found`, `key_in_use`; PkiError; StoreError `already_exists` */
  prepare(wanted: PreparedIssuer, options: Options): Promise<Issuer>
  /** @throws CaError `not_found`, `conflict`; StoreError `conflict` */
  activate(name: string, options: Options): Promise<Issuer>
  /** @throws CaError `not_found`, `conflict` */
  retire(name: string, options: Options): Promise<RetiredIssuer>
}

export interface RetiredIssuer {
  readonly issuer: Issuer
  /** Unexpired leaves that it still answers for, counted up to 1,000. */
  readonly liveLeaves: number
}

/** Part of URLs and file names. */
const nameForm = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/

const countLimit = 1000

/** What makes it an issuing CA: its own fields, without asking who signed it. @throws CaError `value_invalid` */
const checkIssuingCa = (certificate: Certificate, now: number): void => {
  const fault = (message: string): CaError => invalidValue('certificate', message, 'agentca ceremony issuing')
  const constraints = certificate.basicConstraints
  if (constraints === null || !constraints.isCa) throw fault('expected a CA certificate (basicConstraints CA:TRUE)')
  if (constraints.pathLength !== 0)
    throw fault(`expected a path length of 0, got ${constraints.pathLength === null ? 'none' : constraints.pathLength}`)
  for (const usage of ['keyCertSign', 'cRLSign'] as const)
    if (certificate.keyUsage?.includes(usage) !== true) throw fault(`expected key usage ${usage}`)
  const { algorithm } = certificate.spki
  if (algorithm !== 'P-256' && algorithm !== 'P-384') throw fault(`expected a P-256 or P-384 key, got ${algorithm}`)
  if (certificate.notAfter <= now) throw fault('it has expired')
}

/** The one whose key verifies it, not merely whose name it carries. @throws CaError `value_invalid` */
const parentOf = (deps: IssuerRotationDeps, certificate: Certificate): IssuerView => {
  const signed = ({ certificate: parent }: IssuerView): boolean =>
    equalNames(parent.subjectDer, certificate.issuerDer) &&
    verifySignature(parent.spki, certificate.signatureAlgorithm, certificate.tbs, certificate.signature)
  const parent = deps.issuers.all().find(view => view.record.state !== 'retired' && signed(view))
  if (parent === undefined)
    throw invalidValue('certificate', 'no CA known here signed it', 'agentca ca list shows the ones that may have')
  const { basicConstraints, notAfter } = parent.certificate
  if (basicConstraints?.isCa !== true || basicConstraints.pathLength === 0)
    throw invalidValue('certificate', `${parent.record.name} may not sign other CAs (its path length is 0)`)
  if (certificate.notAfter > notAfter)
    throw invalidValue('certificate', `it would outlive ${parent.record.name}, which signed it`)
  return parent
}

const demands = {
  sign: true,
  sensitive: true,
  extractable: false,
  alwaysSensitive: true,
  neverExtractable: true,
  local: true,
} as const satisfies Partial<Record<keyof OnlineKey, boolean>>

/** The signer refuses to start with a key that could leave its token, and then signs with none of the others either. */
export const keyFaults = (key: OnlineKey): readonly string[] =>
  (Object.keys(demands) as (keyof typeof demands)[])
    .filter(name => key[name] !== demands[name])
    .map(name => `${name} is ${key[name]}, expected ${demands[name]}`)

/** @throws CaError `not_found`, `conflict` */
const checkOnlineKey = async (deps: IssuerRotationDeps, keyLabel: string, spkiHashHex: string): Promise<void> => {
  const hint = 'agentca hsm keys'
  const [key, another] = (await deps.onlineKeys()).filter(each => each.label === keyLabel)
  if (key === undefined)
    throw new CaError('not_found', `the online token has no key labelled ${keyLabel}`, { hint, facts: { keyLabel } })
  if (another !== undefined)
    throw new CaError('conflict', `the online token has several keys labelled ${keyLabel}`, { hint })
  const faults = keyFaults(key)
  if (faults.length > 0)
    throw new CaError('conflict', `key ${keyLabel} is not fit to sign: ${faults.join('; ')}`, {
      hint: 'agentca ceremony issuing generates one inside the token',
    })
  if (key.spkiSha256Hex === spkiHashHex) return
  throw new CaError('conflict', `key ${keyLabel} is not the one in the certificate`, {
    hint,
    facts: { certificate: spkiHashHex, token: key.spkiSha256Hex },
  })
}

/** A signer under a user of its own may have the key in its token and use it for nothing: it is told by its administrator. @throws CaError `conflict` */
const checkServedKey = async (deps: IssuerRotationDeps, keyLabel: string, spkiHashHex: string): Promise<void> => {
  const served = await deps.servedKeys()
  if (served.some(each => each.label === keyLabel && each.spkiSha256Hex === spkiHashHex)) return
  throw new CaError(
    'conflict',
    `the signer is not configured for key ${keyLabel} of the token: it would sign nothing`,
    {
      hint: `as root: agentca signer add-key ${keyLabel} --certificate FILE, then systemctl reload agentca-signer; agentca hsm status shows the keys it uses`,
      facts: { keyLabel },
    },
  )
}

/** One key and one subject per CA: CRL numbers, OCSP answers and path building all go by them. */
const checkUnused = (deps: IssuerRotationDeps, certificate: Certificate): void => {
  for (const { record, certificate: other } of deps.issuers.all()) {
    if (record.spkiHash === certificate.spkiHashHex)
      throw new CaError('key_in_use', `CA ${record.name} has this key`, { hint: 'a new CA needs a new key' })
    if (equalNames(other.subjectDer, certificate.subjectDer))
      throw new CaError('conflict', `CA ${record.name} has this subject`, { hint: 'give each CA a name of its own' })
  }
  if (deps.certificates.list({ keyHash: certificate.spkiHashHex, limit: 1 }).rows.length > 0)
    throw new CaError('key_in_use', 'an identity has this key', { hint: 'a new CA needs a new key' })
}

const viewOf = (deps: IssuerRotationDeps, name: string): IssuerView => {
  const view = deps.issuers.byName(name)
  if (view === null) throw new CaError('not_found', `no CA is called ${name}`, { hint: 'agentca ca list' })
  return view
}

const changed = async (deps: IssuerRotationDeps): Promise<void> => {
  deps.issuers.reload()
  await deps.onIssuersChanged()
}

const prepare = async (
  deps: IssuerRotationDeps,
  { name, keyLabel, certificatePem }: PreparedIssuer,
  { context, dryRun }: Options,
): Promise<Issuer> => {
  const at = deps.clock.now()
  if (!nameForm.test(name)) throw invalidValue('name', 'expected 1 to 64 of a-z, 0-9 and dash')
  if (deps.issuers.byName(name) !== null) throw new CaError('conflict', `CA ${name} exists already`)
  const certificate = parseCertificate(parseOnePem(certificatePem, 'CERTIFICATE'))
  checkIssuingCa(certificate, at)
  const parent = parentOf(deps, certificate)
  checkUnused(deps, certificate)
  await checkOnlineKey(deps, keyLabel, certificate.spkiHashHex)
  const { der, notBefore, notAfter } = certificate
  const draft: Omit<Issuer, 'id'> = {
    name,
    kind: 'issuing',
    state: 'prepared',
    certificate: der,
    parentId: parent.record.id,
    keyLabel,
    spkiHash: certificate.spkiHashHex,
    notBefore,
    notAfter,
    createdAt: at,
  }
  if (dryRun) return { ...draft, id: 0 }
  const sha256 = toHex(createHash('sha256').update(der).digest())
  const added = await deps.ledger.add(
    draft,
    events.issuerAdded(leafContextOf(context, at), { name, kind: 'issuing', sha256, notAfter }),
  )
  await changed(deps)
  return added
}

const activate = async (deps: IssuerRotationDeps, name: string, { context, dryRun }: Options): Promise<Issuer> => {
  const at = deps.clock.now()
  const { record } = viewOf(deps, name)
  const { state, keyLabel } = record
  if (record.kind !== 'issuing' || keyLabel === null)
    throw new CaError('conflict', `${name} is a root: its key is never online`)
  if (state !== 'prepared')
    throw new CaError('conflict', `expected a prepared CA, ${name} is ${state}`, { hint: 'agentca ca list' })
  if (at < record.notBefore || at > record.notAfter)
    throw new CaError('conflict', `the certificate of ${name} is not valid now`, {
      facts: { notBefore: record.notBefore, notAfter: record.notAfter },
    })
  await checkOnlineKey(deps, keyLabel, record.spkiHash)
  await checkServedKey(deps, keyLabel, record.spkiHash)
  const replaced = deps.issuers.all().find(view => view.record.kind === 'issuing' && view.record.state === 'active')
  if (dryRun) return { ...record, state: 'active' }
  const leaf = events.issuerStateChanged(leafContextOf(context, at), {
    name,
    from: state,
    to: 'active',
    ...(replaced === undefined ? {} : { retired: replaced.record.name }),
  })
  const active = await deps.ledger.setState(record.id, 'active', at, leaf, replaced?.record.id ?? null)
  await changed(deps)
  return active
}

const liveLeavesOf = (deps: IssuerRotationDeps, issuerId: number, now: number): number =>
  deps.certificates.list({ issuerId, states: ['issued', 'held'], liveAt: now, limit: countLimit }).rows.length

/** A root leaves the trust bundle when it is retired: nothing below it may still be in use. */
const checkRootUnused = (deps: IssuerRotationDeps, { record }: IssuerView, now: number): void => {
  for (const { record: child } of deps.issuers.all()) {
    if (child.parentId !== record.id) continue
    if (child.state === 'retired' && liveLeavesOf(deps, child.id, now) === 0) continue
    throw new CaError('conflict', `${child.name} below ${record.name} is ${child.state} and may have live leaves`, {
      facts: { child: child.name },
      hint: `agentca ca retire ${child.name}, and wait until its leaves have expired`,
    })
  }
}

const retire = async (deps: IssuerRotationDeps, name: string, { context, dryRun }: Options): Promise<RetiredIssuer> => {
  const at = deps.clock.now()
  const view = viewOf(deps, name)
  const { id, kind, state } = view.record
  if (kind === 'root') checkRootUnused(deps, view, at)
  else if (state === 'active')
    throw new CaError('conflict', `${name} is the active CA`, {
      hint: 'agentca ca activate NAME of another one first',
    })
  const liveLeaves = liveLeavesOf(deps, id, at)
  // Activating its successor has retired it already.
  if (state === 'retired' || dryRun) return { issuer: { ...view.record, state: 'retired' }, liveLeaves }
  const leaf = events.issuerStateChanged(leafContextOf(context, at), { name, from: state, to: 'retired', liveLeaves })
  const issuer = await deps.ledger.setState(id, 'retired', at, leaf, null)
  await changed(deps)
  return { issuer, liveLeaves }
}

export const createIssuerRotation = (deps: IssuerRotationDeps): IssuerRotation => ({
  prepare: (wanted, options) => prepare(deps, wanted, options),
  activate: (name, options) => activate(deps, name, options),
  retire: (name, options) => retire(deps, name, options),
})
