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
import { join, resolve } from 'node:path'
import { parseCertificate } from '../pki/certificate.ts'
import { encodePem, parseOnePem } from '../pki/pem.ts'
import { parseSignerConfig, type SignerConfigInput } from '../signer/config.ts'
import { writeDurably } from '../signer/durable-file.ts'
import { softHsmPaths, writeSoftHsmConf } from '../signer/softhsm-token.ts'
import { ServerError } from './errors.ts'
import type { HomePaths } from './home.ts'
import { issuingPurposes } from './signer-config.ts'

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
    if (name !== 'signer.json') cpSync(join(from, name), join(to, name), { recursive: true })
}

/** @throws ServerError `server_running`, `not_initialised`, `signer_directory_taken`; then nothing was moved */
export const separateSigner = async ({
  paths,
  socket,
  owner,
  dryRun,
  ...options
}: SeparateOptions): Promise<Separated> => {
  const directory = resolve(options.directory)
  const configFile = signerConfigFile(directory)
  if (existsSync(configFile))
    throw new ServerError('signer_directory_taken', `${configFile} is there already: a signer lives in ${directory}`, {
      hint: 'use it, or name another with --directory',
    })
  await checkStopped(paths)
  const own = readOwn(join(paths.signer, 'signer.json'))
  const movesTokens = own.module.softhsmConf === softHsmPaths(paths.tokens).confPath
  const tokens = softHsmPaths(join(directory, 'tokens'))
  const module = movesTokens ? { ...own.module, pinSource: tokens.pinFile, softhsmConf: tokens.confPath } : own.module
  const config = { ...own, socket, access: 'group', stateDirectory: join(directory, 'state'), module }
  const separated: Separated = {
    directory,
    configFile,
    socket,
    keys: own.keys.map(({ label }) => label),
    tokens: movesTokens ? join(directory, 'tokens') : null,
    pinSource: module.pinSource ?? null,
  }
  parseSignerConfig(JSON.stringify(config))
  if (dryRun) return separated
  // Beside it and in place at once: a crash leaves the home as it was, and at worst a copy that the next attempt throws away.
  const making = `${directory}.${randomBytes(6).toString('hex')}.tmp`
  mkdirSync(making, { recursive: true, mode: 0o700 })
  try {
    copyState(paths.signer, join(making, 'state'))
    if (movesTokens) {
      cpSync(paths.tokens, join(making, 'tokens'), { recursive: true })
      writeSoftHsmConf({ ...tokens, confPath: join(making, 'tokens', 'softhsm2.conf') })
    }
    writeDurably(join(making, 'signer.json'), `${JSON.stringify(config, null, 2)}\n`)
    if (owner !== null) giveTo(making, owner)
    if (existsSync(directory) && readdirSync(directory).length === 0) rmSync(directory, { recursive: true })
    renameSync(making, directory)
  } catch (error) {
    rmSync(making, { recursive: true, force: true })
    throw error
  }
  if (movesTokens) rmSync(paths.tokens, { recursive: true })
  rmSync(paths.signer, { recursive: true })
  return separated
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
