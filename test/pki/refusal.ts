// Asserts on codes, never on messages.
import { PkiError, type PkiErrorCode } from '../../src/pki/errors.ts'

/** The code that a call is refused with; anything but a PkiError is a failure of the test. */
export const codeOf = (call: () => unknown): PkiErrorCode | 'accepted' => {
  try {
    call()
    return 'accepted'
  } catch (error) {
    if (error instanceof PkiError) return error.code
    throw error
  }
}

/** The reason inside a key_not_allowed refusal. */
export const reasonOf = (call: () => unknown): unknown => {
  try {
    call()
    return 'accepted'
  } catch (error) {
    if (error instanceof PkiError) return error.facts.reason ?? error.code
    throw error
  }
}
