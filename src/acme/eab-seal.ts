// MAC keys of external account bindings at rest: AES-256-GCM under a key that is a file of its own beside the ledger, made at first use. The
// kid is authenticated with it, so that no sealed key can be moved to another binding. Who has only the ledger, or a backup of it, has no
// MAC key; without the file the bindings that are not used yet are of no use, and new ones have to be made.
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { concatBytes, toHex, utf8 } from '../base/bytes.ts'
import { AcmeError } from './errors.ts'

export interface Sealer {
  /** @throws the error of the file system when the key cannot be made or read */
  seal(kid: string, secret: Uint8Array): Uint8Array
  /** @throws AcmeError `unauthorized` when the key is another one than it was sealed with, or is gone */
  open(kid: string, sealed: Uint8Array): Uint8Array
}

const keyBytes = 32
const ivBytes = 12
const tagBytes = 16

const readKey = (file: string): Uint8Array | null => {
  try {
    const key = readFileSync(file)
    if (key.length !== keyBytes) throw new Error(`expected ${keyBytes} bytes in ${file}, got ${key.length}`)
    return key
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** Bindings sealed with a key are in the ledger for good; so has the key's name to be. */
const syncDirectory = (directory: string): void => {
  const descriptor = openSync(directory, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

/** Whole or not at all, and never in the place of another one. */
const makeKey = (file: string): Uint8Array => {
  // Never the name of what another attempt left behind.
  const beside = `${file}.${toHex(randomBytes(8))}.new`
  const key = randomBytes(keyBytes)
  const descriptor = openSync(beside, 'wx', 0o600)
  try {
    writeSync(descriptor, key)
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
  try {
    linkSync(beside, file)
    syncDirectory(dirname(file))
    return key
  } catch (error) {
    const other = (error as NodeJS.ErrnoException).code === 'EEXIST' ? readKey(file) : null
    if (other === null) throw error
    return other
  } finally {
    rmSync(beside, { force: true })
  }
}

const lost = (cause?: unknown): AcmeError =>
  new AcmeError(
    'unauthorized',
    'this external account binding cannot be read any more: the CA has another sealing key',
    {
      hint: 'agentca acme eab create makes a new one',
      ...(cause === undefined ? {} : { cause }),
    },
  )

/** @param file of the key, 0600; read at each use, so that a restored one counts at once */
export const createSealer = (file: string): Sealer => ({
  seal: (kid, secret) => {
    const key = readKey(file) ?? makeKey(file)
    const iv = randomBytes(ivBytes)
    const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(utf8(kid))
    const sealed = [cipher.update(secret), cipher.final()]
    return concatBytes([iv, ...sealed, cipher.getAuthTag()])
  },
  open: (kid, sealed) => {
    const key = readKey(file)
    if (key === null || sealed.length < ivBytes + tagBytes) throw lost()
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, ivBytes), { authTagLength: tagBytes })
      decipher.setAAD(utf8(kid)).setAuthTag(sealed.subarray(sealed.length - tagBytes))
      return concatBytes([decipher.update(sealed.subarray(ivBytes, sealed.length - tagBytes)), decipher.final()])
    } catch (cause) {
      throw lost(cause)
    }
  },
})
