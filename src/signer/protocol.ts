// What signer and core say to each other: a hello with a version both ways, then requests and answers matched by id, in any order.
// Shapes and their checks only; no sockets.
import type { Frame } from '../base/frames.ts'
import { type HsmCalled, SignerError, type SignerErrorCode } from './errors.ts'
import { type SignPriority, type SignPurpose, signPurposes } from './port.ts'

export const protocolVersion = 1

/** Bodies other than CRLs: the largest leaf is a tenth of it. */
export const maxSmallBodyBytes = 65_536

export type Operation = 'sign' | 'health' | 'keys' | 'unlock'

export interface Hello {
  readonly hello: 'agentca-signer'
  readonly version: number
}

export type RequestHeader =
  | {
      readonly id: number
      readonly op: 'sign'
      readonly purpose: SignPurpose
      readonly key: string
      readonly priority: SignPriority
      /** What is left of the deadline, in milliseconds. */
      readonly deadlineMs: number
    }
  | { readonly id: number; readonly op: 'health' | 'keys' | 'unlock' }

export interface ErrorHeader {
  readonly code: SignerErrorCode
  readonly message: string
  readonly hsmCalled: HsmCalled
  readonly rule?: string
  readonly hint?: string
  readonly facts?: Readonly<Record<string, string | number | boolean>>
}

export type ResponseHeader =
  | { readonly id: number; readonly ok: true; readonly result?: unknown }
  | { readonly id: number; readonly ok: false; readonly error: ErrorHeader }

export const hello: Hello = { hello: 'agentca-signer', version: protocolVersion }

export const isHello = (header: Frame['header']): boolean =>
  header.hello === 'agentca-signer' && header.version === protocolVersion

const priorities: readonly unknown[] = ['status', 'renew', 'enrol']
const operations: readonly unknown[] = ['sign', 'health', 'keys', 'unlock']
const isId = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
const maxDeadlineMs = 600_000

/** @returns null when the header is no request of this protocol */
export const parseRequestHeader = (header: Frame['header']): RequestHeader | null => {
  const { id, op, purpose, key, priority, deadlineMs } = header
  if (!isId(id) || !operations.includes(op)) return null
  if (op !== 'sign') return { id, op: op as 'health' | 'keys' | 'unlock' }
  const valid =
    signPurposes.includes(purpose as SignPurpose) &&
    priorities.includes(priority) &&
    typeof key === 'string' &&
    typeof deadlineMs === 'number' &&
    deadlineMs > 0 &&
    deadlineMs <= maxDeadlineMs
  if (!valid) return null
  return { id, op, purpose: purpose as SignPurpose, key, priority: priority as SignPriority, deadlineMs }
}

export const errorHeaderOf = (error: SignerError): ErrorHeader => {
  const facts: Record<string, string | number | boolean> = {}
  for (const [name, value] of Object.entries(error.facts)) {
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') facts[name] = value
  }
  return {
    code: error.code,
    message: error.message,
    hsmCalled: error.hsmCalled,
    ...(error.rule === undefined ? {} : { rule: error.rule }),
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    facts,
  }
}

export const signerErrorOf = (header: ErrorHeader): SignerError =>
  new SignerError(header.code, header.message, {
    hsmCalled: header.hsmCalled === 'no' ? 'no' : 'maybe',
    ...(header.rule === undefined ? {} : { rule: header.rule }),
    ...(header.hint === undefined ? {} : { hint: header.hint }),
    facts: header.facts ?? {},
  })
