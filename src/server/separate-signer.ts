// The signer under a user of its own: what the core's home has of it moves into a directory of that user's, once, with the core stopped.
// From then on the core cannot read PIN, token or counts, and says no more what may be signed: the signer's configuration is its own.
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  cpSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { createConnection } from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { parseCertificate } from '../pki/certificate.ts'
import { encodePem, parseOnePem } from '../pki/pem.ts'
import { parseSignerConfig, type SignerConfigInput } from '../signer/config.ts'
import { removeDurably, syncPath, writeDurably } from '../signer/durable-file.ts'
import { softHsmPaths, writeSoftHsmConf } from '../signer/softhsm-token.ts'
import { ServerError } from './errors.ts'
import type { HomePaths } from './home.ts'
import { issuingPurposes } from './signer-config.ts'
import { digestTree, firstNotIn, syncTree, type TreeDigests } from './verified-copy.ts'

export interface SeparateOptions {
  readonly paths: HomePaths
  /** Of the signer; 0700. */
  readonly directory: string
  readonly socket: string
  /** Numbers; null: as who runs this. */
  readonly owner: { readonly uid: number; readonly gid: number } | null
  readonly dryRun: boolean
}

export interface Separated {
  readonly directory: string
  readonly configFile: string
  readonly socket: string
  readonly keys: readonly string[]
  /** null: a token that is not in the home, whose PIN file is where it says. */
  readonly tokens: string | null
  readonly pinSource: string | null
}

/** Of the core's making, in its home: the signer gets one of its own. */
const coreConfig = 'signer.json'
/** Names the directory of the tokens, and so is written anew. */
const softHsmConf = 'softhsm2.conf'

export const signerConfigFile = (directory: string): string => join(resolve(directory), 'signer.json')

const isAnswered = (path: string): Promise<boolean> =>
  new Promise(done => {
    const probe = createConnection(path)
    probe.once('error', () => done(false))
    probe.once('connect', () => {
      probe.destroy()
      done(true)
    })
  })

const checkStopped = async ({ adminSocket, signerSocket }: HomePaths): Promise<void> => {
  for (const path of [adminSocket, signerSocket])
    if (await isAnswered(path))
      throw new ServerError('server_running', `a server is running: it answers on ${path}`, {
        hint: 'systemctl stop agentca',
      })
}

/**
 * Whose the directory is. A link may have been put there by anybody.
 * @throws ServerError `not_initialised`, `directory_unusable`
 */
const ownerOf = (directory: string): { readonly uid: number; readonly gid: number } => {
  const found = lstatSync(directory, { throwIfNoEntry: false })
  if (found === undefined)
    throw new ServerError('not_initialised', `there is no ${directory}`, { hint: 'agentca signer separate' })
  if (!found.isDirectory())
    throw new ServerError('directory_unusable', `${directory} is no directory`, {
      hint: 'name the directory itself with --directory, no link to it',
    })
  return found
}

/** In a directory whose owner may have put anything there. @throws ServerError `not_initialised`, `directory_unusable` */
const readPlainFile = (file: string): string => {
  const found = lstatSync(file, { throwIfNoEntry: false })
  if (found === undefined)
    throw new ServerError('not_initialised', `there is no ${file}`, { hint: 'agentca signer separate' })
  if (!found.isFile())
    throw new ServerError('directory_unusable', `${file} is no regular file`, {
      hint: 'look who put it there, then put the file itself in its place',
    })
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}

type OwnConfig = SignerConfigInput & { readonly keys: readonly { readonly label: string }[] }

const readOwn = (file: string): OwnConfig => {
  if (!existsSync(file))
    throw new ServerError('not_initialised', `${file} is not there: no server has run in this home yet`, {
      hint: 'start the server once, agentca serve, then stop it',
    })
  const text = readFileSync(file, 'utf8')
  parseSignerConfig(text)
  return JSON.parse(text) as OwnConfig
}

const giveTo = (path: string, { uid, gid }: NonNullable<SeparateOptions['owner']>): void => {
  if (lstatSync(path).isDirectory()) for (const name of readdirSync(path)) giveTo(join(path, name), { uid, gid })
  lchownSync(path, uid, gid)
}

/** What the signer counts and remembers: everything in its directory but the configuration that the core wrote. */
const copyState = (from: string, to: string): void => {
  mkdirSync(to, { recursive: true, mode: 0o700 })
  for (const name of readdirSync(from))
    if (name !== coreConfig) cpSync(join(from, name), join(to, name), { recursive: true })
}

/**
 * What was copied, written into the copy before it has its name and removed when the originals are gone: a directory that has this
 * record is whole, and what is left of the originals may go as long as it is what was copied.
 */
interface Originals {
  /** null: the token is not in the home. */
  readonly tokens: TreeDigests | null
  readonly state: TreeDigests
}

const originalsFile = (directory: string): string => join(directory, 'originals.json')

const originalsOf = ({ tokens, signer }: HomePaths, movesTokens: boolean): Originals => ({
  tokens: movesTokens ? digestTree(tokens) : null,
  state: digestTree(signer),
})

/** @throws ServerError `directory_unusable` when the copy is not what was copied */
const checkCopy = (making: string, originals: Originals): void => {
  const pairs: readonly (readonly [TreeDigests | null, string, string])[] = [
    [originals.tokens, join(making, 'tokens'), softHsmConf],
    [originals.state, join(making, 'state'), coreConfig],
  ]
  for (const [digests, copy, rewritten] of pairs) {
    if (digests === null) continue
    const { [rewritten]: _, ...expected } = digests
    const different = firstNotIn(digestTree(copy), expected)
    if (different !== null)
      throw new ServerError('directory_unusable', `the copy of ${different} in ${copy} is not what was copied`, {
        hint: 'nothing was moved: look at the disk, see that no server runs in this home, then try again',
      })
  }
}

/** @throws ServerError `signer_directory_taken` when there is something that was not copied; then nothing is removed */
const removeOriginals = (directory: string, paths: HomePaths, { tokens, state }: Originals): void => {
  const changed =
    firstNotIn(state, digestTree(paths.signer)) ??
    (tokens === null ? null : firstNotIn(tokens, digestTree(paths.tokens)))
  if (changed !== null)
    throw new ServerError(
      'signer_directory_taken',
      `${directory} has this home's signer, but ${changed} in ${paths.home} has changed since it was copied`,
      {
        hint: `a server signed there since: move ${directory} away and separate again; where the new signer has signed too, keep whichever counts further`,
      },
    )
  if (tokens !== null) rmSync(paths.tokens, { recursive: true, force: true })
  rmSync(paths.signer, { recursive: true, force: true })
  syncPath(paths.home)
  removeDurably(originalsFile(directory))
}

const describeSigner = (directory: string, config: OwnConfig): Separated => {
  const tokens = join(directory, 'tokens')
  return {
    directory,
    configFile: signerConfigFile(directory),
    socket: config.socket,
    keys: config.keys.map(({ label }) => label),
    tokens: config.module.softhsmConf === softHsmPaths(tokens).confPath ? tokens : null,
    pinSource: config.module.pinSource ?? null,
  }
}

/** After an end between the new name and the removal of the originals. @returns null when this directory is not from this home */
const finish = async (directory: string, paths: HomePaths, dryRun: boolean): Promise<Separated | null> => {
  const record = originalsFile(directory)
  if (!existsSync(record)) return null
  await checkStopped(paths)
  const originals = JSON.parse(readPlainFile(record)) as Originals
  const config = readPlainFile(signerConfigFile(directory))
  parseSignerConfig(config)
  if (!dryRun) removeOriginals(directory, paths, originals)
  return describeSigner(directory, JSON.parse(config) as OwnConfig)
}

/** Every directory that was made on the way to this one, and the one that was there. */
const syncParents = (directory: string, firstMade: string): void => {
  for (let path = dirname(directory); ; path = dirname(path)) {
    syncPath(path)
    if (path.length <= dirname(firstMade).length) return
  }
}

/**
 * Once more after a crash: what was begun is ended.
 * @throws ServerError `server_running`, `not_initialised`, `signer_directory_taken`, `directory_unusable`; then nothing was moved
 */
export const separateSigner = async ({
  paths,
  socket,
  owner,
  dryRun,
  ...options
}: SeparateOptions): Promise<Separated> => {
  const directory = resolve(options.directory)
  const configFile = signerConfigFile(directory)
  if (existsSync(configFile)) {
    const finished = await finish(directory, paths, dryRun)
    if (finished !== null) return finished
    throw new ServerError('signer_directory_taken', `${configFile} is there already: a signer lives in ${directory}`, {
      hint: 'use it, or name another with --directory',
    })
  }
  await checkStopped(paths)
  const own = readOwn(join(paths.signer, coreConfig))
  const movesTokens = own.module.softhsmConf === softHsmPaths(paths.tokens).confPath
  const tokens = softHsmPaths(join(directory, 'tokens'))
  const module = movesTokens ? { ...own.module, pinSource: tokens.pinFile, softhsmConf: tokens.confPath } : own.module
  const config: OwnConfig = { ...own, socket, access: 'group', stateDirectory: join(directory, 'state'), module }
  parseSignerConfig(JSON.stringify(config))
  const separated = describeSigner(directory, config)
  if (dryRun) return separated
  // Beside it and in place at once: a crash leaves the home as it was, and at worst a copy that nobody uses.
  const making = `${directory}.${randomBytes(6).toString('hex')}.tmp`
  const firstMade = mkdirSync(making, { recursive: true, mode: 0o700 }) ?? making
  const originals = originalsOf(paths, movesTokens)
  try {
    copyState(paths.signer, join(making, 'state'))
    if (movesTokens) {
      cpSync(paths.tokens, join(making, 'tokens'), { recursive: true })
      writeSoftHsmConf({ ...tokens, confPath: join(making, 'tokens', softHsmConf) })
    }
    writeDurably(join(making, 'signer.json'), `${JSON.stringify(config, null, 2)}\n`)
    writeDurably(originalsFile(making), `${JSON.stringify(originals)}\n`)
    if (owner !== null) giveTo(making, owner)
    syncTree(making)
    checkCopy(making, originals)
    if (existsSync(directory) && readdirSync(directory).length === 0) rmSync(directory, { recursive: true })
    renameSync(making, directory)
  } catch (error) {
    rmSync(making, { recursive: true, force: true })
    throw error
  }
  syncParents(directory, firstMade)
  removeOriginals(directory, paths, originals)
  return separated
}

/**
 * Another issuing CA, whose key a ceremony made in the signer's token.
 * @throws ServerError `not_initialised`, `directory_unusable`; TokenError `signer_config_invalid`; PkiError
 */
export const addSignerKey = (options: {
  readonly directory: string
  readonly label: string
  readonly certificatePem: string
  readonly dryRun: boolean
}): readonly string[] => {
  const { uid, gid } = ownerOf(resolve(options.directory))
  const file = signerConfigFile(options.directory)
  const text = readPlainFile(file)
  parseSignerConfig(text)
  const config = JSON.parse(text) as OwnConfig
  const { der } = parseCertificate(parseOnePem(options.certificatePem, 'CERTIFICATE'))
  const key = { label: options.label, purposes: issuingPurposes, certificate: encodePem('CERTIFICATE', der) }
  const next = `${JSON.stringify({ ...config, keys: [...config.keys, key] }, null, 2)}\n`
  parseSignerConfig(next)
  if (!options.dryRun) writeDurably(file, next, { uid, gid })
  return [...config.keys.map(({ label }) => label), options.label]
}
