// Keys in the token: find exactly one by label, check that it can neither leave nor do anything but sign, generate new ones.
// Generation is for ceremonies only; nothing here ever creates a key because one was not found.
import { type KeyObject, randomBytes } from 'node:crypto'
import { equalBytes, toHex } from '../base/bytes.ts'
import { spkiHashHex } from '../pki/spki.ts'
import { type Cryptoki, checkedTemplate, ck, type Handle, type Template } from './cryptoki.ts'
import { type Curve, curveFacts, curveOfParams, curveOfSpki, importSpki, spkiOfPoint } from './ec-key.ts'
import { ckrCodeOf, classifyPkcs11 } from './error-table.ts'
import { TokenError } from './errors.ts'

export interface KeyAttributes {
  readonly label: string
  readonly idHex: string
  readonly curve: Curve | null
  readonly token: boolean | null
  readonly private: boolean | null
  readonly sign: boolean | null
  readonly sensitive: boolean | null
  readonly extractable: boolean | null
  readonly alwaysSensitive: boolean | null
  readonly neverExtractable: boolean | null
  readonly local: boolean | null
  readonly decrypt: boolean | null
  readonly unwrap: boolean | null
  readonly derive: boolean | null
  readonly signRecover: boolean | null
  readonly modifiable: boolean | null
}

export interface SigningKey {
  readonly label: string
  readonly id: Uint8Array
  readonly idHex: string
  /** Stale after CKR_KEY_HANDLE_INVALID: then the key is looked up again. */
  readonly handle: Handle
  readonly curve: Curve
  /** DER SubjectPublicKeyInfo. */
  readonly spki: Uint8Array
  readonly publicKey: KeyObject
  readonly attributes: KeyAttributes
}

/** A place to look for keys: a logged-in session. */
export interface KeyScope {
  readonly cryptoki: Cryptoki
  readonly session: Handle
}

const findObjects = ({ cryptoki, session }: KeyScope, template: Template): Handle[] => {
  cryptoki.C_FindObjectsInit(session, checkedTemplate(template))
  try {
    const found: Handle[] = []
    for (;;) {
      const batch = cryptoki.C_FindObjects(session, 64)
      found.push(...batch)
      if (batch.length === 0) return found
    }
  } finally {
    cryptoki.C_FindObjectsFinal(session)
  }
}

/** One attribute a call: C_GetAttributeValue fails as a whole when one of several is unknown to the token. */
const readAttribute = ({ cryptoki, session }: KeyScope, object: Handle, type: number): Buffer | null => {
  try {
    return cryptoki.C_GetAttributeValue(session, object, [{ type }])[0]?.value ?? null
  } catch (error) {
    const code = ckrCodeOf(error)
    if (code === ck.CKR_ATTRIBUTE_TYPE_INVALID || code === ck.CKR_ATTRIBUTE_SENSITIVE) return null
    throw error
  }
}

const describeKey = (scope: KeyScope, object: Handle): KeyAttributes => {
  const flag = (type: number): boolean | null => {
    const value = readAttribute(scope, object, type)
    return value === null || value.length === 0 ? null : value[0] !== 0
  }
  const bytes = (type: number): Buffer => readAttribute(scope, object, type) ?? Buffer.alloc(0)
  return {
    label: bytes(ck.CKA_LABEL).toString('utf8'),
    idHex: toHex(bytes(ck.CKA_ID)),
    curve: curveOfParams(bytes(ck.CKA_EC_PARAMS)),
    token: flag(ck.CKA_TOKEN),
    private: flag(ck.CKA_PRIVATE),
    sign: flag(ck.CKA_SIGN),
    sensitive: flag(ck.CKA_SENSITIVE),
    extractable: flag(ck.CKA_EXTRACTABLE),
    alwaysSensitive: flag(ck.CKA_ALWAYS_SENSITIVE),
    neverExtractable: flag(ck.CKA_NEVER_EXTRACTABLE),
    local: flag(ck.CKA_LOCAL),
    decrypt: flag(ck.CKA_DECRYPT),
    unwrap: flag(ck.CKA_UNWRAP),
    derive: flag(ck.CKA_DERIVE),
    signRecover: flag(ck.CKA_SIGN_RECOVER),
    modifiable: flag(ck.CKA_MODIFIABLE),
  }
}

export interface ListedKey extends KeyAttributes {
  /** SHA-256 of the SubjectPublicKeyInfo, hex; null where the token shows no one public key for it. */
  readonly spkiSha256Hex: string | null
}

/** Every private key of the token, unsafe and foreign ones too: for `hsm keys`, `doctor`, and to know a new CA's key. */
export const listKeys = (scope: KeyScope): readonly ListedKey[] =>
  findObjects(scope, [{ type: ck.CKA_CLASS, value: ck.CKO_PRIVATE_KEY }]).map(object => {
    const attributes = describeKey(scope, object)
    return { ...attributes, spkiSha256Hex: publicHash(scope, attributes) }
  })

const publicHash = (scope: KeyScope, attributes: KeyAttributes): string | null => {
  try {
    const spki = publicSpki(scope, attributes.label, attributes)
    return spki === null ? null : spkiHashHex(spki)
  } catch (error) {
    // An ambiguous key is listed all the same; whoever wants to use it is told.
    if (error instanceof TokenError) return null
    throw error
  }
}

const checkAttributes = (attributes: KeyAttributes): void => {
  const wrong: string[] = []
  const want = (name: keyof KeyAttributes, expected: boolean): void => {
    if (attributes[name] !== expected) wrong.push(`${name} is ${attributes[name]}, expected ${expected}`)
  }
  want('token', true)
  want('private', true)
  want('sign', true)
  want('sensitive', true)
  want('extractable', false)
  want('local', true)
  want('alwaysSensitive', true)
  want('neverExtractable', true)
  if (wrong.length > 0) {
    throw new TokenError('key_unsafe', `key "${attributes.label}" is not fit to sign: ${wrong.join('; ')}`, {
      hint: 'generate the key inside the token with: agentca ceremony',
    })
  }
}

const publicSpki = (scope: KeyScope, label: string, attributes: KeyAttributes): Uint8Array | null => {
  const objects = findObjects(scope, [
    { type: ck.CKA_CLASS, value: ck.CKO_PUBLIC_KEY },
    { type: ck.CKA_LABEL, value: label },
  ])
  if (objects.length > 1) {
    throw new TokenError('key_ambiguous', `${objects.length} public keys are labelled "${label}"`, {
      hint: "remove the wrong one with the token vendor's tool",
    })
  }
  const object = objects[0]
  if (object === undefined || attributes.curve === null) return null
  if (toHex(readAttribute(scope, object, ck.CKA_ID) ?? Buffer.alloc(0)) !== attributes.idHex) {
    throw new TokenError('key_mismatch', `public and private key "${label}" differ in CKA_ID`)
  }
  const point = readAttribute(scope, object, ck.CKA_EC_POINT)
  return point === null ? null : spkiOfPoint(attributes.curve, point)
}

/**
 * Finds the one private key with this label and binds it to its public key. With `expectedSpki` (from the CA certificate) the
 * public key must be that one; without, it is read from the token.
 * @throws TokenError `key_not_found`, `key_ambiguous`, `key_unsafe`, `key_mismatch`
 */
export const findSigningKey = (scope: KeyScope, label: string, expectedSpki: Uint8Array | undefined): SigningKey => {
  const objects = findObjects(scope, [
    { type: ck.CKA_CLASS, value: ck.CKO_PRIVATE_KEY },
    { type: ck.CKA_LABEL, value: label },
  ])
  if (objects.length > 1) {
    throw new TokenError('key_ambiguous', `${objects.length} private keys are labelled "${label}"`, {
      hint: 'agentca hsm keys shows them; a label must name one key',
    })
  }
  const handle = objects[0]
  if (handle === undefined) {
    throw new TokenError('key_not_found', `no private key is labelled "${label}"`, {
      hint: 'agentca hsm keys shows what is there',
    })
  }
  const attributes = describeKey(scope, handle)
  checkAttributes(attributes)
  const ownSpki = publicSpki(scope, label, attributes)
  if (ownSpki && expectedSpki && !equalBytes(ownSpki, expectedSpki)) {
    throw new TokenError('key_mismatch', `key "${label}" is not the key of its certificate`, {
      hint: 'configure the certificate that belongs to this key',
    })
  }
  const spki = expectedSpki ?? ownSpki
  if (!spki) throw new TokenError('key_mismatch', `the token shows no public key for "${label}" and none is configured`)
  const curve = curveOfSpki(spki)
  if (curve === null || (attributes.curve !== null && attributes.curve !== curve)) {
    throw new TokenError('key_mismatch', `key "${label}" is not on P-256 or P-384 as expected`)
  }
  return {
    label,
    id: Uint8Array.from(Buffer.from(attributes.idHex, 'hex')),
    idHex: attributes.idHex,
    handle,
    curve,
    spki,
    publicKey: importSpki(spki),
    attributes,
  }
}

const keyTemplates = (
  label: string,
  id: Buffer,
  curve: Curve,
): { publicTemplate: Template; privateTemplate: Template } => {
  const shared: Template = [
    { type: ck.CKA_LABEL, value: label },
    { type: ck.CKA_ID, value: id },
    { type: ck.CKA_TOKEN, value: true },
  ]
  return {
    publicTemplate: [
      ...shared,
      { type: ck.CKA_EC_PARAMS, value: Buffer.from(curveFacts[curve].paramsHex, 'hex') },
      { type: ck.CKA_PRIVATE, value: false },
      { type: ck.CKA_VERIFY, value: true },
      { type: ck.CKA_ENCRYPT, value: false },
      { type: ck.CKA_WRAP, value: false },
    ],
    privateTemplate: [
      ...shared,
      { type: ck.CKA_PRIVATE, value: true },
      { type: ck.CKA_SENSITIVE, value: true },
      { type: ck.CKA_EXTRACTABLE, value: false },
      { type: ck.CKA_SIGN, value: true },
      { type: ck.CKA_DECRYPT, value: false },
      { type: ck.CKA_UNWRAP, value: false },
      { type: ck.CKA_DERIVE, value: false },
      { type: ck.CKA_SIGN_RECOVER, value: false },
    ],
  }
}

const labelPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

/**
 * Generates a key pair inside the token and reads it back. The session must be read-write and logged in. For ceremonies only.
 * @throws TokenError `key_exists` when any object has the label: a label is never overwritten and never shared
 */
export const generateSigningKey = async (scope: KeyScope, label: string, curve: Curve): Promise<SigningKey> => {
  if (!labelPattern.test(label))
    throw new TokenError(
      'signer_config_invalid',
      `a key label has 1 to 64 of A-Z a-z 0-9 . _ -, got "${label.slice(0, 70)}"`,
    )
  const id = randomBytes(16)
  for (const selector of [
    { type: ck.CKA_LABEL, value: label },
    { type: ck.CKA_ID, value: id },
  ]) {
    if (findObjects(scope, [selector]).length > 0) {
      throw new TokenError('key_exists', `the token already has an object labelled "${label}"`, {
        hint: 'choose another label; keys are never overwritten',
      })
    }
  }
  const { publicTemplate, privateTemplate } = keyTemplates(label, id, curve)
  const generate = (extra: Template): Promise<unknown> =>
    scope.cryptoki.C_GenerateKeyPairAsync(
      scope.session,
      { mechanism: ck.CKM_EC_KEY_PAIR_GEN },
      checkedTemplate(publicTemplate),
      checkedTemplate([...privateTemplate, ...extra]),
    )
  try {
    await generate([{ type: ck.CKA_MODIFIABLE, value: false }])
  } catch (error) {
    // Some tokens refuse to be told about MODIFIABLE; everything that protects the key is in the first template.
    if (classifyPkcs11(error)?.behaviour.class !== 'config') throw error
    await generate([])
  }
  return findSigningKey(scope, label, undefined)
}
