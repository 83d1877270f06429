// The one table PKCS#11 return code -> behaviour. Code decides on `class`, `retry` and `scope`; nobody else looks at a CKR number.
// Origin: PKCS#11 2.40 §5.1, and what Luna, CloudHSM, YubiHSM and SoftHSM really answer when a link, a session or a token is lost.

/**
 * session: this session is unusable, others are fine. login: the application's login is gone. handle: a cached object handle is stale.
 * busy: the token is out of something for the moment. module: the library or its token is gone; only a new process cures it.
 * pin: latch, never try again by itself. config: somebody asked for what the token does not do; retrying cannot help.
 */
export type CkrClass = 'session' | 'login' | 'handle' | 'busy' | 'module' | 'pin' | 'config'

export interface CkrBehaviour {
  readonly class: CkrClass
  /** Further attempts allowed after the first. A failed C_Sign may be repeated: its result was never released. */
  readonly retries: 0 | 1 | 2
  /** What happens before the next attempt. */
  readonly before: 'nothing' | 'login' | 'find-key' | 'wait'
  /** What the failure means for the process when attempts are used up. */
  readonly atEnd: 'fail-request' | 'module-down' | 'latch'
}

export const ckrBehaviour: Readonly<Record<CkrClass, CkrBehaviour>> = {
  session: { class: 'session', retries: 1, before: 'nothing', atEnd: 'module-down' },
  login: { class: 'login', retries: 1, before: 'login', atEnd: 'module-down' },
  handle: { class: 'handle', retries: 1, before: 'find-key', atEnd: 'fail-request' },
  busy: { class: 'busy', retries: 2, before: 'wait', atEnd: 'module-down' },
  module: { class: 'module', retries: 0, before: 'nothing', atEnd: 'module-down' },
  pin: { class: 'pin', retries: 0, before: 'nothing', atEnd: 'latch' },
  config: { class: 'config', retries: 0, before: 'nothing', atEnd: 'fail-request' },
}

const row = (code: number, name: string, kind: CkrClass): readonly [number, { name: string; class: CkrClass }] => [
  code,
  { name, class: kind },
]

/** Every code that the calls we make may return. What is not here, vendor codes included, is `module`: unknown means stop and restart. */
export const ckrTable: ReadonlyMap<number, { readonly name: string; readonly class: CkrClass }> = new Map([
  row(0x02, 'CKR_HOST_MEMORY', 'busy'),
  row(0x03, 'CKR_SLOT_ID_INVALID', 'module'),
  row(0x05, 'CKR_GENERAL_ERROR', 'module'),
  row(0x06, 'CKR_FUNCTION_FAILED', 'busy'),
  row(0x07, 'CKR_ARGUMENTS_BAD', 'config'),
  row(0x0a, 'CKR_CANT_LOCK', 'config'),
  row(0x10, 'CKR_ATTRIBUTE_READ_ONLY', 'config'),
  row(0x11, 'CKR_ATTRIBUTE_SENSITIVE', 'config'),
  row(0x12, 'CKR_ATTRIBUTE_TYPE_INVALID', 'config'),
  row(0x13, 'CKR_ATTRIBUTE_VALUE_INVALID', 'config'),
  row(0x1b, 'CKR_ACTION_PROHIBITED', 'config'),
  row(0x20, 'CKR_DATA_INVALID', 'config'),
  row(0x21, 'CKR_DATA_LEN_RANGE', 'config'),
  row(0x30, 'CKR_DEVICE_ERROR', 'module'),
  row(0x31, 'CKR_DEVICE_MEMORY', 'busy'),
  row(0x32, 'CKR_DEVICE_REMOVED', 'module'),
  row(0x50, 'CKR_FUNCTION_CANCELED', 'session'),
  row(0x54, 'CKR_FUNCTION_NOT_SUPPORTED', 'config'),
  row(0x60, 'CKR_KEY_HANDLE_INVALID', 'handle'),
  row(0x62, 'CKR_KEY_SIZE_RANGE', 'config'),
  row(0x63, 'CKR_KEY_TYPE_INCONSISTENT', 'config'),
  row(0x68, 'CKR_KEY_FUNCTION_NOT_PERMITTED', 'config'),
  row(0x70, 'CKR_MECHANISM_INVALID', 'config'),
  row(0x71, 'CKR_MECHANISM_PARAM_INVALID', 'config'),
  row(0x82, 'CKR_OBJECT_HANDLE_INVALID', 'handle'),
  row(0x90, 'CKR_OPERATION_ACTIVE', 'session'),
  row(0x91, 'CKR_OPERATION_NOT_INITIALIZED', 'session'),
  row(0xa0, 'CKR_PIN_INCORRECT', 'pin'),
  row(0xa1, 'CKR_PIN_INVALID', 'pin'),
  row(0xa2, 'CKR_PIN_LEN_RANGE', 'pin'),
  row(0xa3, 'CKR_PIN_EXPIRED', 'pin'),
  row(0xa4, 'CKR_PIN_LOCKED', 'pin'),
  row(0xb0, 'CKR_SESSION_CLOSED', 'session'),
  row(0xb1, 'CKR_SESSION_COUNT', 'busy'),
  row(0xb3, 'CKR_SESSION_HANDLE_INVALID', 'session'),
  row(0xb4, 'CKR_SESSION_PARALLEL_NOT_SUPPORTED', 'config'),
  row(0xb5, 'CKR_SESSION_READ_ONLY', 'config'),
  row(0xb6, 'CKR_SESSION_EXISTS', 'config'),
  row(0xb8, 'CKR_SESSION_READ_WRITE_SO_EXISTS', 'config'),
  row(0xd0, 'CKR_TEMPLATE_INCOMPLETE', 'config'),
  row(0xd1, 'CKR_TEMPLATE_INCONSISTENT', 'config'),
  row(0xe0, 'CKR_TOKEN_NOT_PRESENT', 'module'),
  row(0xe1, 'CKR_TOKEN_NOT_RECOGNIZED', 'module'),
  row(0xe2, 'CKR_TOKEN_WRITE_PROTECTED', 'config'),
  row(0x101, 'CKR_USER_NOT_LOGGED_IN', 'login'),
  row(0x102, 'CKR_USER_PIN_NOT_INITIALIZED', 'pin'),
  row(0x103, 'CKR_USER_TYPE_INVALID', 'config'),
  row(0x104, 'CKR_USER_ANOTHER_ALREADY_LOGGED_IN', 'module'),
  row(0x150, 'CKR_BUFFER_TOO_SMALL', 'config'),
  row(0x190, 'CKR_CRYPTOKI_NOT_INITIALIZED', 'module'),
  row(0x191, 'CKR_CRYPTOKI_ALREADY_INITIALIZED', 'module'),
])

export const ckrUserAlreadyLoggedIn = 0x100

export interface Pkcs11Failure {
  readonly code: number
  readonly name: string
  readonly behaviour: CkrBehaviour
}

/**
 * The numeric code of whatever pkcs11js threw. C_FindObjects bypasses its wrapper and throws a plain `Error('CKR_X:123')`; codes it
 * does not know come as CKR_VENDOR_DEFINED with the true number, so only the number counts.
 * @returns null when it was no PKCS#11 return code (a TypeError is a defect of ours, not of the token)
 */
export const ckrCodeOf = (error: unknown): number | null => {
  if (!(error instanceof Error)) return null
  const code = (error as { code?: unknown }).code
  if (typeof code === 'number' && code > 0) return code
  const match = /^CKR_\w+:(\d+)/.exec(error.message)
  return match ? Number(match[1]) : null
}

/** @returns null when the error is not one of PKCS#11 */
export const classifyPkcs11 = (error: unknown): Pkcs11Failure | null => {
  const code = ckrCodeOf(error)
  if (code === null) return null
  const entry = ckrTable.get(code)
  const name = entry?.name ?? `CKR_0x${code.toString(16)}`
  return { code, name, behaviour: ckrBehaviour[entry?.class ?? 'module'] }
}
