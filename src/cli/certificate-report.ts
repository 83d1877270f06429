// One certificate as people read it: every field that decides something, from the bytes alone.
import { createHash } from 'node:crypto'
import { toHex } from '../base/bytes.ts'
import type { Certificate } from '../pki/certificate.ts'
import type { GeneralName } from '../pki/general-names.ts'
import { nameToString } from '../pki/names.ts'
import { oidName } from '../pki/oid.ts'
import { members, type View } from './output.ts'

const generalNameText = (name: GeneralName): string => {
  switch (name.kind) {
    case 'dns':
    case 'uri':
    case 'email':
      return `${name.kind}:${name.value}`
    case 'ip':
      return `ip:${name.bytes.length === 4 ? name.bytes.join('.') : toHex(name.bytes)}`
    case 'directory':
      return `directory:${toHex(name.nameDer)}`
    case 'registeredId':
      return `registeredId:${name.oid}`
    case 'other':
      return `other:${toHex(name.der)}`
  }
}

const rfc3339 = (at: number): string => new Date(at).toISOString()

export const fingerprintOf = (certificate: Certificate): string =>
  `sha256:${createHash('sha256').update(certificate.der).digest('hex')}`

export type CertificateReport = ReturnType<typeof reportCertificate>

/** @throws PkiError for fields that have no legal reading */
export const reportCertificate = (certificate: Certificate) => {
  const { basicConstraints, authorityInfoAccess } = certificate
  return {
    serial: certificate.serialHex,
    subject: nameToString(certificate.subject),
    issuer: nameToString(certificate.issuer),
    notBefore: rfc3339(certificate.notBefore),
    notAfter: rfc3339(certificate.notAfter),
    names: (certificate.subjectAltName ?? []).map(generalNameText),
    key: `${certificate.spki.algorithm}${certificate.spki.algorithm === 'RSA' ? ` ${certificate.spki.bits}` : ''}`,
    keyHash: certificate.spkiHashHex,
    signature: certificate.signatureAlgorithm,
    ca: basicConstraints?.isCa ?? false,
    pathLength: basicConstraints?.pathLength ?? null,
    keyUsage: certificate.keyUsage ?? [],
    extendedKeyUsage: (certificate.extendedKeyUsage ?? []).map(oidName),
    crl: crlUrlsOf(certificate),
    ocsp: authorityInfoAccess?.ocsp ?? [],
    issuerUrl: authorityInfoAccess?.caIssuers ?? [],
    noRevAvail: certificate.hasNoRevAvail,
    fingerprint: fingerprintOf(certificate),
  }
}

export const crlUrlsOf = (certificate: Certificate): readonly string[] =>
  (certificate.crlDistributionPoints ?? [])
    .flatMap(point => point.fullName ?? [])
    .flatMap(name => (name.kind === 'uri' ? [name.value] : []))

export const certificateReportView: View<CertificateReport> = {
  columns: members<CertificateReport>(
    'serial',
    'subject',
    'issuer',
    'notBefore',
    'notAfter',
    'names',
    'key',
    'keyHash',
    'signature',
    'ca',
    'pathLength',
    'keyUsage',
    'extendedKeyUsage',
    'crl',
    'ocsp',
    'issuerUrl',
    'noRevAvail',
    'fingerprint',
  ),
  name: row => row.serial,
}
