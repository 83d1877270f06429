// The keys of a ceremony: generated inside the token, or found there, and in either case shown to be unable to leave it or to do
// anything but sign.
import { createHash } from 'node:crypto'
import { readFileSync, realpathSync } from 'node:fs'
import { toHex } from '../../base/bytes.ts'
import type { KeyAlgorithm } from '../../pki/algorithms.ts'
import type { ExternalKey } from '../../pki/peculiar.ts'
import { encodePem } from '../../pki/pem.ts'
import type { CeremonyKey, CeremonyToken } from '../../signer/ceremony-token.ts'
import { TokenError } from '../../signer/errors.ts'
import type { KeyAttributes } from '../../signer/keys.ts'
import { parsePkcs11Uri } from '../../signer/pkcs11-uri.ts'
import type { TokenDescription } from '../../signer/token.ts'
import { CeremonyError } from './errors.ts'
import { differs, type Rule, requireRules, unless } from './rules.ts'
import type { Facts } from './transcript.ts'

/** `new`: every label must be free. `keep`: keys that exist under their labels are used, only missing ones are generated. */
export type KeyPolicy = 'new' | 'keep'

export interface WantedKey {
  readonly label: string
  readonly algorithm: 'P-256' | 'P-384'
}

/** A key that must be there, on the curve of its certificate. */
export interface SoughtKey {
  readonly label: string
  readonly algorithm: KeyAlgorithm
}

const attribute = (name: keyof KeyAttributes, expected: boolean): Rule<KeyAttributes, null> => ({
  rule: `CKA_${name.replace(/[A-Z]/g, letter => `_${letter}`).toUpperCase()} is ${expected}`,
  source: 'PKCS#11 v2.40 §4.9',
  fault: attributes => differs(attributes[name], expected),
})

/** Tokens that do not know the attribute cannot do the thing. */
const incapable = (name: keyof KeyAttributes): Rule<KeyAttributes, null> => ({
  ...attribute(name, false),
  fault: attributes => unless(attributes[name] !== true, 'expected false, got true'),
})

const keyRules = [
  attribute('token', true),
  attribute('private', true),
  attribute('sign', true),
  attribute('sensitive', true),
  attribute('alwaysSensitive', true),
  attribute('extractable', false),
  attribute('neverExtractable', true),
  attribute('local', true),
  incapable('decrypt'),
  incapable('unwrap'),
  incapable('derive'),
  incapable('signRecover'),
]

const taken = (label: string): TokenError =>
  new TokenError('key_exists', `the token already has a key labelled "${label}"`, {
    hint: 'keys are never overwritten: choose another label in the input, or certify the key that is there with --keep-keys',
  })

/** Labels that are in the token now. @throws TokenError `key_exists` when the policy forbids one */
export const checkLabels = (
  token: CeremonyToken,
  wanted: readonly WantedKey[],
  policy: KeyPolicy,
): ReadonlySet<string> => {
  const present = new Set(token.listKeys().map(key => key.label))
  const clash = wanted.find(({ label }) => present.has(label))
  if (policy === 'new' && clash !== undefined) throw taken(clash.label)
  return present
}

/** @throws TokenError `key_not_found`, `key_ambiguous`, `key_unsafe`; CeremonyError `ceremony_refused`, `self_check_failed` */
export const findKey = (token: CeremonyToken, { label, algorithm }: SoughtKey): CeremonyKey => {
  const key = token.findKey(label)
  if (key.algorithm.namedCurve !== algorithm)
    throw new CeremonyError('ceremony_refused', `key "${label}" is on ${key.algorithm.namedCurve}, not ${algorithm}`)
  requireRules(keyRules, key.attributes, null)
  return key
}

/** @throws as findKey, and TokenError `key_exists` */
export const provideKeys = async (
  token: CeremonyToken,
  wanted: readonly WantedKey[],
  policy: KeyPolicy,
): Promise<readonly { readonly key: CeremonyKey; readonly origin: 'generated' | 'found' }[]> => {
  // All labels before the first key: a ceremony that cannot end is not to begin.
  const present = checkLabels(token, wanted, policy)
  const keys = []
  for (const each of wanted) {
    if (!present.has(each.label)) await token.generateKey(each.label, each.algorithm)
    keys.push({
      key: findKey(token, each),
      origin: present.has(each.label) ? ('found' as const) : ('generated' as const),
    })
  }
  return keys
}

export const externalKey = (key: CeremonyKey): ExternalKey => ({
  publicKeySpki: key.publicKeySpki,
  sign: data => key.sign(data),
  signatureForm: 'der',
})

export const keyFacts = (key: CeremonyKey): Facts => ({
  label: key.label,
  id: key.idHex,
  algorithm: key.algorithm.namedCurve,
  'public key sha256': toHex(createHash('sha256').update(key.publicKeySpki).digest()),
  'public key': encodePem('PUBLIC KEY', key.publicKeySpki),
  attributes: requireRules(keyRules, key.attributes, null),
})

/** The module by the bytes that were loaded, and the token as it describes itself. */
export const tokenDescription = (uri: string, description: TokenDescription): Facts => {
  const module = realpathSync(parsePkcs11Uri(uri).modulePath)
  return {
    uri,
    module,
    'module sha256': toHex(createHash('sha256').update(readFileSync(module)).digest()),
    label: description.label,
    serial: description.serial,
    manufacturer: description.manufacturer,
    model: description.model,
  }
}
