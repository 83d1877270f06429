// Whether a name lies within a subtree, form by form (RFC 5280 §4.2.1.10). Three answers: a name that its form does not allow, or a
// subtree that cannot be read, is neither inside nor outside, and whoever asks has to refuse it.
import type { GeneralName } from '../pki/general-names.ts'
import { comparableRdns, parseName } from '../pki/names.ts'

export type Fit = 'within' | 'outside' | 'unreadable'

/** A subtree that excludes also catches names that could stand for one inside it; one that permits takes only what is all inside. */
export type Subtree = 'permitted' | 'excluded'

const fitIf = (within: boolean): Fit => (within ? 'within' : 'outside')

/** `form` of a name and of a subtree have to be the same one. */
export const formOf = (name: GeneralName): string =>
  // otherName, x400Address and ediPartyName are three forms.
  name.kind === 'other' ? `other ${name.der[0]}` : name.kind

/** Both of one form. */
export const fitOf = (name: GeneralName, base: GeneralName, subtree: Subtree): Fit => {
  if (name.kind === 'dns' && base.kind === 'dns') return dnsFit(name.value, base.value, subtree)
  if (name.kind === 'email' && base.kind === 'email') return emailFit(name.value, base.value)
  if (name.kind === 'uri' && base.kind === 'uri') return uriFit(name.value, base.value)
  if (name.kind === 'ip' && base.kind === 'ip') return ipFit(name.bytes, base.bytes)
  if (name.kind === 'directory' && base.kind === 'directory') return directoryFit(name.nameDer, base.nameDer)
  // §4.2.1.10: a constraint on a form that is not processed, and a name of that form: the certificate is to be rejected.
  return 'unreadable'
}

/** Lower-case labels of a host name, null when it is none. Underscores occur and harm nobody here. */
const labelsOf = (host: string): readonly string[] | null => {
  if (host.length > 253) return null
  const labels = host.toLowerCase().split('.')
  return labels.every(label => /^[a-z0-9_-]{1,63}$/.test(label)) ? labels : null
}

const endsWith = (labels: readonly string[], base: readonly string[]): boolean =>
  labels.length >= base.length && base.every((label, i) => label === labels[labels.length - base.length + i])

/**
 * Zero or more labels to the left of the base. A leading dot, which the RFC does not know for this form, asks for at least one, as in
 * OpenSSL and Go.
 */
const dnsFit = (name: string, base: string, subtree: Subtree): Fit => {
  const wildcard = name.startsWith('*.')
  const labels = labelsOf(wildcard ? name.slice(2) : name)
  if (labels === null) return 'unreadable'
  if (base === '') return 'within'
  const dotted = base.startsWith('.')
  const baseLabels = labelsOf(dotted ? base.slice(1) : base)
  if (baseLabels === null) return 'unreadable'
  if (endsWith(labels, baseLabels)) return fitIf(!dotted || wildcard || labels.length > baseLabels.length)
  // `*.example.com` may stand for a host.example.com that is excluded.
  const stands = wildcard && subtree === 'excluded' && baseLabels.length === labels.length + 1
  return fitIf(stands && endsWith(baseLabels, labels))
}

/** A host's constraint names that host, one with a leading dot what lies below it. */
const hostFit = (host: readonly string[], base: string): Fit => {
  const dotted = base.startsWith('.')
  const labels = labelsOf(dotted ? base.slice(1) : base)
  if (labels === null) return 'unreadable'
  return fitIf(endsWith(host, labels) && host.length > labels.length === dotted)
}

interface Mailbox {
  readonly local: string
  readonly host: readonly string[]
}

const mailboxOf = (text: string): Mailbox | null => {
  const at = text.lastIndexOf('@')
  const host = labelsOf(text.slice(at + 1))
  return at < 1 || host === null ? null : { local: text.slice(0, at), host }
}

/** A mailbox, a host or a domain. Local parts compare exactly (§7.5). */
const emailFit = (name: string, base: string): Fit => {
  const mailbox = mailboxOf(name)
  if (mailbox === null) return 'unreadable'
  if (!base.includes('@')) return hostFit(mailbox.host, base)
  const only = mailboxOf(base)
  if (only === null) return 'unreadable'
  return fitIf(only.local === mailbox.local && only.host.join('.') === mailbox.host.join('.'))
}

/** The host of a URI; an authority without a host name, an address in its place included, can satisfy no constraint (§4.2.1.10). */
const uriFit = (name: string, base: string): Fit => {
  const host = /^[a-z][a-z0-9+.-]*:\/\/(?:[^/?#@\\]*@)?([^/?#@:[\]\\]+)(?::[0-9]*)?(?:[/?#]|$)/i.exec(name)?.[1]
  const labels = host === undefined ? null : labelsOf(host)
  // What ends in a number is an address, of four parts or fewer (RFC 3986 §3.2.2, WHATWG URL).
  if (labels === null || /^(?:[0-9]+|0x[0-9a-f]*)$/.test(labels.at(-1)!)) return 'unreadable'
  return hostFit(labels, base)
}

/** Address and mask. An address of the other family is outside: it is still a name of this form. */
const ipFit = (address: Uint8Array, base: Uint8Array): Fit => {
  if ((address.length !== 4 && address.length !== 16) || (base.length !== 8 && base.length !== 32)) return 'unreadable'
  const size = base.length / 2
  const mask = base.subarray(size)
  if (!isPrefixMask(mask)) return 'unreadable'
  return fitIf(address.length === size && address.every((byte, i) => ((byte ^ base[i]!) & mask[i]!) === 0))
}

/** §4.2.1.10 has the style of CIDR: ones, then zeros. */
const isPrefixMask = (mask: Uint8Array): boolean =>
  /^1*0*$/.test(Array.from(mask, byte => byte.toString(2).padStart(8, '0')).join(''))

/** The base is a prefix of the name, RDN by RDN. */
const directoryFit = (nameDer: Uint8Array, baseDer: Uint8Array): Fit => {
  const name = comparableRdns(parseName(nameDer))
  return fitIf(comparableRdns(parseName(baseDer)).every((rdn, i) => rdn === name[i]))
}
