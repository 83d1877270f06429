// What is recorded, as the JSON objects of RFC 8555 §7.1: names for ids, URLs for references, text for times.
import type { AcmeAccount, AcmeChallenge, AcmeOrder, AcmeProblem } from '../store/acme-port.ts'
import type { ChallengeOf } from './challenges.ts'
import { probedIdentifier } from './challenges.ts'
import type { AcmeDeps } from './deps.ts'
import { authorizationStatus, type OrderStatus } from './order.ts'
import type { AuthorizationOf } from './orders.ts'
import { certificateIdOf, type RenewalInfo } from './renewal-info.ts'
import { acmePaths, type Urls } from './urls.ts'

export const problemTypePrefix = 'urn:ietf:params:acme:error:'

const time = (ms: number): string => new Date(ms).toISOString().replace('.000Z', 'Z')

export type JsonObject = Readonly<Record<string, unknown>>

export const problemAnswer = ({ type, detail, identifier, subproblems }: AcmeProblem): JsonObject => ({
  type: problemTypePrefix + type,
  detail,
  ...(identifier === undefined ? {} : { identifier }),
  ...(subproblems === undefined || subproblems.length === 0 ? {} : { subproblems: subproblems.map(problemAnswer) }),
})

/** RFC 8555 §7.1.1; newAuthz is left out: there is no pre-authorization. */
export const directoryAnswer = ({ urls, settings, profiles }: AcmeDeps): JsonObject => ({
  newNonce: urls.of(acmePaths.newNonce),
  newAccount: urls.of(acmePaths.newAccount),
  newOrder: urls.of(acmePaths.newOrder),
  revokeCert: urls.of(acmePaths.revokeCert),
  keyChange: urls.of(acmePaths.keyChange),
  renewalInfo: urls.of(acmePaths.renewalInfo),
  meta: {
    externalAccountRequired: settings.unboundService === null,
    profiles: Object.fromEntries(profiles().map(({ name, description }) => [name, description])),
  },
})

export const accountAnswer = ({ urls }: { readonly urls: Urls }, account: AcmeAccount): JsonObject => ({
  status: account.deactivatedAt === null ? 'valid' : 'deactivated',
  contact: account.contacts,
  orders: urls.orders(account.id),
})

const replacesOf = ({ certificates, issuers }: AcmeDeps, serial: string | null): JsonObject => {
  const row = serial === null ? null : certificates.get(serial)
  const issuer = row === null ? null : issuers.byId(row.issuerId).online
  return row === null || issuer === null ? {} : { replaces: certificateIdOf(issuer.keyIdentifier, row.serial) }
}

/** Why it came to nothing: what was recorded, or else what failed of its names. */
const reasonOf = ({ error, authorizations }: AcmeOrder, status: OrderStatus): AcmeProblem | null => {
  if (error !== null || status !== 'invalid') return error
  const problems = authorizations.flatMap(({ challenges }) => challenges.flatMap(({ problem }) => problem ?? []))
  const [first] = problems
  if (first === undefined) return null
  const type = problems.every(each => each.type === first.type) ? first.type : 'compound'
  return { type, detail: first.detail, subproblems: problems }
}

export const orderAnswer = (deps: AcmeDeps, order: AcmeOrder, status: OrderStatus): JsonObject => {
  const { urls } = deps
  const reason = reasonOf(order, status)
  return {
    status,
    expires: time(order.expiresAt),
    identifiers: order.authorizations.map(({ identifier }) => identifier),
    profile: order.profile,
    ...(order.notBefore === null ? {} : { notBefore: time(order.notBefore) }),
    ...(order.notAfter === null ? {} : { notAfter: time(order.notAfter) }),
    ...replacesOf(deps, order.replaces),
    ...(reason === null ? {} : { error: problemAnswer(reason) }),
    authorizations: order.authorizations.map((_, index) => urls.authorization(order.id, index)),
    finalize: urls.finalize(order.id),
    ...(status === 'valid' && order.certificate !== null ? { certificate: urls.certificate(order.certificate) } : {}),
  }
}

const challengeObject = ({ urls }: AcmeDeps, of: AuthorizationOf, challenge: AcmeChallenge): JsonObject => ({
  type: challenge.type,
  url: urls.challenge(of.order.id, of.index, challenge.type),
  status: challenge.status,
  token: challenge.token,
  ...(challenge.validatedAt === undefined ? {} : { validated: time(challenge.validatedAt) }),
  ...(challenge.problem === undefined ? {} : { error: problemAnswer(challenge.problem) }),
})

export const challengeAnswer = (deps: AcmeDeps, of: ChallengeOf): JsonObject => challengeObject(deps, of, of.challenge)

export const authorizationAnswer = (deps: AcmeDeps, of: AuthorizationOf): JsonObject => {
  const { authorization, order } = of
  const { identifier, challenges } = authorization
  const status = authorizationStatus(authorization, order, deps.clock.now())
  // RFC 8555 §7.1.4: of a decided one only what decided it.
  const decided = challenges.filter(each => each.status === (status === 'valid' ? 'valid' : 'invalid'))
  const shown = status === 'pending' || decided.length === 0 ? challenges : decided
  return {
    status,
    expires: time(order.expiresAt),
    identifier: probedIdentifier(identifier),
    ...(identifier.value.startsWith('*.') ? { wildcard: true } : {}),
    challenges: shown.map(each => challengeObject(deps, of, each)),
  }
}

export const renewalInfoAnswer = ({ start, end }: RenewalInfo): JsonObject => ({
  suggestedWindow: { start: time(start), end: time(end) },
})
