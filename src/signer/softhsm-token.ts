// Creates a SoftHSM2 token: directory, softhsm2.conf, random PINs in 0600 files. The embedded default, for development, tests and
// single machines; other HSMs are initialised with their vendors' tools.
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Cryptoki, ck, finalizeCryptoki, initializeCryptoki, loadCryptoki } from './cryptoki.ts'
import { TokenError } from './errors.ts'
import { encodePkcs11Uri } from './pkcs11-uri.ts'
import { findSlot, padded } from './token.ts'

export const defaultSofthsmModule = '/usr/lib/softhsm/libsofthsm2.so'

export interface SoftHsmTokenRequest {
  /** Created 0700; must not hold a token yet. */
  readonly directory: string
  readonly label: string
  readonly modulePath?: string
}

export interface SoftHsmToken {
  readonly modulePath: string
  readonly label: string
  readonly serial: string
  /** Path of softhsm2.conf, for SOFTHSM2_CONF. */
  readonly confPath: string
  readonly pinFile: string
  readonly soPinFile: string
  /** URI of the token without an object. */
  readonly uri: string
}

/** Where the parts of a token directory are, whether they exist or not. */
export const softHsmPaths = (
  directory: string,
): { confPath: string; pinFile: string; soPinFile: string; tokenDirectory: string } => {
  const root = resolve(directory)
  return {
    confPath: join(root, 'softhsm2.conf'),
    pinFile: join(root, 'user.pin'),
    soPinFile: join(root, 'so.pin'),
    tokenDirectory: join(root, 'softhsm'),
  }
}

const initialize = (cryptoki: Cryptoki, label: string, pins: { user: string; so: string }): string => {
  // SoftHSM2 always shows one more slot with an uninitialised token in it.
  const slot = cryptoki
    .C_GetSlotList(true)
    .find(s => (cryptoki.C_GetTokenInfo(s).flags & ck.CKF_TOKEN_INITIALIZED) === 0)
  if (slot === undefined) throw new TokenError('token_not_found', 'the module shows no uninitialised token')
  cryptoki.C_InitToken(slot, pins.so, label)
  const made = findSlot(cryptoki, { modulePath: '', tokenLabel: label, tokenSerial: undefined, softhsmConf: undefined })
  const session = cryptoki.C_OpenSession(made, ck.CKF_SERIAL_SESSION | ck.CKF_RW_SESSION)
  cryptoki.C_Login(session, ck.CKU_SO, pins.so)
  cryptoki.C_InitPIN(session, pins.user)
  return padded(cryptoki.C_GetTokenInfo(made).serialNumber)
}

/** It names the token's directory, so it is written anew where that was moved. */
export const writeSoftHsmConf = ({ confPath, tokenDirectory }: ReturnType<typeof softHsmPaths>): void => {
  const conf = [
    `directories.tokendir = ${tokenDirectory}`,
    'objectstore.backend = file',
    'objectstore.umask = 0077',
    'log.level = ERROR',
    'slots.removable = false',
  ]
  writeFileSync(confPath, `${conf.join('\n')}\n`, { mode: 0o600 })
}

/**
 * Sets SOFTHSM2_CONF of this process and initialises the module in it; no other token of the same module may be open here.
 * @throws TokenError `token_exists` when the directory already holds one
 */
export const initSoftHsmToken = (request: SoftHsmTokenRequest): SoftHsmToken => {
  const modulePath = request.modulePath ?? defaultSofthsmModule
  const paths = softHsmPaths(request.directory)
  if (existsSync(paths.tokenDirectory) && readdirSync(paths.tokenDirectory).length > 0) {
    throw new TokenError('token_exists', `${paths.tokenDirectory} already holds a token`, {
      hint: 'use it, or choose another directory',
    })
  }
  const directory = resolve(request.directory)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  chmodSync(directory, 0o700)
  mkdirSync(paths.tokenDirectory, { recursive: true, mode: 0o700 })
  writeSoftHsmConf(paths)
  const pins = { user: randomBytes(16).toString('hex'), so: randomBytes(16).toString('hex') }
  // Before the token, so that a crash in between leaves an empty token and never a token without its PIN.
  writeFileSync(paths.pinFile, pins.user, { mode: 0o600 })
  writeFileSync(paths.soPinFile, pins.so, { mode: 0o600 })
  process.env.SOFTHSM2_CONF = paths.confPath
  const umask = process.umask(0o077)
  const cryptoki = loadCryptoki(modulePath)
  initializeCryptoki(cryptoki)
  try {
    const serial = initialize(cryptoki, request.label, pins)
    const uri = encodePkcs11Uri({
      token: request.label,
      serial: undefined,
      object: undefined,
      id: undefined,
      modulePath,
      pinFile: paths.pinFile,
    })
    return {
      modulePath,
      label: request.label,
      serial,
      confPath: paths.confPath,
      pinFile: paths.pinFile,
      soPinFile: paths.soPinFile,
      uri,
    }
  } finally {
    finalizeCryptoki(cryptoki)
    process.umask(umask)
  }
}
