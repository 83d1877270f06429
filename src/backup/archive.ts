// A backup as one file: a tar archive encrypted in the age format (age-encryption.org/v1), so that it can be opened without agentca.
// The first entry says what belongs in it; whatever else there is, or is other than it says, makes the whole file unreadable.
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Decrypter, Encrypter } from 'age-encryption'
import { createTarDecoder } from 'modern-tar'
import { packTar, type TarSource } from 'modern-tar/fs'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import { type BackupFile, type BackupManifest, parseBackupManifest } from '../schema/backup.ts'
import { BackupError } from './errors.ts'

/** To whom a backup is encrypted. */
export type Lock =
  | { readonly recipients: readonly [string, ...string[]] }
  | { readonly passphrase: string; readonly workFactor?: number }

/** By what it is opened. */
export type Key = { readonly identities: readonly string[] } | { readonly passphrase: string }

const manifestName = 'manifest.json'
/** 100,000 files with names of some hundred letters. */
const maxManifestBytes = 67_108_864

export interface Source extends BackupFile {
  readonly path: string
}

/** What is at `path` now, as the manifest names it. */
export const describeFile = async (name: string, path: string): Promise<Source> => {
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk as Buffer)
    size += (chunk as Buffer).length
  }
  return { name, path, size, sha256: hash.digest('hex') }
}

const encrypterFor = (lock: Lock): Encrypter => {
  const encrypter = new Encrypter()
  if ('passphrase' in lock) {
    if (lock.workFactor !== undefined) encrypter.setScryptWorkFactor(lock.workFactor)
    encrypter.setPassphrase(lock.passphrase)
    return encrypter
  }
  for (const recipient of lock.recipients)
    try {
      encrypter.addRecipient(recipient)
    } catch {
      throw new BackupError('backup_key_wrong', `${recipient} is no age recipient`, {
        hint: 'age-keygen writes one that begins with age1',
      })
    }
  return encrypter
}

const decrypterFor = (key: Key): Decrypter => {
  const decrypter = new Decrypter()
  if ('passphrase' in key) {
    decrypter.addPassphrase(key.passphrase)
    return decrypter
  }
  for (const identity of key.identities)
    try {
      decrypter.addIdentity(identity)
    } catch {
      // Never the identity itself: it is a secret.
      throw new BackupError('backup_key_wrong', 'the file holds no age identity', {
        hint: 'expected a line that begins with AGE-SECRET-KEY-1, as age-keygen writes it',
      })
    }
  return decrypter
}

/** Mode 0600, on disk when it resolves; `to` must not be there. */
export const writeArchive = async (
  to: string,
  { manifest, files }: { readonly manifest: BackupManifest; readonly files: readonly Source[] },
  lock: Lock,
): Promise<void> => {
  const encrypter = encrypterFor(lock)
  const sources: TarSource[] = [
    { type: 'content', content: JSON.stringify(manifest, null, 2), target: manifestName, mode: 0o600 },
    ...files.map(({ name, path }): TarSource => ({ type: 'file', source: path, target: name, mode: 0o600 })),
  ]
  const plain = Readable.toWeb(packTar(sources)) as ReadableStream<Uint8Array>
  const encrypted = await encrypter.encrypt(plain)
  await pipeline(Readable.fromWeb(encrypted as never), createWriteStream(to, { flags: 'wx', mode: 0o600 }))
  const file = await open(to, 'r+')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

const unreadable = (path: string, problem: string, cause?: unknown): BackupError =>
  new BackupError('backup_unreadable', `${path}: ${problem}`, { cause, hint: 'take another backup' })

const decrypted = async (path: string, key: Key): Promise<ReadableStream<Uint8Array>> => {
  const encrypted = Readable.toWeb(createReadStream(path)) as ReadableStream<Uint8Array>
  try {
    return await decrypterFor(key).decrypt(encrypted)
  } catch (error) {
    if (isAgentCaError(error)) throw error
    if (/no identity|passphrase/i.test(messageOf(error)))
      throw new BackupError('backup_key_wrong', `${path} is encrypted to another key`, {
        cause: error,
        hint: 'give the identity or the passphrase it was made for',
      })
    throw unreadable(path, 'this is no file in the age format', error)
  }
}

const readAll = async (body: ReadableStream<Uint8Array>, max: number): Promise<Uint8Array> => {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.length
    if (size > max) throw new Error('the manifest is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

const nowhere = (): Writable => new Writable({ write: (_chunk, _encoding, done) => done() })

const fileAt = async (path: string): Promise<Writable> => {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  return createWriteStream(path, { flags: 'wx', mode: 0o600 })
}

/** @param path null: it is checked and not kept @throws Error where it is not what the manifest says */
const unpack = async (body: ReadableStream<Uint8Array>, expected: BackupFile, path: string | null): Promise<void> => {
  const hash = createHash('sha256')
  let size = 0
  const counted = async function* () {
    for await (const chunk of body) {
      size += chunk.length
      if (size > expected.size) throw new Error(`${expected.name} is larger than the manifest says`)
      hash.update(chunk)
      yield chunk
    }
  }
  await pipeline(counted, path === null ? nowhere() : await fileAt(path))
  if (size !== expected.size || hash.digest('hex') !== expected.sha256)
    throw new Error(`${expected.name} is not what the manifest says`)
}

/**
 * Decrypts, and writes every file under `into` (mode 0600), each of them checked.
 * @param keep whether a file is written; the others are checked all the same
 * @throws BackupError `backup_unreadable`, `backup_key_wrong`, `backup_newer`; then what lies under `into` is of no use
 */
export const readArchive = async (
  path: string,
  key: Key,
  into: string,
  keep: (name: string) => boolean = () => true,
): Promise<BackupManifest> => {
  const entries = (await decrypted(path, key)).pipeThrough(createTarDecoder({ strict: true }) as never) as never
  let manifest: BackupManifest | null = null
  let missing = new Map<string, BackupFile>()
  try {
    for await (const { header, body } of entries as AsyncIterable<{
      header: { name: string; type?: string }
      body: ReadableStream<Uint8Array>
    }>) {
      if (manifest === null) {
        if (header.name !== manifestName) throw new Error(`expected ${manifestName} first, got ${header.name}`)
        manifest = parseBackupManifest(Buffer.from(await readAll(body, maxManifestBytes)).toString('utf8'))
        missing = new Map(manifest.files.map(file => [file.name, file]))
        continue
      }
      const expected = missing.get(header.name)
      if (expected === undefined || header.type !== 'file') throw new Error(`${header.name} is not in the manifest`)
      missing.delete(header.name)
      await unpack(body, expected, keep(expected.name) ? join(into, expected.name) : null)
    }
  } catch (error) {
    if (isAgentCaError(error) && error.code !== 'configuration_invalid') throw error
    throw unreadable(path, `it is cut off or was changed (${messageOf(error)})`, error)
  }
  if (manifest === null) throw unreadable(path, 'it is empty')
  const [first] = missing.keys()
  if (first !== undefined) throw unreadable(path, `${first} is missing`)
  return manifest
}
