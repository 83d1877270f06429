// Agents, tokens and signed requests, made ahead: while time is taken, only the CA works.
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { utf8 } from '../../src/base/bytes.ts'
import { createCsr } from '../../src/pki/csr.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { requestBytes } from './exchange.ts'
import type { RunningCa } from './world.ts'

/** Under the 50 live instances that the profile allows an agent. */
const enrolmentsPerAgent = 40
const tokenSeconds = 3600
const adminCallsAtOnce = 16

export interface SignedRequest {
  readonly key: KeyObject
  /** PEM of a certification request. */
  readonly csr: string
}

export interface Enrolment extends SignedRequest {
  /** `POST /v1/enroll`, whole. */
  readonly request: Uint8Array
}

export const signedRequest = async (): Promise<SignedRequest> => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const spkiDer = new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))
  const der = await createCsr({ spkiDer, sign: info => new Uint8Array(sign('sha256', info, privateKey)) })
  return { key: privateKey, csr: encodePem('CERTIFICATE REQUEST', der) }
}

export const postJson = (path: string, value: object): Uint8Array =>
  requestBytes('POST', path, { type: 'application/json', body: utf8(JSON.stringify(value)) })

const inBatches = async <T>(count: number, make: (index: number) => Promise<T>): Promise<T[]> => {
  const made: T[] = []
  for (let from = 0; from < count; from += adminCallsAtOnce) {
    const indexes = Array.from({ length: Math.min(adminCallsAtOnce, count - from) }, (_, i) => from + i)
    made.push(...(await Promise.all(indexes.map(make))))
  }
  return made
}

// Names are never reused, and several benchmarks may ask one CA.
let agents = 0

/** Each with a token of its own, for one use. */
export const prepareEnrolments = async ({ admin }: RunningCa, count: number): Promise<readonly Enrolment[]> => {
  const first = agents
  agents += Math.ceil(count / enrolmentsPerAgent)
  const nameOf = (index: number): string => `bench-${first + Math.floor(index / enrolmentsPerAgent)}`
  await inBatches(agents - first, index =>
    admin.call('agentsCreate', { body: { name: `bench-${first + index}`, owner: 'bench' } }),
  )
  return inBatches(count, async index => {
    const body = { kind: 'agent' as const, name: nameOf(index), ttlSeconds: tokenSeconds }
    const { token } = await admin.call('tokensCreate', { body })
    const { key, csr } = await signedRequest()
    return { key, csr, request: postJson('/v1/enroll', { csr, evidence: { type: 'token', token } }) }
  })
}
