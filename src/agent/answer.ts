// The CA's answer: JSON to a checked value, and the checks that decide whether it is what was asked for. Members that this version
// does not know are ignored, so that a newer CA can say more; those it knows must have their types.
import { equalBytes } from '../base/bytes.ts'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { parseOnePem } from '../pki/pem.ts'
import { type Principal, parseSpiffeId, principalOf, type SpiffeId, trustDomainOf } from '../pki/spiffe.ts'
import { checkChain, checkValidity, parseCertificates } from './chain.ts'
import { AgentError } from './errors.ts'

/** The contract's `identity`, without its PEMs: what `identity.json` holds too. */
export interface IdentityFacts {
  readonly spiffeId: string
  /** Name of the registration, whatever its kind. */
  readonly agent: string
  readonly instance: string
  /** Lower-case hex. */
  readonly serial: string
  readonly generation: number
  /** RFC 3339, as all times here. */
  readonly notBefore: string
  readonly notAfter: string
  readonly renewAfter: string
  readonly renewBefore: string
  /** From the moment of the answer; to be counted on a monotonic clock. */
  readonly renewInSeconds: number
  readonly expiresInSeconds: number
  readonly notGranted: readonly string[]
  /** Whose log and published state it is, and the key (PEM PUBLIC KEY) that signs them; absent where the CA did not say. */
  readonly caId?: string
  readonly logKey?: string
}

export interface IdentityAnswer extends IdentityFacts {
  /** PEM of the leaf. */
  readonly certificate: string
  /** PEM of the intermediates; may be empty. */
  readonly chain: string
  /** PEM of the roots. */
  readonly bundle: string
}

type Check = (value: unknown) => boolean
const text: Check = value => typeof value === 'string' && value.length > 0
const optionalText: Check = value => value === undefined || text(value)
const seconds: Check = value => typeof value === 'number' && Number.isFinite(value)
const instant: Check = value =>
  typeof value === 'string' &&
  /^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)$/.test(value) &&
  Number.isFinite(Date.parse(value))

const factChecks: Readonly<Record<keyof IdentityFacts, Check>> = {
  spiffeId: text,
  agent: text,
  instance: text,
  serial: value => typeof value === 'string' && /^([0-9a-f]{2}){1,20}$/.test(value),
  generation: value => Number.isSafeInteger(value) && (value as number) > 0,
  notBefore: instant,
  notAfter: instant,
  renewAfter: instant,
  renewBefore: instant,
  renewInSeconds: seconds,
  expiresInSeconds: seconds,
  notGranted: value => Array.isArray(value) && value.every(item => typeof item === 'string'),
  caId: optionalText,
  logKey: optionalText,
}

const answerChecks: Readonly<Record<keyof IdentityAnswer, Check>> = {
  ...factChecks,
  certificate: text,
  chain: value => typeof value === 'string',
  bundle: text,
}

const pick = <T>(value: unknown, checks: Readonly<Record<keyof T & string, Check>>, what: string): T => {
  if (typeof value !== 'object' || value === null) throw AgentError.of('answer_malformed', `${what} is not an object`)
  const members = value as Readonly<Record<string, unknown>>
  const names = Object.keys(checks) as (keyof T & string)[]
  const wrong = names.filter(name => !checks[name](members[name]))
  if (wrong.length > 0)
    throw AgentError.of('answer_malformed', `${what} lacks, or has of another type: ${wrong.join(', ')}`)
  const present = names.filter(name => members[name] !== undefined)
  return Object.fromEntries(present.map(name => [name, members[name]])) as T
}

/** @throws AgentError `answer_malformed` naming every member */
export const parseIdentityAnswer = (value: unknown): IdentityAnswer =>
  pick<IdentityAnswer>(value, answerChecks, 'the identity')

/** @throws AgentError `answer_malformed` naming every member */
export const parseIdentityFacts = (value: unknown): IdentityFacts =>
  pick<IdentityFacts>(value, factChecks, 'the identity')

export interface ExpectedIdentity {
  /** DER of the key that the certificate must be for. */
  readonly spkiDer: Uint8Array
  readonly now: number
  /** Enrolment: the trust domain the CA's own certificate named, if it did. */
  readonly trustDomain: string | null
  /** Renewal and recovery: an identity never changes. */
  readonly spiffeId: string | null
  /** Enrolment of a service: its name. */
  readonly service: string | null
}

export interface CheckedIdentity {
  readonly leaf: Certificate
  readonly spiffeId: SpiffeId
  readonly principal: Principal
}

const mismatch = (message: string): AgentError => AgentError.of('answer_not_verified', message)

export const isService = (principal: Principal | null, name: string): boolean =>
  principal?.kind === 'service' && principal.name === name

const checkNames = (answer: IdentityAnswer, leaf: Certificate, expected: ExpectedIdentity): CheckedIdentity => {
  const spiffeId = parseSpiffeId(answer.spiffeId)
  if (leaf.spiffeId !== spiffeId) throw mismatch(`the certificate names ${leaf.spiffeId}, the answer ${spiffeId}`)
  if (leaf.serialHex !== answer.serial) throw mismatch('the certificate has another serial than the answer')
  if (leaf.notAfter !== Date.parse(answer.notAfter))
    throw mismatch('the certificate ends at another time than the answer')
  const principal = principalOf(spiffeId)
  if (principal === null) throw mismatch(`${spiffeId} is none of agentca's names`)
  const trustDomain = trustDomainOf(spiffeId)
  if (expected.trustDomain !== null && trustDomain !== expected.trustDomain)
    throw mismatch(`a certificate for trust domain ${trustDomain} from the CA of ${expected.trustDomain}`)
  if (expected.spiffeId !== null && spiffeId !== expected.spiffeId)
    throw AgentError.of('identity_unexpected', `expected a certificate for ${expected.spiffeId}, got ${spiffeId}`)
  if (expected.service !== null && !isService(principal, expected.service))
    throw AgentError.of(
      'identity_unexpected',
      `expected the identity of service ${expected.service}, got ${spiffeId}`,
      {
        hint: `enrol with a token for it: agentca token create --service ${expected.service}`,
      },
    )
  return { leaf, spiffeId, principal }
}

/**
 * Everything that makes an answer ours: our key, our name, a path to its bundle, valid now.
 * @throws AgentError `answer_not_verified`, `answer_malformed`, `identity_unexpected`
 */
export const checkIdentityAnswer = (answer: IdentityAnswer, expected: ExpectedIdentity): CheckedIdentity => {
  try {
    const leaf = parseCertificate(parseOnePem(answer.certificate, 'CERTIFICATE'))
    if (!equalBytes(leaf.spkiDer, expected.spkiDer)) throw mismatch('the certificate is for another key')
    const checked = checkNames(answer, leaf, expected)
    // First the holder's clock: under a wrong one every other check would fail with a worse reason.
    checkValidity(leaf, expected.now)
    checkChain({
      leaf,
      intermediates: answer.chain.trim() === '' ? [] : parseCertificates(answer.chain),
      roots: parseCertificates(answer.bundle),
      now: expected.now,
    })
    return checked
  } catch (error) {
    if (error instanceof AgentError || !isAgentCaError(error)) throw error
    throw AgentError.of('answer_malformed', `the answer cannot be read: ${messageOf(error)}`, { cause: error })
  }
}
