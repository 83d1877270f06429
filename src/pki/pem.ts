// PEM by RFC 7468, strict form (§3 `stricttextualmsg`) with white space tolerated around blocks. Several blocks of one label are a
// bundle. Any other label is refused by name, a private key most clearly of all, because it must not travel.
import { fromBase64, toBase64, utf8 } from '../base/bytes.ts'
import type { Pieces } from '../base/pieces.ts'
import { PkiError } from './errors.ts'

export type PemLabel = 'CERTIFICATE' | 'CERTIFICATE REQUEST' | 'X509 CRL' | 'PUBLIC KEY' | 'PRIVATE KEY'

/** A trust bundle of a hundred CAs is about 100 KiB. */
export const maxPemLength = 1_048_576

export const encodePem = (label: PemLabel, der: Uint8Array): string => {
  const base64 = toBase64(der)
  let text = `-----BEGIN ${label}-----\n`
  for (let at = 0; at < base64.length; at += 64) text += `${base64.slice(at, at + 64)}\n`
  return `${text}-----END ${label}-----\n`
}

/** Octets that are whole lines of base64, and some tenth of a millisecond. */
const pieceOctets = 48 * 1024

const linesOf = (der: Uint8Array): string => {
  const base64 = toBase64(der)
  const lines: string[] = []
  for (let at = 0; at < base64.length; at += 64) lines.push(base64.slice(at, at + 64))
  return `${lines.join('\n')}\n`
}

/** The same bytes made as they are read, for lists too long to be there twice. */
export const encodePemPieces = (label: PemLabel, der: Uint8Array): Pieces => {
  const [head, tail] = [`-----BEGIN ${label}-----\n`, `-----END ${label}-----\n`].map(utf8) as [Uint8Array, Uint8Array]
  const characters = Math.ceil(der.length / 3) * 4
  return {
    length: head.length + characters + Math.ceil(characters / 64) + tail.length,
    *[Symbol.iterator]() {
      yield head
      for (let at = 0; at < der.length; at += pieceOctets) yield utf8(linesOf(der.subarray(at, at + pieceOctets)))
      yield tail
    },
  }
}

const begin = /^-----BEGIN ([A-Z0-9 ]{1,40})-----$/

const wrongLabel = (found: string, wanted: PemLabel): PkiError =>
  found.endsWith('PRIVATE KEY')
    ? new PkiError('pem_private_key', `expected a ${wanted}, got a private key`, {
        hint: 'never send the private key: keep it, and consider this one exposed if it left the machine',
      })
    : new PkiError('pem_wrong_label', `expected a ${wanted}, got a ${found}`, { facts: { expected: wanted, found } })

const plainBody = /^(?:[A-Za-z0-9+/=]{1,76}\n)+$/

/** One block as nearly everybody writes it, in a fifth of the time. @returns null for everything else, right or wrong */
const parsePlain = (text: string, label: PemLabel): Uint8Array | null => {
  const head = `-----BEGIN ${label}-----\n`
  const tail = `-----END ${label}-----`
  if (!text.startsWith(head)) return null
  const end = text.length - tail.length - (text.endsWith('\n') ? 1 : 0)
  if (end < head.length || !text.startsWith(tail, end)) return null
  const body = text.slice(head.length, end)
  const der = plainBody.test(body) ? fromBase64(body.replaceAll('\n', '')) : null
  return der === null || der.length === 0 ? null : der
}

/**
 * The DER of every block, at least one. Text between blocks is refused, except empty lines.
 * @throws PkiError pem_malformed, pem_wrong_label, pem_private_key, input_too_large
 */
export const parsePem = (text: string, label: PemLabel, maxLength = maxPemLength): Uint8Array[] => {
  if (text.length > maxLength)
    throw new PkiError('input_too_large', `PEM of at most ${maxLength} characters, got ${text.length}`)
  const plain = parsePlain(text, label)
  if (plain !== null) return [plain]
  const blocks: Uint8Array[] = []
  const lines = text.split(/\r?\n/)
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!.trim()
    if (line === '') continue
    const found = begin.exec(line)?.[1]
    if (found === undefined) throw new PkiError('pem_malformed', `expected -----BEGIN ${label}----- in line ${at + 1}`)
    // OpenSSL 1.0 and Windows write NEW CERTIFICATE REQUEST (RFC 7468 §7).
    const accepted = found === label || (label === 'CERTIFICATE REQUEST' && found === 'NEW CERTIFICATE REQUEST')
    if (!accepted) throw wrongLabel(found, label)
    const end = lines.indexOf(`-----END ${found}-----`, at + 1)
    const tail =
      end < 0 ? lines.findIndex((other, index) => index > at && other.trim() === `-----END ${found}-----`) : end
    if (tail < 0) throw new PkiError('pem_malformed', `the block that begins in line ${at + 1} has no end`)
    const body = lines.slice(at + 1, tail).map(part => part.trimEnd())
    const der = fromBase64(body.join(''))
    if (der === null || der.length === 0 || body.some(part => part.length > 76))
      throw new PkiError('pem_malformed', `the block that begins in line ${at + 1} is not base64`)
    blocks.push(der)
    at = tail
  }
  if (blocks.length === 0) throw new PkiError('pem_malformed', `no ${label} found`)
  return blocks
}

/** Exactly one block. @throws as parsePem */
export const parseOnePem = (text: string, label: PemLabel, maxLength = maxPemLength): Uint8Array => {
  const blocks = parsePem(text, label, maxLength)
  if (blocks.length !== 1) throw new PkiError('pem_malformed', `expected one ${label}, got ${blocks.length}`)
  return blocks[0]!
}
