// Loads PKCS#11 modules: the only import of pkcs11js. One module object per path and process, kept for ever, because its
// destructor would dlclose under calls in flight.
import { realpathSync } from 'node:fs'
import pkcs11js from 'pkcs11js'
import { messageOf } from '../base/errors.ts'
import { ckrCodeOf } from './error-table.ts'
import { TokenError } from './errors.ts'

export const ck = pkcs11js

export type Handle = Buffer
export type Template = { type: number; value?: number | boolean | string | Buffer }[]

/** The calls the signer makes, and no other: what a fake has to provide. */
export type Cryptoki = Pick<
  pkcs11js.PKCS11,
  | 'C_Initialize'
  | 'C_Finalize'
  | 'C_GetSlotList'
  | 'C_GetTokenInfo'
  | 'C_GetMechanismList'
  | 'C_InitToken'
  | 'C_InitPIN'
  | 'C_OpenSession'
  | 'C_CloseSession'
  | 'C_Login'
  | 'C_FindObjectsInit'
  | 'C_FindObjects'
  | 'C_FindObjectsFinal'
  | 'C_GetAttributeValue'
  | 'C_SignInit'
  | 'C_Sign'
  | 'C_SignAsync'
  | 'C_GenerateKeyPairAsync'
>

const loaded = new Map<string, Cryptoki>()

/**
 * dlopen, once per path. SoftHSM2 reads SOFTHSM2_CONF in C_Initialize, so the variable must be set before that.
 * @throws TokenError `module_not_loadable`
 */
export const loadCryptoki = (modulePath: string): Cryptoki => {
  if (!modulePath.startsWith('/')) {
    throw new TokenError('module_not_loadable', `module path must be absolute, got "${modulePath}"`, {
      hint: 'give the full path of the PKCS#11 library',
    })
  }
  try {
    const path = realpathSync(modulePath)
    const known = loaded.get(path)
    if (known) return known
    const cryptoki = new pkcs11js.PKCS11()
    cryptoki.load(path)
    loaded.set(path, cryptoki)
    return cryptoki
  } catch (error) {
    throw new TokenError('module_not_loadable', `cannot load PKCS#11 module ${modulePath}: ${messageOf(error)}`, {
      hint: modulePath.includes('softhsm') ? 'apt-get install softhsm2' : 'check module-path and the vendor client',
      cause: error,
    })
  }
}

/** @throws the module's own error; a module that is already initialised is one of ours and an error too */
export const initializeCryptoki = (cryptoki: Cryptoki): void => {
  // Without an argument pkcs11js passes flags = 0, which promises single-threaded use: SoftHSM then drops its mutexes.
  cryptoki.C_Initialize({ flags: ck.CKF_OS_LOCKING_OK })
}

/** Ends the module's state in this process. Never with calls in flight. */
export const finalizeCryptoki = (cryptoki: Cryptoki): void => {
  try {
    cryptoki.C_Finalize()
  } catch (error) {
    if (ckrCodeOf(error) !== ck.CKR_CRYPTOKI_NOT_INITIALIZED) throw error
  }
}

/** pkcs11js frees garbage when a template value has a wrong type: every template passes here before it reaches the addon. */
export const checkedTemplate = (template: Template): Template => {
  for (const { type, value } of template) {
    const ok =
      typeof value === 'boolean' ||
      typeof value === 'string' ||
      (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff) ||
      Buffer.isBuffer(value)
    if (!Number.isInteger(type) || !ok)
      throw new TypeError(`attribute 0x${type.toString(16)} has a value of a wrong type`)
  }
  return template
}
