// Signed checkpoints: the text that the log key signs (in the manner of C2SP tlog-checkpoint: origin, size, head, and one extension
// line for the time), the note that carries the signature, and its verification. The head is a hash chain's, not a Merkle root.
import { createPublicKey, type KeyObject, verify } from 'node:crypto'
import { fromBase64, fromUtf8, toBase64, utf8 } from '../base/bytes.ts'
import { AgentCaError } from '../base/errors.ts'

export type CheckpointErrorCode = 'checkpoint_malformed' | 'checkpoint_signature_invalid' | 'checkpoint_wrong_log'

export interface Checkpoint {
  /** `agentca-log/<ca id>` */
  readonly origin: string
  readonly size: number
  /** 32 octets. */
  readonly head: Uint8Array
  /** Milliseconds since the epoch; whole seconds. */
  readonly at: number
}

export const originOf = (caId: string): string => `agentca-log/${caId}`

const rfc3339 = (at: number): string => new Date(at).toISOString().replace(/\.\d{3}Z$/, 'Z')

/** The to-be-signed bytes. @throws TypeError for a head that is not 32 octets or an origin that would break a line */
export const encodeCheckpoint = (checkpoint: Checkpoint): Uint8Array => {
  const { origin, size, head, at } = checkpoint
  if (!/^[!-~]+$/.test(origin)) throw new TypeError(`expected an origin of printable characters, got "${origin}"`)
  if (!Number.isSafeInteger(size) || size < 0) throw new TypeError(`expected a size of 0 or more, got ${size}`)
  if (head.length !== 32) throw new TypeError(`expected a head of 32 octets, got ${head.length}`)
  return utf8(`${origin}\n${size}\n${toBase64(head)}\ntime ${rfc3339(at)}\n`)
}

/** @param signature DER ECDSA-Sig-Value over the text with SHA-256 */
export const encodeNote = (text: Uint8Array, origin: string, signature: Uint8Array): string =>
  `${fromUtf8(text)}\n\u2014 ${origin} ${toBase64(signature)}\n`

const malformed = (what: string): AgentCaError<CheckpointErrorCode> =>
  new AgentCaError('checkpoint_malformed', `expected a signed checkpoint, got ${what}`)

const noteForm =
  /^((?<origin>[!-~]+)\n(?<size>0|[1-9]\d{0,15})\n(?<head>[A-Za-z0-9+/=]{44})\ntime (?<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\n)\n\u2014 (?<signer>[!-~]+) (?<signature>[A-Za-z0-9+/=]+)\n$/

export interface ParsedNote extends Checkpoint {
  readonly signedText: Uint8Array
  readonly signature: Uint8Array
}

/** @throws AgentCaError `checkpoint_malformed` */
export const parseNote = (note: string): ParsedNote => {
  const found = noteForm.exec(note)
  if (found?.groups === undefined) throw malformed('other text')
  const { origin, size, head, time, signer, signature } = found.groups as Record<string, string>
  const headBytes = fromBase64(head!)
  const signatureBytes = fromBase64(signature!)
  const at = Date.parse(time!)
  if (headBytes === null || headBytes.length !== 32) throw malformed('a head that is not 32 octets')
  if (signatureBytes === null) throw malformed('a signature that is not base64')
  if (!Number.isSafeInteger(Number(size)) || Number.isNaN(at)) throw malformed('an impossible size or time')
  if (signer !== origin) throw malformed('a signature by another name')
  return {
    origin: origin!,
    size: Number(size),
    head: headBytes,
    at,
    signedText: utf8(found[1]!),
    signature: signatureBytes,
  }
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
  if (!verify('sha256', parsed.signedText, importKey(log.spki), parsed.signature))
    throw new AgentCaError<CheckpointErrorCode>(
      'checkpoint_signature_invalid',
      'the checkpoint is not signed by the log key',
    )
  const { origin, size, head, at } = parsed
  return { origin, size, head, at }
}

const importKey = (spki: Uint8Array): KeyObject =>
  createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
