// tls-alpn-01 (RFC 8737, RFC 8738 §6): the digest of the key authorization in a self-signed certificate, shown to whoever speaks
// acme-tls/1. The handshake is all there is; no application data is sent or read.
import { X509Certificate } from 'node:crypto'
import { connect, type TLSSocket } from 'node:tls'
import { equalBytes } from '../../base/bytes.ts'
import { type Certificate, maxCertificateBytes, parseCertificate } from '../../pki/certificate.ts'
import { DerReader } from '../../pki/der-reader.ts'
import type { GeneralName } from '../../pki/general-names.ts'
import { parseIpAddress } from '../../pki/host-names.ts'
import { oidOf } from '../../pki/oid.ts'
import { keyAuthorizationDigest } from './dns-01.ts'
import { type Dns, reverseName } from './dns-questions.ts'
import { type Challenge, type Identifier, ProbeFailure, type ValidationPolicy } from './policy.ts'
import { connectionFailure, tryTargets } from './targets.ts'

const protocol = 'acme-tls/1'

export const probeTlsAlpn01 = (
  challenge: Challenge,
  policy: ValidationPolicy,
  { dns, signal }: { dns: () => Dns; signal: AbortSignal },
): Promise<void> =>
  tryTargets(challenge.identifier, policy, {
    dns,
    probe: async address => {
      const where = `${challenge.identifier.value} port ${policy.tlsPort}`
      const der = await shownCertificate({
        address,
        port: policy.tlsPort,
        identifier: challenge.identifier,
        where,
        signal,
      })
      const fault = faultOf(der, challenge)
      if (fault !== null) throw new ProbeFailure('incorrectResponse', `${where}: ${fault}`)
    },
  })

const shownCertificate = ({
  address,
  port,
  identifier,
  where,
  signal,
}: {
  address: string
  port: number
  identifier: Identifier
  where: string
  signal: AbortSignal
}): Promise<Uint8Array> =>
  new Promise((resolve, reject) => {
    const socket = connect({
      host: address,
      port,
      servername: identifier.type === 'dns' ? identifier.value : reverseName(identifier.value),
      ALPNProtocols: [protocol],
      minVersion: 'TLSv1.2',
      // The certificate is judged by what it says of the challenge; no authority stands behind it.
      rejectUnauthorized: false,
    })
    let connected = false
    const fail = (error: unknown): void => {
      signal.removeEventListener('abort', aborted)
      socket.destroy()
      reject(error)
    }
    const aborted = (): void => fail(signal.reason)
    if (signal.aborted) return aborted()
    signal.addEventListener('abort', aborted, { once: true })
    socket.once('connect', () => {
      connected = true
    })
    socket.on('error', error => fail(handshakeFailure(error, connected, where)))
    socket.once('close', () => fail(new ProbeFailure('tls', `${where}: the handshake was cut`)))
    socket.once('secureConnect', () => {
      const der = shownBy(socket)
      if (socket.alpnProtocol !== protocol) return fail(new ProbeFailure('tls', `${where}: ${protocol} was not chosen`))
      if (der === undefined) return fail(new ProbeFailure('tls', `${where}: no certificate was shown`))
      signal.removeEventListener('abort', aborted)
      resolve(der)
      // What ends the handshake is still sent: a responder need not see an error.
      socket.destroySoon()
    })
  })

const shownBy = (socket: TLSSocket): Uint8Array | undefined => socket.getPeerX509Certificate()?.raw

const handshakeFailure = (error: Error, connected: boolean, where: string): ProbeFailure =>
  connected ? new ProbeFailure('tls', `${where}: the handshake failed`) : connectionFailure(error, where)

/** @returns what is wrong with it, null for nothing */
const faultOf = (der: Uint8Array, { identifier, keyAuthorization }: Challenge): string | null => {
  if (der.length > maxCertificateBytes) return 'the certificate is too large'
  try {
    const certificate = parseCertificate(der)
    if (!namesOnly(certificate.subjectAltName ?? [], identifier))
      return `the certificate's subjectAltName is something else than ${identifier.value} alone`
    if (!hasDigest(certificate, keyAuthorizationDigest(keyAuthorization)))
      return 'the certificate has no critical acmeIdentifier with the digest of the key authorization'
    return isSelfSigned(certificate) ? null : 'the certificate is not self-signed'
  } catch {
    return 'the certificate cannot be read'
  }
}

const namesOnly = (names: readonly GeneralName[], identifier: Identifier): boolean => {
  const [name] = names
  if (name === undefined || names.length !== 1) return false
  if (identifier.type === 'dns') return name.kind === 'dns' && name.value.toLowerCase() === identifier.value
  return name.kind === 'ip' && equalBytes(name.bytes, parseIpAddress(identifier.value) ?? new Uint8Array())
}

/** @throws PkiError der_malformed */
const hasDigest = (certificate: Certificate, digest: Uint8Array): boolean => {
  const extension = certificate.extension(oidOf.acmeIdentifier)
  if (extension === undefined || !extension.critical) return false
  const reader = new DerReader(extension.value)
  const found = reader.readOctetString()
  reader.end()
  return equalBytes(found, digest)
}

const isSelfSigned = (certificate: Certificate): boolean => {
  const read = new X509Certificate(certificate.der)
  return certificate.comparableIssuer === certificate.comparableSubject && read.verify(read.publicKey)
}
