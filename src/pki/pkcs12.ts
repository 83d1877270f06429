// PKCS#12 files (RFC 7292) for programs that take keys and trust anchors in no other form, Java's before all: PBES2 with PBKDF2 over
// HMAC-SHA256 and AES-256-CBC (RFC 8018), and a MAC over HMAC-SHA256, which OpenSSL from 1.1, Java from 8u301 and Python read. Only
// written: nobody here takes a key from such a file. Salts come from the caller.
import { createCipheriv, createHmac, hash, pbkdf2Sync } from 'node:crypto'
import { concatBytes, utf8 } from '../base/bytes.ts'
import {
  derElement,
  explicit,
  implicitPrimitive,
  integer,
  nullValue,
  octetString,
  oid,
  sequence,
  sequenceOf,
  set,
  Tag,
} from './der.ts'
import { PkiError } from './errors.ts'
import { oidOf } from './oid.ts'

/** OWASP's number for PBKDF2 with HMAC-SHA256; the MAC has as many, or it would be the easier way to the password. */
export const pkcs12Iterations = 600_000

export interface Protection {
  /** ASCII without control characters: beyond it programs disagree about the bytes. */
  readonly password: string
  readonly iterations: number
  readonly random: (length: number) => Uint8Array
}

export interface KeyStore {
  /** PKCS#8, DER. */
  readonly privateKey: Uint8Array
  /** DER, the leaf first, then its issuers. */
  readonly certificates: readonly Uint8Array[]
  /** What Java calls the alias. */
  readonly name: string
}

export interface TrustAnchorEntry {
  readonly certificate: Uint8Array
  readonly name: string
}

/** BMPString: UTF-16, big-endian. */
const bmpBytes = (text: string): Uint8Array => {
  const bytes = Buffer.from(text, 'utf16le').swap16()
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
}

const checkPassword = (password: string): void => {
  if (!/^[\x20-\x7e]+$/.test(password))
    throw new PkiError('not_encodable', 'expected a password of printable ASCII characters')
}

/** RFC 8018 §6.2. @returns AlgorithmIdentifier and ciphertext */
const encrypted = (plain: Uint8Array, { password, iterations, random }: Protection) => {
  const [salt, iv] = [random(16), random(16)]
  const key = pbkdf2Sync(utf8(password), salt, iterations, 32, 'sha256')
  const cipher = createCipheriv('aes-256-cbc', key, iv)
  const content = concatBytes([new Uint8Array(cipher.update(plain)), new Uint8Array(cipher.final())])
  const derivation = sequence(
    oid(oidOf.pbkdf2),
    sequence(octetString(salt), integer(iterations), sequence(oid(oidOf.hmacWithSha256), nullValue())),
  )
  const scheme = sequence(oid(oidOf.aes256Cbc), octetString(iv))
  return { algorithm: sequence(oid(oidOf.pbes2), sequence(derivation, scheme)), content }
}

/** RFC 7292 appendix B.2 for SHA-256: its output is as long as the key that is wanted, so one round is all of it. */
const macKey = (password: string, salt: Uint8Array, iterations: number): Uint8Array => {
  const block = 64
  const filled = (bytes: Uint8Array): Uint8Array => {
    const out = new Uint8Array(block * Math.ceil(bytes.length / block))
    for (let at = 0; at < out.length; at++) out[at] = bytes[at % bytes.length]!
    return out
  }
  // ID 3: a key for a MAC.
  const diversifier = new Uint8Array(block).fill(3)
  const passwordBytes = concatBytes([bmpBytes(password), new Uint8Array(2)])
  let digest = hash('sha256', concatBytes([diversifier, filled(salt), filled(passwordBytes)]), 'buffer')
  for (let round = 1; round < iterations; round++) digest = hash('sha256', digest, 'buffer')
  return digest
}

type Attribute = readonly [type: string, value: Uint8Array]

const safeBag = (type: string, value: Uint8Array, attributes: readonly Attribute[]): Uint8Array => {
  const own = attributes.map(([attribute, content]) => sequence(oid(attribute), set(content)))
  return sequence(oid(type), explicit(0, value), ...(own.length === 0 ? [] : [set(...own)]))
}

const certificateBag = (certificate: Uint8Array, attributes: readonly Attribute[]): Uint8Array => {
  const value = sequence(oid(oidOf.x509CertificateType), explicit(0, octetString(certificate)))
  return safeBag(oidOf.certBag, value, attributes)
}

const friendlyName = (name: string): Attribute => [oidOf.friendlyName, derElement(Tag.bmpString, [bmpBytes(name)])]

const dataContent = (content: Uint8Array): Uint8Array =>
  sequence(oid(oidOf.pkcs7Data), explicit(0, octetString(content)))

/** Bags that are encrypted as a whole. */
const encryptedContent = (bags: readonly Uint8Array[], protection: Protection): Uint8Array => {
  const { algorithm, content } = encrypted(sequenceOf(bags), protection)
  const info = sequence(oid(oidOf.pkcs7Data), algorithm, implicitPrimitive(0, content))
  return sequence(oid(oidOf.pkcs7EncryptedData), explicit(0, sequence(integer(0), info)))
}

const pfx = (contents: readonly Uint8Array[], { password, iterations, random }: Protection): Uint8Array => {
  const safe = sequenceOf(contents)
  const salt = random(16)
  const mac = createHmac('sha256', macKey(password, salt, iterations))
    .update(safe)
    .digest()
  const digest = sequence(sequence(oid(oidOf.sha256), nullValue()), octetString(new Uint8Array(mac)))
  return sequence(integer(3), dataContent(safe), sequence(digest, octetString(salt), integer(iterations)))
}

/** A private key with its certificates. @throws PkiError not_encodable */
export const encodeKeyStore = (store: KeyStore, protection: Protection): Uint8Array => {
  checkPassword(protection.password)
  const [leaf, ...issuers] = store.certificates
  if (leaf === undefined) throw new PkiError('not_encodable', 'expected at least one certificate, got none')
  // What ties the key to its certificate: any bytes that both have.
  const own: readonly Attribute[] = [
    friendlyName(store.name),
    [oidOf.localKeyId, octetString(hash('sha256', leaf, 'buffer'))],
  ]
  const { algorithm, content } = encrypted(store.privateKey, protection)
  const key = safeBag(oidOf.pkcs8ShroudedKeyBag, sequence(algorithm, octetString(content)), own)
  const certificates = [certificateBag(leaf, own), ...issuers.map(issuer => certificateBag(issuer, []))]
  return pfx([encryptedContent(certificates, protection), dataContent(sequence(key))], protection)
}

/** Trust anchors alone; by their attribute Java takes them for what they are. @throws PkiError not_encodable */
export const encodeTrustStore = (anchors: readonly TrustAnchorEntry[], protection: Protection): Uint8Array => {
  checkPassword(protection.password)
  if (anchors.length === 0) throw new PkiError('not_encodable', 'expected at least one trust anchor, got none')
  const trusted: Attribute = [oidOf.javaTrustedKeyUsage, oid(oidOf.anyExtendedKeyUsage)]
  const bags = anchors.map(({ certificate, name }) => certificateBag(certificate, [friendlyName(name), trusted]))
  return pfx([encryptedContent(bags, protection)], protection)
}
