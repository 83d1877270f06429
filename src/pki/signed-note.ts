// A signed note of this CA's log key as text: origin, size, the SHA-256 it is about, a time, and the signature over exactly these lines
// (in the manner of C2SP tlog-checkpoint). What size and hash stand for is the origin's business: a log's head, or a published state.
import { fromBase64, fromUtf8, toBase64, utf8 } from '../base/bytes.ts'
import { verifySignature } from './signature.ts'
import { parseSubjectPublicKeyInfo } from './spki.ts'

export interface NoteFacts {
  /** One word of printable characters that says which series of notes this is one of. */
  readonly origin: string
  readonly size: number
  /** 32 octets. */
  readonly head: Uint8Array
  /** Milliseconds since the epoch; whole seconds. */
  readonly at: number
}

export interface ParsedNote extends NoteFacts {
  readonly signedText: Uint8Array
  /** DER ECDSA-Sig-Value. */
  readonly signature: Uint8Array
}

const rfc3339 = (at: number): string => new Date(at).toISOString().replace(/\.\d{3}Z$/, 'Z')

/** The to-be-signed bytes. @throws TypeError for a head that is not 32 octets or an origin that would break a line */
export const encodeNoteText = ({ origin, size, head, at }: NoteFacts): Uint8Array => {
  if (!/^[!-~]+$/.test(origin)) throw new TypeError(`expected an origin of printable characters, got "${origin}"`)
  if (!Number.isSafeInteger(size) || size < 0) throw new TypeError(`expected a size of 0 or more, got ${size}`)
  if (head.length !== 32) throw new TypeError(`expected a head of 32 octets, got ${head.length}`)
  return utf8(`${origin}\n${size}\n${toBase64(head)}\ntime ${rfc3339(at)}\n`)
}

/** @param signature DER ECDSA-Sig-Value over the text with SHA-256 */
export const encodeSignedNote = (text: Uint8Array, origin: string, signature: Uint8Array): string =>
  `${fromUtf8(text)}\n\u2014 ${origin} ${toBase64(signature)}\n`

const noteForm =
  /^((?<origin>[!-~]+)\n(?<size>0|[1-9]\d{0,15})\n(?<head>[A-Za-z0-9+/=]{44})\ntime (?<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)\n)\n\u2014 (?<signer>[!-~]+) (?<signature>[A-Za-z0-9+/=]+)\n$/

/** @returns the note, or in words what it is instead */
export const readSignedNote = (note: string): ParsedNote | string => {
  const found = noteForm.exec(note)
  if (found?.groups === undefined) return 'other text'
  const { origin, size, head, time, signer, signature } = found.groups as Record<string, string>
  const headBytes = fromBase64(head!)
  const signatureBytes = fromBase64(signature!)
  const at = Date.parse(time!)
  if (headBytes === null || headBytes.length !== 32) return 'a head that is not 32 octets'
  if (signatureBytes === null) return 'a signature that is not base64'
  if (!Number.isSafeInteger(Number(size)) || Number.isNaN(at)) return 'an impossible size or time'
  if (signer !== origin) return 'a signature by another name'
  return {
    origin: origin!,
    size: Number(size),
    head: headBytes,
    at,
    signedText: utf8(found[1]!),
    signature: signatureBytes,
  }
}

/** @param spki DER of the log key, P-256 @throws PkiError for a key that cannot be read */
export const isNoteSignedBy = (note: ParsedNote, spki: Uint8Array): boolean =>
  verifySignature(parseSubjectPublicKeyInfo(spki), 'ecdsa-with-SHA256', note.signedText, note.signature)
