// How instances, tokens and certificates are shown.
import type { CertificateAnswer, CertificateDetail, InstanceAnswer, TokenAnswer } from '../schema/admin-answers.ts'
import type { OwnerAnswer } from '../schema/owner-api.ts'
import { members, type View } from './output.ts'

export const instanceView: View<InstanceAnswer> = {
  columns: members<InstanceAnswer>(
    'id',
    'state',
    'kind',
    'name',
    'generation',
    'serial',
    'notAfter',
    'lockReason',
    'createdAt',
  ),
  name: row => row.id,
}

export const tokenView: View<TokenAnswer> = {
  columns: [
    ...members<TokenAnswer>('id', 'state', 'kind', 'name'),
    { name: 'uses', value: row => `${row.usesTaken}/${row.uses}` },
    ...members<TokenAnswer>('expiresAt', 'createdAt', 'createdBy'),
  ],
  name: row => row.id,
}

export const ownerView: View<OwnerAnswer> = {
  columns: members<OwnerAnswer>('name', 'state', 'agents', 'createdAt'),
  name: row => row.name,
}

/** The columns of the contract, in its order. */
export const certificateView: View<CertificateAnswer> = {
  columns: members<CertificateAnswer>(
    'serial',
    'state',
    'kind',
    'agent',
    'instance',
    'generation',
    'notBefore',
    'notAfter',
    'issuedAt',
    'revokedAt',
    'reason',
  ),
  name: row => row.serial,
}

export const certificateDetailView: View<CertificateDetail> = {
  columns: [
    ...(certificateView.columns as View<CertificateDetail>['columns']),
    ...members<CertificateDetail>(
      'issuer',
      'predecessor',
      'replaced',
      'keyHash',
      'profile',
      'profileHash',
      'requester',
    ),
  ],
  name: row => row.serial,
  pem: row => row.certificate ?? '',
}
