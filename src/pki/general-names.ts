// GeneralName (RFC 5280 §4.2.1.6): subject alternative names, distribution points, name constraints. Shapes only: whether a name may
// be granted is policy, whether a constraint holds is path validation.
import {
  asciiBytes,
  type DerElement,
  type DerReader,
  decodeAscii,
  derElement,
  explicit,
  implicitPrimitive,
  oid,
  Tag,
} from './der.ts'
import { PkiError } from './errors.ts'

export type GeneralName =
  | { readonly kind: 'dns'; readonly value: string }
  | { readonly kind: 'uri'; readonly value: string }
  | { readonly kind: 'email'; readonly value: string }
  /** 4 or 16 bytes; 8 or 32 (address and mask) inside name constraints. */
  | { readonly kind: 'ip'; readonly bytes: Uint8Array }
  | { readonly kind: 'directory'; readonly nameDer: Uint8Array }
  | { readonly kind: 'registeredId'; readonly oid: string }
  /** otherName, x400Address, ediPartyName: kept as they are. */
  | { readonly kind: 'other'; readonly der: Uint8Array }

export const uriName = (value: string): GeneralName => ({ kind: 'uri', value })
export const dnsName = (value: string): GeneralName => ({ kind: 'dns', value })
/** 4 or 16 octets. */
export const ipName = (bytes: Uint8Array): GeneralName => ({ kind: 'ip', bytes })

/** @throws PkiError not_encodable */
export const encodeGeneralName = (name: GeneralName): Uint8Array => {
  switch (name.kind) {
    case 'email':
      return implicitPrimitive(1, asciiBytes(name.value))
    case 'dns':
      return implicitPrimitive(2, asciiBytes(name.value))
    case 'uri':
      return implicitPrimitive(6, asciiBytes(name.value))
    case 'directory':
      // [4] is EXPLICIT because Name is a CHOICE (X.680 §31.2.7).
      return explicit(4, name.nameDer)
    case 'ip':
      return implicitPrimitive(7, name.bytes)
    case 'registeredId':
      return derElement(0x88, [oid(name.oid).subarray(2)])
    case 'other':
      return name.der
  }
}

export const encodeGeneralNames = (names: readonly GeneralName[], tag: number = Tag.sequence): Uint8Array =>
  derElement(tag, names.map(encodeGeneralName))

/** RFC 3986 §2: no URI has controls or spaces in it, and what shows or compares one need not look for them. */
const parseUri = (content: Uint8Array): string => {
  const uri = decodeAscii(content)
  if (/[^!-~]/.test(uri)) throw new PkiError('extension_malformed', 'a URI with characters that no URI has')
  return uri
}

/** @throws PkiError der_malformed, extension_malformed */
export const parseGeneralName = (element: DerElement): GeneralName => {
  switch (element.tag) {
    case 0x81:
      return { kind: 'email', value: decodeAscii(element.content) }
    case 0x82:
      return { kind: 'dns', value: decodeAscii(element.content) }
    case 0x86:
      return { kind: 'uri', value: parseUri(element.content) }
    case 0x87:
      return { kind: 'ip', bytes: element.content }
    case 0x88:
      return { kind: 'registeredId', oid: element.asOid() }
    case 0xa4: {
      const inner = element.reader()
      const name = inner.readTlv(Tag.sequence)
      inner.end()
      return { kind: 'directory', nameDer: name.raw }
    }
    case 0xa0:
    case 0xa3:
    case 0xa5:
      return { kind: 'other', der: element.raw }
    default:
      throw new PkiError('extension_malformed', `no general name has tag 0x${element.tag.toString(16)}`)
  }
}

/** Names up to the end of the reader, at least one (RFC 5280 §4.2.1.6: SIZE (1..MAX)). */
export const parseGeneralNames = (reader: DerReader): GeneralName[] => {
  const names: GeneralName[] = []
  while (!reader.atEnd) names.push(parseGeneralName(reader.readTlv()))
  if (names.length === 0) throw new PkiError('extension_malformed', 'general names without a name')
  return names
}
