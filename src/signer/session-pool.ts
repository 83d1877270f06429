// N read-only sessions on one token, opened one after the other and lent out for one signature each. A session that saw an error
// is never used again: PKCS#11 2.40 cannot cancel an operation that hangs in it.
import type { Handle } from './cryptoki.ts'
import type { Token } from './token.ts'

/** Owned by the signer's event loop. `take` and `give` do not wait: the queue in front never lends more than `size`. */
export interface SessionPool {
  readonly size: number
  take(): Handle
  give(session: Handle): void
  /** Throws the session away; `take` opens another when it needs one. */
  poison(session: Handle): void
  open(): number
}

/** Stops at the first session that cannot be opened: some tokens count failures. @throws the module's error */
export const createSessionPool = (token: Token, wanted: number): SessionPool => {
  const { maxSessions } = token.describe()
  // 0 is "no limit known", 0xffffffff CK_UNAVAILABLE_INFORMATION (PKCS#11 2.40 §3.2). One session is the keep-alive one.
  const limit = maxSessions > 0 && maxSessions < 0xffff_ffff ? Math.max(1, maxSessions - 1) : wanted
  const size = Math.min(wanted, limit)
  const idle: Handle[] = []
  let open = 0
  const openOne = (): Handle => {
    const session = token.openSession()
    open++
    return session
  }
  for (let i = 0; i < size; i++) idle.push(openOne())
  return {
    size,
    take: () => idle.pop() ?? openOne(),
    give: session => {
      idle.push(session)
    },
    poison(session) {
      open--
      try {
        token.cryptoki.C_CloseSession(session)
      } catch {
        // It is gone already, or the module is: either way nobody uses it again.
      }
    },
    open: () => open,
  }
}
