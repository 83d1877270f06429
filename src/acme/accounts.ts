// Accounts (RFC 8555 §7.3): made with an external account binding through the decisions of an enrolment, updated, moved to a new key,
// deactivated. One account is one instance of its agent or service: its id is the instance's.
import { timingSafeEqual } from 'node:crypto'
import { acmeAccountChanged, acmeAccountCreated } from '../audit/acme-events.ts'
import { utf8 } from '../base/bytes.ts'
import { refusedAccount, refusedAccountKey } from '../ca/admit-account.ts'
import type { IssuanceRefusal } from '../ca/errors.ts'
import { leafContextOf } from '../ca/leaf-context.ts'
import { type AcmeKey, parseAcmeKey, readAcmeJws, verifyAcmeJws, verifyBindingJws } from '../jws/acme-jws.ts'
import type { AcmeAccount, AcmeAdmission, AcmeBinding, WaitingAccounts } from '../store/acme-port.ts'
import { StoreError } from '../store/errors.ts'
import type { IssuanceFacts } from '../store/ports.ts'
import type { Registration } from '../store/records.ts'
import type { AcmeDeps } from './deps.ts'
import { AcmeError, malformed } from './errors.ts'
import { optionalFlag, optionalText, type Payload, readPayload } from './payload.ts'
import { defaultProfile } from './profiles.ts'
import { refusalError } from './refusals.ts'
import { type AccountRequest, checkAccountState, ended, inAcmeWords, type KeyRequest, whoOf } from './request.ts'

export interface Accounts {
  /** @returns the account, and whether it is new @throws AcmeError */
  open(request: KeyRequest): Promise<{ readonly account: AcmeAccount; readonly created: boolean }>
  /** Contacts and deactivation; an empty payload only reads. @throws AcmeError */
  update(request: AccountRequest, id: string): Promise<AcmeAccount>
  /** RFC 8555 §7.3.5. @throws AcmeError `keyInUse` with the other account's URL */
  changeKey(request: AccountRequest): Promise<AcmeAccount>
}

const maxContacts = 10
/** When a place may be free again, as far as can be said: some get their certificates, others wait for orders that run. */
const minRetrySeconds = 60
const maxRetrySeconds = 3600
const mailto = /^mailto:[^\s@,?&<>"]{1,64}@[A-Za-z0-9.-]{1,190}$/

const contactsOf = (payload: Payload): readonly string[] | undefined => {
  const { contact } = payload
  if (contact === undefined || contact === null) return undefined
  if (!Array.isArray(contact) || contact.length > maxContacts)
    throw malformed(`expected contact to be a list of at most ${maxContacts} URLs`)
  return contact.map(each => {
    if (typeof each !== 'string') throw malformed('expected each contact to be a text')
    if (!each.startsWith('mailto:')) throw new AcmeError('unsupportedContact', 'expected contacts to be mailto: URLs')
    if (!mailto.test(each)) throw new AcmeError('invalidContact', 'expected mailto: with one address and nothing else')
    return each
  })
}

const sameText = (a: string, b: string): boolean => a.length === b.length && timingSafeEqual(utf8(a), utf8(b))

/** RFC 8555 §7.3.4: the account key, signed by the MAC key, for this very URL. */
const verifyBinding = async (deps: AcmeDeps, value: unknown, { key, call }: KeyRequest): Promise<AcmeBinding> => {
  const jws = readAcmeJws(value)
  const { kid, url, nonce } = jws.header
  if (kid === undefined) throw malformed('expected kid in the external account binding')
  if (nonce !== undefined) throw malformed('the external account binding is not to have a nonce')
  if (url !== deps.urls.of(call.path)) throw malformed('the url of the external account binding is not this one')
  const binding = deps.ports.bindings.get(kid)
  if (binding === null)
    throw new AcmeError('unauthorized', 'this kid of an external account binding is not known here', {
      hint: 'agentca acme eab create --agent NAME',
    })
  const payload = readPayload(await verifyBindingMac(deps, jws, binding))
  // Not before: whoever only knows a kid is not to speak in its name.
  call.identified(`eab:${kid}`, binding.registrationId)
  const bound = await parseAcmeKey(payload)
  if (!sameText(bound.thumbprint, key.thumbprint))
    throw malformed('the external account binding is for another key than the one that signed this request')
  return binding
}

const verifyBindingMac = async (deps: AcmeDeps, jws: ReturnType<typeof readAcmeJws>, binding: AcmeBinding) => {
  try {
    return await verifyBindingJws(jws, deps.sealer.open(binding.kid, binding.sealedKey))
  } catch (cause) {
    if ((cause as { code?: string }).code !== 'jws_signature_invalid') throw cause
    throw new AcmeError('unauthorized', 'the external account binding is not signed by its MAC key', {
      cause,
      hint: 'give the HMAC key as agentca acme eab create showed it: base64url',
    })
  }
}

/** As read under the ledger's lock. */
const unusable = (binding: AcmeBinding | null, now: number): AcmeError | null => {
  const hint = 'agentca acme eab create makes a new one'
  if (binding === null) return new AcmeError('unauthorized', 'this external account binding is gone', { hint })
  if (binding.account !== null)
    return new AcmeError('unauthorized', 'this external account binding was used for another account', { hint })
  if (binding.state === 'revoked')
    return new AcmeError('unauthorized', 'this external account binding was revoked', { hint })
  if (binding.expiresAt <= now)
    return new AcmeError('unauthorized', 'this external account binding has expired', { hint })
  return null
}

/** Anybody can make them: how many there may be is bounded, until they have a certificate or are over. */
const tooMany = ({ settings }: AcmeDeps, waiting: () => WaitingAccounts, now: number): AcmeError | null => {
  const { maxUnboundAccounts: max, orderLifetimeSeconds } = settings
  const { count, oldestAt } = waiting()
  if (count < max) return null
  const nextSeconds = Math.ceil(((oldestAt ?? now) - now) / 1000) + orderLifetimeSeconds
  return new AcmeError('rateLimited', `${max} accounts without a binding have no certificate yet`, {
    facts: { retryAfterSeconds: Math.min(maxRetrySeconds, Math.max(minRetrySeconds, nextSeconds)) },
    hint: 'come again later, or with an external account binding: agentca acme eab create',
  })
}

interface Bound {
  readonly registration: Registration
  readonly binding: AcmeBinding | null
}

const boundTo = async (deps: AcmeDeps, request: KeyRequest, payload: Payload): Promise<Bound> => {
  const { externalAccountBinding } = payload
  const { unboundService } = deps.settings
  if (externalAccountBinding !== undefined && externalAccountBinding !== null) {
    const binding = await verifyBinding(deps, externalAccountBinding, request)
    const registration = deps.registrations.byId(binding.registrationId)
    if (registration === null) throw new AcmeError('unauthorized', 'nobody is registered for this binding')
    return { registration, binding }
  }
  if (unboundService === null)
    throw new AcmeError('externalAccountRequired', 'a new account needs an external account binding', {
      hint: 'agentca acme eab create --agent NAME gives kid and HMAC key: certbot --eab-kid --eab-hmac-key, lego --eab --kid --hmac',
    })
  const registration = deps.registrations.find('service', unboundService)
  if (registration === null)
    throw new AcmeError('serverInternal', 'the service for accounts without a binding is not registered', {
      hint: `agentca service create ${unboundService}`,
    })
  return { registration, binding: null }
}

/** The decision of the transaction. */
const admit = (
  deps: AcmeDeps,
  { registration, binding }: Bound,
  account: Omit<AcmeAccount, 'deactivatedAt'>,
  { key, call }: KeyRequest,
) => {
  const context = call.context()
  const now = account.createdAt
  const profile = defaultProfile(deps.profiles(), registration)
  return deps.ports.accounts.create<IssuanceRefusal | AcmeError>({
    account,
    keyHash: key.keyHash,
    decide: (facts, present, waiting): AcmeAdmission<IssuanceRefusal | AcmeError> => {
      const refusal =
        (binding === null ? tooMany(deps, waiting, now) : unusable(present, now)) ??
        refusedAccount(facts, {
          keyHash: key.keyHash,
          now,
          rules: deps.rules(registration, profile.name),
          profile: profile.name,
          source: context.source,
          policy: deps.policy,
        })
      if (refusal !== null) return { act: 'refuse', refusal, leaf: null }
      const { id, kid } = account
      const leaf = acmeAccountCreated(leafContextOf(context, now), registration, { account: id, kid, key: key.keyHash })
      return { act: 'create', leaf }
    },
  })
}

const create = async (deps: AcmeDeps, request: KeyRequest, payload: Payload): Promise<AcmeAccount> => {
  const contacts = contactsOf(payload) ?? []
  const bound = await boundTo(deps, request, payload)
  const { registration, binding } = bound
  const { thumbprint, jwk } = request.key
  const account = {
    id: deps.newId(),
    registrationId: registration.id,
    kid: binding?.kid ?? null,
    thumbprint,
    jwk,
    contacts,
    names: binding?.names ?? [],
    createdAt: deps.clock.now(),
  }
  const admission = await admit(deps, bound, account, request)
  if (admission.act === 'create') {
    deps.reached('acme 1')
    return { ...account, deactivatedAt: null }
  }
  const { refusal } = admission
  if (refusal instanceof AcmeError) throw refusal
  const ofKey = refusal.code === 'key_in_use' || refusal.code === 'key_revoked'
  throw ofKey ? badKey(refusal) : refusalError(refusal)
}

const badKey = ({ message }: IssuanceRefusal): AcmeError =>
  new AcmeError('badPublicKey', message, { hint: 'make a new account key' })

const open = async (deps: AcmeDeps, request: KeyRequest): ReturnType<Accounts['open']> => {
  const payload = readPayload(request.payload)
  const onlyReturnExisting = optionalFlag(payload, 'onlyReturnExisting')
  const existing = deps.ports.accounts.byThumbprint(request.key.thumbprint)
  if (existing !== null) {
    const registration = deps.registrations.byId(existing.registrationId)
    if (registration === null) throw ended('nobody is registered for this account')
    request.call.identified(whoOf(deps, registration, existing.id), registration.id)
    checkAccountState(deps, existing, registration)
    return { account: existing, created: false }
  }
  if (onlyReturnExisting)
    throw new AcmeError('accountDoesNotExist', 'no account has this key', {
      hint: 'make one: newAccount with an external account binding (agentca acme eab create)',
    })
  try {
    return { account: await create(deps, request, payload), created: true }
  } catch (error) {
    // The same request at the same time, or its binding's: as if it had come a moment later.
    const found = isConflict(error) ? deps.ports.accounts.byThumbprint(request.key.thumbprint) : null
    if (found !== null) return { account: found, created: false }
    if (isConflict(error)) throw new AcmeError('unauthorized', error.message, { cause: error })
    throw error
  }
}

const isConflict = (error: unknown): error is StoreError => error instanceof StoreError && error.code === 'conflict'

const update = async (deps: AcmeDeps, request: AccountRequest, id: string): Promise<AcmeAccount> => {
  const { account, registration, call } = request
  if (account.id !== id) throw new AcmeError('unauthorized', 'this is another account than the one that signed')
  if (request.payload.length === 0) return account
  const payload = readPayload(request.payload)
  const status = optionalText(payload, 'status')
  if (status !== undefined && status !== 'deactivated')
    throw malformed('expected status to be deactivated: nothing else can be asked for')
  const at = deps.clock.now()
  const context = leafContextOf(call.context(), at)
  const changed = (what: 'contacts' | 'deactivated') => acmeAccountChanged(context, registration, { account: id, what })
  const { accounts } = deps.ports
  if (status === 'deactivated') return accounts.change(id, { deactivatedAt: at }, at, changed('deactivated'))
  const contacts = contactsOf(payload)
  if (contacts === undefined) return account
  return accounts.change(id, { contacts }, at, changed('contacts'))
}

/** The inner JWS: by the new key, about this account and its old key. */
const newKeyOf = async (deps: AcmeDeps, { account, payload, call }: AccountRequest): Promise<AcmeKey> => {
  const jws = readAcmeJws(readPayload(payload))
  if (jws.header.jwk === undefined) throw malformed('expected jwk, the new public key, in the inner JWS')
  if (jws.header.nonce !== undefined) throw malformed('the inner JWS is not to have a nonce')
  if (jws.header.url !== deps.urls.of(call.path)) throw malformed('the inner JWS has another url than the outer one')
  const key = await parseAcmeKey(jws.header.jwk)
  const inner = readPayload(await verifyAcmeJws(jws, key))
  if (inner.account !== deps.urls.account(account.id))
    throw malformed('expected account to be the URL of the account that signed the outer JWS')
  const old = await parseAcmeKey(inner.oldKey)
  if (!sameText(old.thumbprint, account.thumbprint)) throw malformed('oldKey is not the present key of the account')
  return key
}

const keyInUse = (deps: AcmeDeps, other: AcmeAccount | null): AcmeError =>
  new AcmeError('keyInUse', 'the new key is, or was, the key of an account or of a certificate', {
    hint: 'make a new key',
    ...(other === null ? {} : { location: deps.urls.account(other.id) }),
  })

const changeKey = async (deps: AcmeDeps, request: AccountRequest): Promise<AcmeAccount> => {
  const { account, registration, call } = request
  const key = await newKeyOf(deps, request)
  const { accounts } = deps.ports
  const at = deps.clock.now()
  const { thumbprint, jwk, keyHash } = key
  const facts = { account: account.id, what: 'key', key: keyHash } as const
  const leaf = acmeAccountChanged(leafContextOf(call.context(), at), registration, facts)
  const check = (found: IssuanceFacts): void => {
    const refusal = refusedAccountKey(found)
    if (refusal?.code === 'key_revoked') throw badKey(refusal)
    if (refusal !== null) throw keyInUse(deps, accounts.byThumbprint(thumbprint))
  }
  return accounts.change(account.id, { thumbprint, jwk, keyHash, check }, at, leaf)
}

export const createAccounts = (deps: AcmeDeps): Accounts => ({
  open: request => inAcmeWords(() => open(deps, request)),
  update: (request, id) => update(deps, request, id),
  changeKey: request => inAcmeWords(() => changeKey(deps, request)),
})
