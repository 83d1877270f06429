// Join tokens as operators make and revoke them: 256 random bits, shown once, kept only as their hash. How one is redeemed is decided
// in decide-issuance.ts; a use is claimed by issuance, in step 4.
import { createHash } from 'node:crypto'
import * as events from '../audit/events.ts'
import { toBase64url, toHex, utf8 } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import type { RegistrationsPort, TokensPort } from '../store/ports.ts'
import type { JoinToken, LeafDraft, Registration } from '../store/records.ts'
import { CaError } from './errors.ts'
import { leafContextOf } from './leaf-context.ts'
import { checkText, invalidValue } from './operator-values.ts'
import type { ChangeOptions, Subject } from './registration-change.ts'

/** Tells people, and scanners of leaked secrets, what it is. */
export const joinTokenPrefix = 'agentca-join-'

/** What the ledger knows a token by: SHA-256 of the whole text, prefix included, lower-case hex. */
export const joinTokenHash = (token: string): string => toHex(createHash('sha256').update(utf8(token)).digest())

export interface TokenOperationsDeps {
  /** As far as it can be trusted: an end that is counted from a false future would keep a token good for as long. */
  readonly clock: Clock
  readonly caId: string
  readonly registrations: Pick<RegistrationsPort, 'find' | 'byId'>
  readonly tokens: Pick<TokensPort, 'create' | 'get' | 'revoke'>
  readonly randomBytes: (length: number) => Uint8Array
}

export interface NewToken extends Subject {
  readonly ttlSeconds: number
  readonly uses: number
  /** SHA-256 of the only SubjectPublicKeyInfo that may use it, hex. */
  readonly boundKeyHash: string | null
}

export interface TokenOperations {
  /**
   * @returns the token's text, which nobody can read again; null for a dry run
   * @throws CaError `not_found`, `registration_held`, `registration_retired`, `registration_ended`
   */
  create(
    token: NewToken,
    options: Pick<ChangeOptions, 'context' | 'dryRun'> & {
      /** Instead of `token_created`: where the token is only a part of what was done. */
      readonly leaf?: (at: number, token: { readonly id: string; readonly expiresAt: number }) => LeafDraft
    },
  ): Promise<{ readonly text: string | null; readonly token: JoinToken }>
  /** The token only: what enrolled with it stays. Revoking it again changes nothing. @throws CaError `not_found` */
  revoke(id: string, options: ChangeOptions): Promise<JoinToken>
}

/** For evidence that is yet to be used. @throws CaError `registration_retired`, `registration_ended`, `registration_held` */
export const refuseUnusable = ({ kind, name, state, until }: Registration, now: number): void => {
  const again = 'register a new name: names are never reused'
  if (state === 'retired') throw new CaError('registration_retired', `${kind} ${name} is retired`, { hint: again })
  if (until !== null && until <= now)
    throw new CaError('registration_ended', `${kind} ${name} reached its end date`, { hint: again })
  if (state === 'held')
    throw new CaError('registration_held', `${kind} ${name} is held`, { hint: `agentca ${kind} release ${name}` })
}

export const createTokenOperations = (deps: TokenOperationsDeps): TokenOperations => {
  const { clock, registrations, tokens } = deps

  const create: TokenOperations['create'] = async (wanted, { context, dryRun, leaf }) => {
    const at = clock.now()
    const { kind, name, uses, boundKeyHash } = wanted
    if (boundKeyHash !== null && !/^[0-9a-f]{64}$/.test(boundKeyHash))
      throw invalidValue('bindKeyHash', 'expected the SHA-256 of a public key, 64 hex digits')
    const registration = registrations.find(kind, name)
    if (registration === null)
      throw new CaError('not_found', `no ${kind} is called ${name}`, { hint: `agentca ${kind} create ${name}` })
    refuseUnusable(registration, at)
    const text = joinTokenPrefix + toBase64url(deps.randomBytes(32))
    const draft = {
      id: toHex(deps.randomBytes(8)),
      hash: joinTokenHash(text),
      registrationId: registration.id,
      audience: deps.caId,
      uses,
      boundKeyHash,
      // Nothing can be enrolled after the end date, so a token does not look usable beyond it.
      expiresAt: Math.min(at + wanted.ttlSeconds * 1000, registration.until ?? Number.POSITIVE_INFINITY),
      createdAt: at,
      createdBy: context.who,
    }
    if (dryRun) return { text: null, token: { ...draft, usesTaken: 0, state: 'active', evidence: null } }
    const token = await tokens.create(
      draft,
      leaf?.(at, draft) ??
        events.tokenCreated(
          leafContextOf(context, at),
          { kind, name },
          { token: draft.id, uses, expiresAt: draft.expiresAt, boundKey: boundKeyHash },
        ),
    )
    return { text, token }
  }

  const revoke: TokenOperations['revoke'] = async (id, { context, why, dryRun }) => {
    const at = clock.now()
    if (why !== undefined) checkText('why', why)
    const token = tokens.get(id)
    const registration = token === null ? null : registrations.byId(token.registrationId)
    if (token === null || registration === null)
      throw new CaError('not_found', `no token has id ${id}`, { hint: 'agentca token list' })
    if (token.state === 'revoked') return token
    if (dryRun) return { ...token, state: 'revoked' }
    const { kind, name } = registration
    return tokens.revoke(id, at, events.tokenRevoked(leafContextOf(context, at), { kind, name }, { token: id, why }))
  }

  return { create, revoke }
}
