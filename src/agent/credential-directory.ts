// The credential directory: generations side by side, one link (`..data`) that says which counts, and links of fixed names through
// it, as Kubernetes' atomic writer has it. The one rename of `..data` is the moment of change: a crash before it leaves the old
// generation in force, a crash after it the new one. The generation before the present one stays until the next change, so that
// a reader who resolved the link a moment ago still finds the file.
import { randomBytes } from 'node:crypto'
import { chmod, lstat, mkdir, readdir, readFile, readlink, rename, rm, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { messageOf } from '../base/errors.ts'
import { parsePem } from '../pki/pem.ts'
import type { Credential } from './credential.ts'
import { lockDirectory } from './directory-lock.ts'
import { AgentError } from './errors.ts'
import {
  type AskedAccess,
  accessLike,
  fileNames,
  ownerOnly,
  readGeneration,
  syncDirectory,
  writeDurably,
  writeGeneration,
} from './generation.ts'
import { encodePrivateKey, parsePrivateKey } from './key-pair.ts'
import type { CredentialStore, PendingKeys } from './store.ts'

const dataLink = '..data'
const pendingName = 'pending.key'

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? ''
const isMissing = (error: unknown): boolean => codeOf(error) === 'ENOENT'

/** @returns null when the directory, or a first generation in it, does not exist yet */
export const presentGeneration = (directory: string): Promise<string | null> =>
  readlink(join(directory, dataLink)).catch(error => {
    if (isMissing(error)) return null
    throw AgentError.of('file_unreadable', `cannot read ${directory}: ${messageOf(error)}`, { cause: error })
  })

/**
 * The credential in force, each file opened once, all of one generation.
 * @returns null when there is none yet
 * @throws AgentError `file_unreadable`, `directory_malformed`
 */
export const readCredentialDirectory = async (directory: string): Promise<Credential | null> => {
  let generation = await presentGeneration(directory)
  for (;;) {
    if (generation === null) return null
    try {
      return await readGeneration(join(directory, generation))
    } catch (error) {
      if (error instanceof AgentError) throw error
      // Two changes since the link was read took the files away: the present ones are elsewhere.
      const now = await presentGeneration(directory)
      if (isMissing(error) && now !== generation) {
        generation = now
        continue
      }
      throw AgentError.of('file_unreadable', `cannot read the credential in ${directory}: ${messageOf(error)}`, {
        hint: 'run as a user who may read it, or let the renewer write it for this one (--owner, --group, --key-mode)',
        cause: error,
      })
    }
  }
}

const encodePending = ({ purpose, keys }: PendingKeys): string =>
  `# ${purpose}\n${keys.map(key => encodePrivateKey(key)).join('')}`

/** @returns null for what cannot be read: a key that nobody can use is as good as none */
const parsePending = (text: string): PendingKeys | null => {
  const end = text.indexOf('\n')
  if (!text.startsWith('# ') || end < 0) return null
  try {
    const [first, ...more] = parsePem(text.slice(end + 1), 'PRIVATE KEY').map(parsePrivateKey)
    return first === undefined ? null : { purpose: text.slice(2, end), keys: [first, ...more] }
  } catch {
    return null
  }
}

/** Names that are not ours must not be replaced: somebody's only copy of a key may lie there. */
const checkNamesFree = async (directory: string): Promise<void> => {
  for (const name of fileNames) {
    const found = await lstat(join(directory, name)).catch(() => null)
    if (found === null || found.isSymbolicLink()) continue
    throw AgentError.of('directory_unwritable', `${join(directory, name)} is in the way: it is not this program's`, {
      hint: 'give a directory of its own (--dir), or move the file away',
    })
  }
}

const unwritable = (directory: string, error: unknown): AgentError =>
  error instanceof AgentError
    ? error
    : AgentError.of('directory_unwritable', `cannot write ${directory}: ${messageOf(error)}`, {
        hint: `make ${directory} writable for this user, or give another one (--dir)`,
        cause: error,
      })

const temporaryName = (): string => `..new-${randomBytes(6).toString('hex')}`

const generationName = (): string =>
  `..${new Date().toISOString().slice(0, 19).replaceAll(/[-:T]/g, '_')}.${randomBytes(6).toString('hex')}`

/** Readable by all whatever the umask: the files inside say for themselves who may read them. A directory that exists stays as it is. */
const makeDirectory = async (path: string): Promise<void> => {
  if ((await mkdir(path, { recursive: true })) === undefined) return
  await chmod(path, 0o755)
  await syncDirectory(dirname(path))
}

/** A symbolic link made elsewhere and moved into place: there is always one, the old or the new. */
const placeLink = async (directory: string, name: string, target: string): Promise<void> => {
  const temporary = join(directory, temporaryName())
  await symlink(target, temporary)
  await rename(temporary, join(directory, name))
}

const placeNameLinks = async (directory: string): Promise<void> => {
  for (const name of fileNames) {
    const target = `${dataLink}/${name}`
    const found = await readlink(join(directory, name)).catch(() => null)
    if (found !== target) await placeLink(directory, name, target)
  }
}

/** What a crash, or the change before the last, left behind. Only the holder of the lock calls this. */
const removeOthers = async (directory: string, keep: readonly (string | null)[]): Promise<void> => {
  for (const name of await readdir(directory))
    if (name.startsWith('..') && name !== dataLink && !keep.includes(name))
      await rm(join(directory, name), { recursive: true, force: true })
}

const swapIn = async (directory: string, credential: Credential, asked: AskedAccess): Promise<void> => {
  const before = await presentGeneration(directory)
  const crlPem = before === null ? '' : await readFile(join(directory, before, 'crl.pem'), 'utf8').catch(() => '')
  const name = generationName()
  await makeDirectory(join(directory, name))
  const access = await accessLike(before === null ? null : join(directory, before), asked)
  await writeGeneration(join(directory, name), credential, crlPem, access)
  // Before the first change these lead nowhere, so that all names come into being at once.
  await placeNameLinks(directory)
  await syncDirectory(directory)
  await placeLink(directory, dataLink, name)
  await syncDirectory(directory)
  await rm(join(directory, pendingName), { force: true })
  await removeOthers(directory, [name, before])
}

export interface CredentialDirectory extends CredentialStore, AsyncDisposable {
  readonly path: string
  /** Replaces `crl.pem` inside the present generation: lists change more often than keys. */
  saveCrls(pem: string): Promise<void>
}

const replaceFile = async (directory: string, name: string, content: string, mode: number): Promise<void> => {
  const temporary = join(directory, temporaryName())
  await writeDurably(temporary, content, { ...ownerOnly, mode })
  await rename(temporary, join(directory, name))
  await syncDirectory(directory)
}

const replaceCrls = async (directory: string, pem: string): Promise<void> => {
  const present = await presentGeneration(directory)
  if (present !== null) await replaceFile(join(directory, present), 'crl.pem', pem, 0o644)
}

/**
 * Opens a directory for its one renewer; it is made when it does not exist.
 * @throws AgentError `directory_in_use`, `directory_unwritable`
 */
export const openCredentialDirectory = async (
  directory: string,
  asked: AskedAccess = { keyMode: null, uid: null, gid: null },
): Promise<CredentialDirectory> => {
  const writing = <T>(work: Promise<T>): Promise<T> =>
    work.catch(error => {
      throw unwritable(directory, error)
    })
  await writing(makeDirectory(directory))
  const lock = await writing(lockDirectory(directory))
  try {
    await checkNamesFree(directory)
    await writing(presentGeneration(directory).then(present => removeOthers(directory, [present])))
  } catch (error) {
    await lock[Symbol.asyncDispose]()
    throw error
  }
  return {
    path: directory,
    load: () => readCredentialDirectory(directory),
    save: credential => writing(swapIn(directory, credential, asked)),
    pending: async purpose => {
      const text = await readFile(join(directory, pendingName), 'utf8').catch(() => '')
      const found = parsePending(text)
      return found?.purpose === purpose ? found : null
    },
    keepPending: pending => writing(replaceFile(directory, pendingName, encodePending(pending), 0o600)),
    dropPending: () => writing(rm(join(directory, pendingName), { force: true })),
    saveCrls: pem => writing(replaceCrls(directory, pem)),
    [Symbol.asyncDispose]: () => lock[Symbol.asyncDispose](),
  }
}
