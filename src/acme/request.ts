// Who sent a request (RFC 8555 §6): the JWS is read, its signature checked by the key that it names, its URL and nonce, and the account's
// present state. Reading of JWS is jws's; what the payload asks for is for the others.
import { AgentCaError } from '../base/errors.ts'
import { refusedByInstance, refusedByRegistration } from '../ca/issuance-refusals.ts'
import {
  type AcmeKey,
  acmeAlgorithms,
  parseAcmeKey,
  readAcmeJws,
  type UncheckedJws,
  verifyAcmeJws,
} from '../jws/acme-jws.ts'
import { agentSpiffeId, serviceSpiffeId } from '../pki/spiffe.ts'
import type { AcmeAccount } from '../store/acme-port.ts'
import type { Registration } from '../store/records.ts'
import type { AcmeCall, AcmeDeps } from './deps.ts'
import { AcmeError, malformed } from './errors.ts'
import type { Nonces } from './nonces.ts'

/** A request whose account is known and open. */
export interface AccountRequest {
  readonly account: AcmeAccount
  readonly registration: Registration
  readonly payload: Uint8Array
  readonly call: AcmeCall
}

export interface KeyRequest {
  readonly key: AcmeKey
  readonly payload: Uint8Array
  readonly call: AcmeCall
}

export interface Requests {
  /** @throws AcmeError */
  byAccount(call: AcmeCall): Promise<AccountRequest>
  /** The key is in the header itself: new accounts. @throws AcmeError */
  byKey(call: AcmeCall): Promise<KeyRequest>
  /** Either. @throws AcmeError */
  byEither(call: AcmeCall): Promise<AccountRequest | KeyRequest>
}

/** The instance's own name, in leaves and in certificates' rows. */
export const whoOf = (
  { trustDomain }: Pick<AcmeDeps, 'trustDomain'>,
  { kind, name }: Registration,
  account: string,
): string => (kind === 'agent' ? agentSpiffeId(trustDomain, name, account) : serviceSpiffeId(trustDomain, name))

/** What jws refuses, in ACME's words. */
export const asAcmeError = (error: unknown): unknown => {
  if (!(error instanceof AgentCaError)) return error
  const options = { cause: error, ...(error.hint === undefined ? {} : { hint: error.hint }) }
  switch (error.code) {
    case 'jws_malformed':
    case 'jws_signature_invalid':
      return malformed(error.message, options)
    case 'jws_algorithm_not_accepted':
      return new AcmeError('badSignatureAlgorithm', error.message, { ...options, algorithms: acmeAlgorithms })
    case 'jws_key_not_accepted':
      return new AcmeError('badPublicKey', error.message, options)
    default:
      return error
  }
}

export const inAcmeWords = async <T>(work: () => T | Promise<T>): Promise<T> => {
  try {
    return await work()
  } catch (error) {
    throw asAcmeError(error)
  }
}

/** Of one account, by its present key. */
const maxKeys = 10_000

export const ended = (message: string, hint?: string): AcmeError =>
  new AcmeError('accountEnded', message, hint === undefined ? {} : { hint })

/**
 * Held and locked can be undone; retired, revoked and deactivated are final.
 * @throws AcmeError `unauthorized`, `accountEnded`, `externalAccountRequired`
 */
export const checkAccountState = (deps: AcmeDeps, account: AcmeAccount, registration: Registration): void => {
  if (account.deactivatedAt !== null)
    throw ended('this account was deactivated', 'make a new account with a new binding: agentca acme eab create')
  if (account.kid === null && deps.settings.unboundService === null)
    throw new AcmeError(
      'externalAccountRequired',
      'accounts without an external account binding are accepted no more',
      {
        hint: `agentca acme eab create --${registration.kind} ${registration.name}, and a new account with it`,
      },
    )
  const instance = deps.instances.get(account.id)
  const owner = registration.owner === null ? null : deps.owners.find(registration.owner)
  const refused =
    refusedByRegistration({ registration, owner }, deps.clock.now()) ??
    (instance === null ? null : refusedByInstance(instance))
  if (refused?.act !== 'refuse') return
  const { code, message, hint } = refused.refusal
  const final = ['registration_retired', 'registration_ended', 'instance_revoked'].includes(code)
  throw new AcmeError(final ? 'accountEnded' : 'unauthorized', message, hint === undefined ? {} : { hint })
}

export const createRequests = (deps: AcmeDeps, nonces: Nonces): Requests => {
  // By the JWK's text: importing a key costs as much as a signature's check. Owned by this closure; a full memory starts anew.
  const keys = new Map<string, AcmeKey>()
  const keyOf = async (jwk: string): Promise<AcmeKey> => {
    const known = keys.get(jwk)
    if (known !== undefined) return known
    const key = await parseAcmeKey(JSON.parse(jwk))
    if (keys.size >= maxKeys) keys.clear()
    keys.set(jwk, key)
    return key
  }

  const read = (call: AcmeCall): UncheckedJws => {
    const jws = readAcmeJws(call.body)
    if (!(acmeAlgorithms as readonly string[]).includes(jws.header.alg))
      throw new AcmeError('badSignatureAlgorithm', `expected alg to be one of ${acmeAlgorithms.join(', ')}`, {
        algorithms: acmeAlgorithms,
      })
    return jws
  }

  /** After the signature: whoever cannot sign uses up nobody's nonce. */
  const checkHeader = ({ header }: UncheckedJws, call: AcmeCall): void => {
    const expected = deps.urls.of(call.path)
    if (header.url !== expected)
      throw new AcmeError('unauthorized', 'the url of the protected header is not the one that was asked', {
        facts: { expected },
        hint: `the CA is reached at ${deps.urls.of('/directory')}: publicUrl.api of its configuration`,
      })
    if (header.nonce === undefined) throw new AcmeError('badNonce', 'the protected header has no nonce')
    if (!nonces.take(header.nonce))
      throw new AcmeError('badNonce', 'this nonce was used before, is too old, or is not from here', {
        hint: 'ask again with the nonce of this answer',
      })
  }

  const verifyByAccount = async (jws: UncheckedJws, call: AcmeCall): Promise<AccountRequest> => {
    const id = deps.urls.accountIdOf(jws.header.kid ?? '')
    const account = id === null ? null : deps.ports.accounts.get(id)
    const registration = account === null ? null : deps.registrations.byId(account.registrationId)
    if (account === null || registration === null)
      throw new AcmeError('accountDoesNotExist', 'kid is not the URL of an account here', {
        hint: 'newAccount gives the URL of an account by its key',
      })
    const payload = await verifyAcmeJws(jws, await keyOf(account.jwk))
    call.identified(whoOf(deps, registration, account.id), registration.id)
    checkHeader(jws, call)
    checkAccountState(deps, account, registration)
    return { account, registration, payload, call }
  }

  const verifyByKey = async (jws: UncheckedJws, call: AcmeCall): Promise<KeyRequest> => {
    const key = await parseAcmeKey(jws.header.jwk)
    const payload = await verifyAcmeJws(jws, key)
    checkHeader(jws, call)
    return { key, payload, call }
  }

  return {
    byAccount: call =>
      inAcmeWords(() => {
        const jws = read(call)
        if (jws.header.kid === undefined) throw malformed('expected kid, the URL of the account, and not jwk')
        return verifyByAccount(jws, call)
      }),
    byKey: call =>
      inAcmeWords(() => {
        const jws = read(call)
        if (jws.header.jwk === undefined) throw malformed('expected jwk, the public key, and not kid')
        return verifyByKey(jws, call)
      }),
    byEither: call =>
      inAcmeWords<AccountRequest | KeyRequest>(() => {
        const jws = read(call)
        return jws.header.kid === undefined ? verifyByKey(jws, call) : verifyByAccount(jws, call)
      }),
  }
}
