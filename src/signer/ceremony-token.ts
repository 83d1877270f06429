// A token opened directly, for ceremonies: generates keys and signs raw data in the ceremony's own process, while no signer needs to
// run. The only way to make a CA key. What is signed is the ceremony's business; it is verified here before it is handed over.
import { dirname } from 'node:path'
import { pooledPace } from './call-pace.ts'
import type { Curve } from './ec-key.ts'
import { curveFacts } from './ec-key.ts'
import { TokenError } from './errors.ts'
import {
  findSigningKey,
  generateSigningKey,
  type KeyAttributes,
  type ListedKey,
  listKeys,
  type SigningKey,
} from './keys.ts'
import { createPinLatch } from './pin-latch.ts'
import { parsePkcs11Uri } from './pkcs11-uri.ts'
import { createSessionPool } from './session-pool.ts'
import { signVerified } from './signing.ts'
import { openToken, readPinFile, type TokenDescription } from './token.ts'

/** What a WebCrypto adapter needs: never the key itself. */
export interface CeremonyKey {
  readonly label: string
  readonly idHex: string
  readonly publicKeySpki: Uint8Array
  readonly algorithm: { readonly name: 'ECDSA'; readonly namedCurve: Curve; readonly hash: 'SHA-256' | 'SHA-384' }
  readonly attributes: KeyAttributes
  /** Hashes with `algorithm.hash` and signs. @returns ECDSA-Sig-Value in DER, verified. @throws SignerError `hsm_error` */
  sign(data: Uint8Array): Promise<Uint8Array>
}

export interface CeremonyToken extends AsyncDisposable {
  readonly description: TokenDescription
  /** @throws TokenError `key_exists` when the label is taken */
  generateKey(label: string, curve: Curve): Promise<CeremonyKey>
  /** @throws TokenError `key_not_found`, `key_ambiguous`, `key_unsafe` */
  findKey(label: string): CeremonyKey
  listKeys(): readonly ListedKey[]
  close(): Promise<void>
}

/**
 * One token of a module at a time and process: close before the next is opened. The PIN latch lies beside the PIN file.
 * @param uri RFC 7512, with pin-source
 * @throws TokenError
 */
export const openCeremonyToken = async (
  uri: string,
  options: { readonly softhsmConf?: string; readonly latchDirectory?: string } = {},
): Promise<CeremonyToken> => {
  const parsed = parsePkcs11Uri(uri)
  if (parsed.pinFile === undefined) {
    throw new TokenError('pin_source_unreadable', 'the URI names no PIN file', {
      hint: 'add pin-source=file:/absolute/path to the URI',
    })
  }
  const { pinFile } = parsed
  const selector = {
    modulePath: parsed.modulePath,
    tokenLabel: parsed.token,
    tokenSerial: parsed.serial,
    softhsmConf: options.softhsmConf,
  }
  const token = openToken(selector, createPinLatch(options.latchDirectory ?? dirname(pinFile)))
  try {
    token.login(readPinFile(pinFile))
  } catch (error) {
    token.close()
    throw error
  }
  const pool = createSessionPool(token, 1)
  const scope = { cryptoki: token.cryptoki, session: token.keepAlive() }
  const description = token.describe()
  let closed = false

  const wrap = (key: SigningKey): CeremonyKey => ({
    label: key.label,
    idHex: key.idHex,
    publicKeySpki: key.spki,
    algorithm: { name: 'ECDSA', namedCurve: key.curve, hash: curveFacts[key.curve].webCryptoHash },
    attributes: key.attributes,
    sign: async data => {
      if (closed) throw new TokenError('hsm_error', 'the token is closed')
      return signVerified(
        {
          cryptoki: token.cryptoki,
          pool,
          pace: pooledPace,
          login: () => token.login(readPinFile(pinFile)),
          findKeyAgain: old => findSigningKey(scope, old.label, old.spki),
          onAttempt: () => {},
          onModuleDown: () => {},
        },
        key,
        data,
      )
    },
  })
  const close = async (): Promise<void> => {
    if (closed) return
    closed = true
    token.close()
  }
  return {
    description,
    generateKey: async (label, curve) => wrap(await generateSigningKey(scope, label, curve)),
    findKey: label => wrap(findSigningKey(scope, label, undefined)),
    listKeys: () => listKeys(scope),
    close,
    [Symbol.asyncDispose]: close,
  }
}
