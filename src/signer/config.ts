// The signer process's configuration: JSON text to checked values, all faults at once. The file carries paths and public
// certificates, never a secret. Written by the core at start-up, or once by `agentca signer separate` for a signer under a user of its own.
import { messageOf } from '../base/errors.ts'
import { parseTrustDomain, type TrustDomain } from '../pki/spiffe.ts'
import { TokenError } from './errors.ts'
import { type SignPurpose, signPurposes } from './port.ts'

export interface LeafCeilings {
  readonly agent: number
  readonly service: number
  readonly operator: number
}

export interface KeyCeilings {
  /** Longest life of a leaf by kind, in seconds. */
  readonly maxLeafSeconds: LeafCeilings
  readonly maxResponderSeconds: number
  /** Longest thisUpdate..nextUpdate of a CRL. */
  readonly maxCrlSeconds: number
  /** Longest thisUpdate..nextUpdate of an OCSP answer. */
  readonly maxOcspSeconds: number
  /** Signatures a minute and purpose. */
  readonly perMinute: Readonly<Record<SignPurpose, number>>
}

export interface SignerKeyConfig {
  readonly label: string
  readonly purposes: readonly SignPurpose[]
  /** The CA's certificate (leaf, crl, ocsp-responder), PEM. Binds the key: its public key must be the certificate's. */
  readonly certificate?: string
  /** Expected SubjectPublicKeyInfo, PEM, for keys without a certificate (log, responder before its first certificate). */
  readonly publicKey?: string
  readonly ceilings: KeyCeilings
}

/** Whose processes may open the socket: the signer's user alone, or its group too, of which the core's user is a member then. */
export type SocketAccess = 'owner' | 'group'

export interface SignerConfig {
  readonly socket: string
  readonly access: SocketAccess
  /** 0700; counters, high-water marks, PIN latch. Must survive restarts. */
  readonly stateDirectory: string
  readonly trustDomain: TrustDomain
  readonly module: {
    readonly path: string
    readonly tokenLabel: string
    readonly tokenSerial?: string
    /** Absolute path of the PIN file; without it the signer starts locked. */
    readonly pinSource?: string
    readonly softhsmConf?: string
  }
  readonly sessions: number
  readonly maxTbsBytes: number
  readonly keys: readonly SignerKeyConfig[]
}

const day = 86_400

export const defaultCeilings: KeyCeilings = {
  maxLeafSeconds: { agent: 7 * day, service: 90 * day, operator: 90 * day },
  maxResponderSeconds: 45 * day,
  maxCrlSeconds: 10 * day,
  maxOcspSeconds: 10 * day,
  perMinute: {
    leaf: 600_000,
    crl: 1_200,
    'ocsp-responder': 60,
    'ocsp-response': 1_200_000,
    checkpoint: 1_200,
    'test-sign': 1_200,
  },
}

export const defaultMaxTbsBytes = 128 * 1024 * 1024

type Json = Readonly<Record<string, unknown>>
const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Collects faults with their paths instead of stopping at the first. */
const createReader = (faults: string[]) => {
  const object = (value: unknown, path: string, allowed: readonly string[]): Json => {
    if (!isObject(value)) {
      faults.push(`${path}: expected an object`)
      return {}
    }
    for (const key of Object.keys(value))
      if (!allowed.includes(key)) faults.push(`${path}.${key}: unknown key, allowed: ${allowed.join(', ')}`)
    return value
  }
  const text = (value: unknown, path: string, pattern = /./s): string => {
    if (typeof value === 'string' && pattern.test(value)) return value
    faults.push(`${path}: expected text${pattern.source === '.' ? '' : ` like ${pattern.source}`}`)
    return ''
  }
  const optional = (value: unknown, path: string, pattern?: RegExp): string | undefined =>
    value === undefined ? undefined : text(value, path, pattern)
  const count = (value: unknown, path: string, range: { min: number; max: number; otherwise?: number }): number => {
    if (value === undefined && range.otherwise !== undefined) return range.otherwise
    if (typeof value === 'number' && Number.isInteger(value) && value >= range.min && value <= range.max) return value
    faults.push(`${path}: expected a whole number from ${range.min} to ${range.max}`)
    return range.min
  }
  return { object, text, optional, count }
}

type Reader = ReturnType<typeof createReader>

const readCeilings = (read: Reader, value: unknown, path: string): KeyCeilings => {
  const given = read.object(value ?? {}, path, [
    'maxLeafSeconds',
    'maxResponderSeconds',
    'maxCrlSeconds',
    'maxOcspSeconds',
    'perMinute',
  ])
  const leaf = read.object(given.maxLeafSeconds ?? {}, `${path}.maxLeafSeconds`, ['agent', 'service', 'operator'])
  const perMinute = read.object(given.perMinute ?? {}, `${path}.perMinute`, signPurposes)
  const base = defaultCeilings
  const seconds = (member: unknown, name: string, otherwise: number): number =>
    read.count(member, `${path}.${name}`, { min: 1, max: 400 * day, otherwise })
  const rates = signPurposes.map(purpose => [
    purpose,
    read.count(perMinute[purpose], `${path}.perMinute.${purpose}`, {
      min: 0,
      max: 100_000_000,
      otherwise: base.perMinute[purpose],
    }),
  ])
  return {
    maxLeafSeconds: {
      agent: seconds(leaf.agent, 'maxLeafSeconds.agent', base.maxLeafSeconds.agent),
      service: seconds(leaf.service, 'maxLeafSeconds.service', base.maxLeafSeconds.service),
      operator: seconds(leaf.operator, 'maxLeafSeconds.operator', base.maxLeafSeconds.operator),
    },
    // 45 days: a nocheck certificate cannot be revoked (RFC 6960 §4.2.2.2.1), so its life is its only bound.
    maxResponderSeconds: Math.min(
      45 * day,
      seconds(given.maxResponderSeconds, 'maxResponderSeconds', base.maxResponderSeconds),
    ),
    maxCrlSeconds: seconds(given.maxCrlSeconds, 'maxCrlSeconds', base.maxCrlSeconds),
    maxOcspSeconds: seconds(given.maxOcspSeconds, 'maxOcspSeconds', base.maxOcspSeconds),
    perMinute: Object.fromEntries(rates) as Record<SignPurpose, number>,
  }
}

const needsCertificate: readonly SignPurpose[] = ['leaf', 'crl', 'ocsp-responder']

const readKey = (read: Reader, faults: string[], value: unknown, path: string): SignerKeyConfig => {
  const given = read.object(value, path, ['label', 'purposes', 'certificate', 'publicKey', 'ceilings'])
  const label = read.text(given.label, `${path}.label`, /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
  const purposes = Array.isArray(given.purposes) ? (given.purposes as SignPurpose[]) : []
  if (purposes.length === 0 || !purposes.every(p => signPurposes.includes(p)))
    faults.push(`${path}.purposes: expected some of ${signPurposes.join(', ')}`)
  const certificate = read.optional(given.certificate, `${path}.certificate`, /BEGIN CERTIFICATE/)
  const publicKey = read.optional(given.publicKey, `${path}.publicKey`, /BEGIN PUBLIC KEY/)
  if (certificate === undefined && purposes.some(p => needsCertificate.includes(p))) {
    faults.push(`${path}.certificate: needed for ${needsCertificate.join(', ')}`)
  }
  return {
    label,
    purposes,
    ...(certificate === undefined ? {} : { certificate }),
    ...(publicKey === undefined ? {} : { publicKey }),
    ceilings: readCeilings(read, given.ceilings, `${path}.ceilings`),
  }
}

/** What the core writes: `SignerConfig` with defaults left out. */
export type SignerConfigInput = Omit<SignerConfig, 'keys' | 'maxTbsBytes' | 'trustDomain' | 'access'> & {
  readonly access?: SocketAccess
  readonly trustDomain: string
  readonly maxTbsBytes?: number
  readonly keys: readonly (Omit<SignerKeyConfig, 'ceilings'> & { readonly ceilings?: DeepPartial<KeyCeilings> })[]
}
type DeepPartial<T> = { readonly [K in keyof T]?: T[K] extends object ? DeepPartial<T[K]> : T[K] }

/** @throws TokenError `signer_config_invalid` that lists every fault */
export const parseSignerConfig = (text: string): SignerConfig => {
  const faults: string[] = []
  const read = createReader(faults)
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    faults.push(`not JSON: ${messageOf(error)}`)
  }
  const root = read.object(json, '$', [
    'socket',
    'access',
    'stateDirectory',
    'trustDomain',
    'module',
    'sessions',
    'maxTbsBytes',
    'keys',
  ])
  const module = read.object(root.module, '$.module', ['path', 'tokenLabel', 'tokenSerial', 'pinSource', 'softhsmConf'])
  const absolute = /^\//
  const tokenSerial = read.optional(module.tokenSerial, '$.module.tokenSerial')
  const pinSource = read.optional(module.pinSource, '$.module.pinSource', absolute)
  const softhsmConf = read.optional(module.softhsmConf, '$.module.softhsmConf', absolute)
  let trustDomain = '' as TrustDomain
  try {
    trustDomain = parseTrustDomain(read.text(root.trustDomain, '$.trustDomain'))
  } catch (error) {
    faults.push(`$.trustDomain: ${messageOf(error)}`)
  }
  const keys = Array.isArray(root.keys) ? root.keys.map((key, i) => readKey(read, faults, key, `$.keys[${i}]`)) : []
  if (keys.length === 0) faults.push('$.keys: expected at least one key')
  if (new Set(keys.map(key => key.label)).size !== keys.length) faults.push('$.keys: a label appears twice')
  const config: SignerConfig = {
    socket: read.text(root.socket, '$.socket', absolute),
    access: read.optional(root.access, '$.access', /^(?:owner|group)$/) === 'group' ? 'group' : 'owner',
    stateDirectory: read.text(root.stateDirectory, '$.stateDirectory', absolute),
    trustDomain,
    module: {
      path: read.text(module.path, '$.module.path', absolute),
      tokenLabel: read.text(module.tokenLabel, '$.module.tokenLabel'),
      ...(tokenSerial === undefined ? {} : { tokenSerial }),
      ...(pinSource === undefined ? {} : { pinSource }),
      ...(softhsmConf === undefined ? {} : { softhsmConf }),
    },
    sessions: read.count(root.sessions, '$.sessions', { min: 1, max: 64, otherwise: 4 }),
    maxTbsBytes: read.count(root.maxTbsBytes, '$.maxTbsBytes', {
      min: 65_536,
      max: 1024 * 1024 * 1024,
      otherwise: defaultMaxTbsBytes,
    }),
    keys,
  }
  if (faults.length > 0) {
    throw new TokenError('signer_config_invalid', `the signer configuration has faults: ${faults.join('; ')}`, {
      facts: { faults },
    })
  }
  return config
}
