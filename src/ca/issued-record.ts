// The record of a certificate from its intent, without reading its row: what step 6 made of it is known.
import type { IntentRecord } from '../store/ports.ts'
import type { CertificateRecord } from '../store/records.ts'

/** What a row says right after step 6. Member by member: spread into each other, objects become dictionaries. */
export const issuedRecord = (intent: IntentRecord, issuedAt: number): CertificateRecord => ({
  serial: intent.serial,
  issuerId: intent.issuerId,
  kind: intent.kind,
  registrationId: intent.registrationId,
  instanceId: intent.instanceId,
  generation: intent.generation,
  predecessor: intent.predecessor,
  replaced: false,
  keyHash: intent.keyHash,
  state: 'issued',
  profile: intent.profile,
  profileHash: intent.profileHash,
  requester: intent.requester,
  tokenId: intent.tokenId,
  registrationVersion: intent.registrationVersion,
  epoch: intent.epoch,
  deadline: intent.deadline,
  createdAt: intent.createdAt,
  issuedAt,
  notBefore: intent.notBefore,
  notAfter: intent.notAfter,
  revokedAt: null,
  reason: null,
})
