// The certificate at the other end of a TLS connection: read once per connection, and proved to be one that this CA recorded, byte for
// byte. TLS proved that the peer holds its key; OpenSSL's own opinion of the chain is not asked. Only what can change is read again for
// each request.
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { networkOf } from '../audit/sampler.ts'
import { equalBytes } from '../base/bytes.ts'
import { CaError } from '../ca/errors.ts'
import type { Issuers } from '../ca/issuers.ts'
import type { Released } from '../ca/released.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { verifySignature } from '../pki/signature.ts'
import type { CertificatesPort, InstancesPort, RegistrationsPort, StatusPort } from '../store/ports.ts'
import type { CertificateWithBytes } from '../store/records.ts'
import type { HolderCaller } from './call.ts'
import type { PresentStates } from './caller-state.ts'
import { HttpError } from './errors.ts'
import { type SeenPeer, shownCertificates, shownLeaf, sourceOf } from './seen-peer.ts'

export interface PresentedDeps {
  readonly certificates: Pick<CertificatesPort, 'get'>
  readonly registrations: Pick<RegistrationsPort, 'byId'>
  readonly instances: Pick<InstancesPort, 'get'>
  readonly status: Pick<StatusPort, 'states'>
  readonly issuers: Pick<Issuers, 'byId'>
  /** undefined: every signature is verified. */
  readonly released?: Pick<Released, 'has'> | undefined
}

/** What stays true for a connection's life. */
export interface Connection {
  /** Source address without a port. */
  readonly source: string
  /** Whom the rate limit counts. */
  readonly network: string
  readonly presented: Presented | null
}

interface Presented {
  /** null: the bytes cannot be read as a certificate. */
  readonly certificate: Certificate | null
  readonly resumed: boolean
  /** DER, leaf first. */
  readonly chain: () => readonly Uint8Array[]
  /** Set once the bytes were compared with the record and the issuer's signature was checked; neither can change later. */
  holder: HolderCaller | null
}

// Dies with its socket.
const connections = new WeakMap<object, Connection>()

const readCertificate = (der: Uint8Array): Certificate | null => {
  try {
    return parseCertificate(der)
  } catch {
    return null
  }
}

const readPresented = (socket: Socket): Presented | null => {
  const leaf = shownLeaf(socket)
  if (leaf === null || !(socket instanceof TLSSocket)) return null
  const chain = () => shownCertificates(socket)
  return { certificate: readCertificate(leaf), resumed: socket.isSessionReused(), chain, holder: null }
}

const keep = (socket: object, source: string, presented: Presented | null): Connection => {
  const connection = { source, network: networkOf(source), presented }
  connections.set(socket, connection)
  return connection
}

export const connectionOf = (socket: Socket): Connection =>
  connections.get(socket) ?? keep(socket, sourceOf(socket), readPresented(socket))

/** What a front saw of a connection that it holds: in this process something else stands for it. */
export const setConnection = (standIn: object, { source, resumed, chain }: SeenPeer): void => {
  const [leaf] = chain
  const presented =
    leaf === undefined ? null : { certificate: readCertificate(leaf), resumed, chain: () => chain, holder: null }
  keep(standIn, source, presented)
}

/**
 * What the other end showed, DER, leaf first: the handshake of this connection proved the leaf's key and nothing else.
 * @throws HttpError `session_resumed` @returns null: nothing
 */
export const shownChain = (socket: Socket): readonly Uint8Array[] | null => {
  const { presented } = connectionOf(socket)
  if (presented === null) return null
  if (presented.resumed) throw resumed()
  return presented.chain()
}

const resumed = (): HttpError =>
  new HttpError('session_resumed', 'a resumed TLS session proves no certificate', {
    hint: 'make a full handshake for each connection',
  })

const invalid = (message: string): HttpError => new HttpError('client_certificate_invalid', message)

const recordOf = (deps: PresentedDeps, certificate: Certificate): CertificateWithBytes => {
  // RFC 5280 §4.1.2.2: at most 20 octets. Longer ones are not ours, and the ledger need not be asked.
  const record = certificate.serial.length > 20 ? null : deps.certificates.get(certificate.serialHex)
  // Without a recorded signature nothing of this serial was ever released.
  if (record === null || record.signature === null)
    throw new CaError('certificate_unknown', 'the presented certificate was not issued here', {
      hint: 'present a certificate of this CA, or none',
    })
  return record
}

const checkRecorded = (deps: PresentedDeps, certificate: Certificate, record: CertificateWithBytes): void => {
  const { tbs, signature } = record
  if (signature === null || !equalBytes(tbs, certificate.tbs) || !equalBytes(signature, certificate.signature))
    throw invalid('the presented certificate is not the one recorded under its serial')
  if (deps.released?.has(certificate.der) === true) return
  const issuer = deps.issuers.byId(record.issuerId).certificate
  if (!verifySignature(issuer.spki, certificate.signatureAlgorithm, certificate.tbs, certificate.signature))
    throw invalid('the signature of the presented certificate does not verify')
}

const readHolder = (deps: PresentedDeps, certificate: Certificate): HolderCaller => {
  const row = recordOf(deps, certificate)
  checkRecorded(deps, certificate, row)
  const { spiffeId } = certificate
  if (spiffeId === null) throw invalid('the presented certificate has no SPIFFE ID')
  // The bytes are in the certificate already, and a connection may live for long.
  const { tbs: _tbs, signature: _signature, ...record } = row
  return { kind: 'holder', certificate, record, spiffeId }
}

/**
 * The caller whom the certificate names, whatever state it is in.
 * @throws HttpError session_resumed, client_certificate_invalid; CaError certificate_unknown
 */
export const identify = (deps: PresentedDeps, presented: Presented): HolderCaller => {
  const { certificate } = presented
  // A resumed session proves the key of some earlier handshake only (architecture.md, TLS).
  if (presented.resumed) throw resumed()
  if (certificate === null) throw invalid('the presented certificate cannot be read')
  presented.holder ??= readHolder(deps, certificate)
  return presented.holder
}

/** What the ledger says of the caller now. */
export const presentStates = (deps: PresentedDeps, { record }: HolderCaller): PresentStates => {
  const [row] = deps.status.states(record.issuerId, [record.serial])
  const registration = deps.registrations.byId(record.registrationId)
  const instance = deps.instances.get(record.instanceId)
  if (row == null || registration === null || instance === null)
    throw new CaError('internal', `certificate ${record.serial} belongs to nobody`)
  return { registration, instance, certificate: row.state }
}
