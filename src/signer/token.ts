// Opens a PKCS#11 token: module, token by label and serial, keep-alive session, one login under the PIN latch. Keys and signatures
// are in keys.ts and signing.ts.
import { readFileSync, statSync } from 'node:fs'
import { messageOf } from '../base/errors.ts'
import { type Cryptoki, ck, finalizeCryptoki, type Handle, initializeCryptoki, loadCryptoki } from './cryptoki.ts'
import { ckrCodeOf, ckrUserAlreadyLoggedIn, classifyPkcs11 } from './error-table.ts'
import { TokenError } from './errors.ts'
import type { PinLatch } from './pin-latch.ts'

export interface TokenSelector {
  readonly modulePath: string
  readonly tokenLabel: string | undefined
  readonly tokenSerial: string | undefined
  /** For SoftHSM2 only: the softhsm2.conf to use; becomes SOFTHSM2_CONF of this process. */
  readonly softhsmConf: string | undefined
}

export interface TokenDescription {
  readonly label: string
  readonly serial: string
  readonly manufacturer: string
  readonly model: string
  /** CKF_USER_PIN_COUNT_LOW: a wrong PIN was tried since the last good login. */
  readonly userPinCountLow: boolean
  readonly userPinLocked: boolean
  readonly maxSessions: number
}

/** An open token. Owned by one process; `login` and `openSession` are synchronous calls into the module and block it. */
export interface Token {
  readonly cryptoki: Cryptoki
  readonly slot: Handle
  /** The session that keeps the login alive; lent to nobody for signing. */
  keepAlive(): Handle
  describe(): TokenDescription
  openSession(): Handle
  /** Logs in once on the keep-alive session; again after the token forgot. @throws TokenError `pin_wrong`, `pin_latched` */
  login(pin: string): void
  close(): void
}

/** Fixed-width fields of CK_TOKEN_INFO: blank-padded by the standard, zero-terminated by some modules. */
export const padded = (text: string): string => text.replace(/[\s\0]+$/, '')

const describe = (cryptoki: Cryptoki, slot: Handle): TokenDescription => {
  const info = cryptoki.C_GetTokenInfo(slot)
  return {
    label: padded(info.label),
    serial: padded(info.serialNumber),
    manufacturer: padded(info.manufacturerID),
    model: padded(info.model),
    userPinCountLow: (info.flags & ck.CKF_USER_PIN_COUNT_LOW) !== 0,
    userPinLocked: (info.flags & ck.CKF_USER_PIN_LOCKED) !== 0,
    maxSessions: info.maxSessionCount,
  }
}

/** Never by slot index: SoftHSM2 renumbers slots when a token is added, network HSMs when one is down. */
export const findSlot = (cryptoki: Cryptoki, want: TokenSelector): Handle => {
  const seen: string[] = []
  const matches: Handle[] = []
  for (const slot of cryptoki.C_GetSlotList(true)) {
    const info = cryptoki.C_GetTokenInfo(slot)
    if ((info.flags & ck.CKF_TOKEN_INITIALIZED) === 0) continue
    const label = padded(info.label)
    const serial = padded(info.serialNumber)
    seen.push(`${label} (serial ${serial})`)
    if (want.tokenLabel !== undefined && want.tokenLabel !== label) continue
    if (want.tokenSerial !== undefined && want.tokenSerial !== serial) continue
    matches.push(slot)
  }
  const wanted = [want.tokenLabel && `label "${want.tokenLabel}"`, want.tokenSerial && `serial ${want.tokenSerial}`]
  const name = wanted.filter(Boolean).join(' and ')
  if (matches.length === 0) {
    throw new TokenError('token_not_found', `no token with ${name}; present: ${seen.join(', ') || 'none'}`, {
      hint: want.softhsmConf ? `check ${want.softhsmConf}` : 'check the token label, and SOFTHSM2_CONF for SoftHSM2',
    })
  }
  if (matches.length > 1) {
    throw new TokenError('token_ambiguous', `${matches.length} tokens with ${name}`, { hint: 'add serial= to the URI' })
  }
  return matches[0]!
}

/** Reads the PIN. A file that others may read is no place for one. @throws TokenError `pin_source_unreadable` */
export const readPinFile = (path: string): string => {
  try {
    const mode = statSync(path).mode & 0o777
    if ((mode & 0o007) !== 0) {
      throw new TokenError('pin_source_unreadable', `${path} is open to everybody (mode ${mode.toString(8)})`, {
        hint: `chmod 600 ${path}`,
      })
    }
    const pin = readFileSync(path, 'utf8').replace(/\r?\n$/, '')
    if (pin === '')
      throw new TokenError('pin_source_unreadable', `${path} is empty`, { hint: `write the user PIN into ${path}` })
    return pin
  } catch (error) {
    if (error instanceof TokenError) throw error
    throw new TokenError('pin_source_unreadable', `cannot read the PIN: ${messageOf(error)}`, {
      hint: `check ${path}`,
      cause: error,
    })
  }
}

const latchedError = (reason: string): TokenError =>
  new TokenError('pin_latched', `this PIN is not tried again: ${reason}`, {
    hint: 'correct the PIN file, or run: agentca hsm unlock',
  })

/** @throws TokenError `module_not_loadable`, `token_not_found`, `token_ambiguous` */
export const openToken = (want: TokenSelector, latch: PinLatch, cryptoki?: Cryptoki): Token => {
  if (want.softhsmConf !== undefined) process.env.SOFTHSM2_CONF = want.softhsmConf
  const module = cryptoki ?? loadCryptoki(want.modulePath)
  initializeCryptoki(module)
  let slot: Handle
  let keepAlive: Handle
  try {
    slot = findSlot(module, want)
    keepAlive = module.C_OpenSession(slot, ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION)
  } catch (error) {
    finalizeCryptoki(module)
    throw error
  }
  const tryLogin = (pin: string): void => {
    try {
      module.C_Login(keepAlive, ck.CKU_USER, pin)
    } catch (error) {
      if (ckrCodeOf(error) !== ckrUserAlreadyLoggedIn) throw error
    }
  }
  return {
    cryptoki: module,
    slot,
    keepAlive: () => keepAlive,
    describe: () => describe(module, slot),
    openSession: () => module.C_OpenSession(slot, ck.CKF_SERIAL_SESSION),
    login(pin) {
      const blocked = latch.blocks(pin)
      if (blocked !== null) throw latchedError(blocked)
      latch.begin(pin)
      try {
        try {
          tryLogin(pin)
        } catch (error) {
          if (classifyPkcs11(error)?.behaviour.class !== 'session') throw error
          keepAlive = module.C_OpenSession(slot, ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION)
          tryLogin(pin)
        }
        latch.succeeded()
      } catch (error) {
        const failure = classifyPkcs11(error)
        if (failure?.behaviour.atEnd === 'latch') {
          latch.failed(pin, `the token answered ${failure.name}`)
          throw new TokenError('pin_wrong', `the token refused the PIN: ${failure.name}`, {
            hint: 'correct the PIN file; this PIN is not tried again',
            cause: error,
          })
        }
        // Any other failure says nothing about the PIN.
        latch.succeeded()
        throw error
      }
    },
    close: () => finalizeCryptoki(module),
  }
}
