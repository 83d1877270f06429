// Signed checkpoints of the audit log: notes of the log key (pki/signed-note.ts) whose head is the end of the hash chain, not a Merkle
// root, and whose size is the number of leaves.
import { AgentCaError } from '../base/errors.ts'
import {
  encodeNoteText,
  encodeSignedNote,
  isNoteSignedBy,
  type NoteFacts,
  type ParsedNote,
  readSignedNote,
} from '../pki/signed-note.ts'

export type { ParsedNote } from '../pki/signed-note.ts'

export type CheckpointErrorCode = 'checkpoint_malformed' | 'checkpoint_signature_invalid' | 'checkpoint_wrong_log'

/** Its origin is `agentca-log/<ca id>`. */
export type Checkpoint = NoteFacts

export const originOf = (caId: string): string => `agentca-log/${caId}`

/** The to-be-signed bytes. @throws TypeError for a head that is not 32 octets or an origin that would break a line */
export const encodeCheckpoint: (checkpoint: Checkpoint) => Uint8Array = encodeNoteText

/** @param signature DER ECDSA-Sig-Value over the text with SHA-256 */
export const encodeNote: (text: Uint8Array, origin: string, signature: Uint8Array) => string = encodeSignedNote

/** @throws AgentCaError `checkpoint_malformed` */
export const parseNote = (note: string): ParsedNote => {
  const read = readSignedNote(note)
  if (typeof read !== 'string') return read
  throw new AgentCaError<CheckpointErrorCode>('checkpoint_malformed', `expected a signed checkpoint, got ${read}`)
}

export interface LogKey {
  readonly origin: string
  /** DER SubjectPublicKeyInfo of the log key. */
  readonly spki: Uint8Array
}

/** @throws AgentCaError `checkpoint_malformed`, `checkpoint_wrong_log`, `checkpoint_signature_invalid` */
export const verifyNote = (note: string, log: LogKey): Checkpoint => {
  const parsed = parseNote(note)
  if (parsed.origin !== log.origin)
    throw new AgentCaError<CheckpointErrorCode>(
      'checkpoint_wrong_log',
      `expected a checkpoint of ${log.origin}, got ${parsed.origin}`,
    )
  if (!isNoteSignedBy(parsed, log.spki))
    throw new AgentCaError<CheckpointErrorCode>(
      'checkpoint_signature_invalid',
      'the checkpoint is not signed by the log key',
    )
  const { origin, size, head, at } = parsed
  return { origin, size, head, at }
}
