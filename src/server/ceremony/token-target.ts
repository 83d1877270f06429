// Which token a ceremony works in: a SoftHSM2 directory of ours, made when it is not there yet, or any token by URI. One token of a
// module can be open in a process at a time, so every use is one call with its own beginning and end.
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { type CeremonyToken, openCeremonyToken } from '../../signer/ceremony-token.ts'
import { TokenError } from '../../signer/errors.ts'
import { encodePkcs11Uri, parsePkcs11Uri } from '../../signer/pkcs11-uri.ts'
import { defaultSofthsmModule, initSoftHsmToken, softHsmPaths } from '../../signer/softhsm-token.ts'
import { makeDirectory } from '../make-directory.ts'

export type TokenTarget =
  | { readonly kind: 'softhsm'; readonly directory: string; readonly label: string; readonly modulePath?: string }
  | {
      readonly kind: 'uri'
      readonly uri: string
      readonly softhsmConf?: string | undefined
      /** Where the PIN latch is kept; default: beside the PIN file. */
      readonly latchDirectory?: string | undefined
    }

const isPresent = (directory: string): boolean => {
  const { tokenDirectory } = softHsmPaths(directory)
  return existsSync(tokenDirectory) && readdirSync(tokenDirectory).length > 0
}

/** What the ceremony would have to make first. */
export const isMissing = (target: TokenTarget): target is TokenTarget & { kind: 'softhsm' } =>
  target.kind === 'softhsm' && !isPresent(target.directory)

export interface TokenFacts {
  /** Without an object. */
  readonly uri: string
  readonly pinFile: string | null
  /** softhsm2.conf; null for tokens of other modules, and where the environment names it. */
  readonly confPath: string | null
}

export const tokenFacts = (target: TokenTarget): TokenFacts => {
  if (target.kind === 'uri') {
    const parsed = parsePkcs11Uri(target.uri)
    const uri = encodePkcs11Uri({ ...parsed, object: undefined, id: undefined })
    return { uri, pinFile: parsed.pinFile ?? null, confPath: target.softhsmConf ?? null }
  }
  const { confPath, pinFile } = softHsmPaths(target.directory)
  const modulePath = target.modulePath ?? defaultSofthsmModule
  const none = { serial: undefined, object: undefined, id: undefined }
  return { uri: encodePkcs11Uri({ token: target.label, ...none, modulePath, pinFile }), pinFile, confPath }
}

/**
 * SoftHSM2 reads SOFTHSM2_CONF in C_Initialize and the signer's code sets it; whoever runs in this process afterwards finds it as
 * it was.
 */
const keepingEnvironment = async <T>(work: () => Promise<T>): Promise<T> => {
  const before = process.env.SOFTHSM2_CONF
  try {
    return await work()
  } finally {
    if (before === undefined) delete process.env.SOFTHSM2_CONF
    else process.env.SOFTHSM2_CONF = before
  }
}

/**
 * Makes the token beside its place and moves it there whole: a crash leaves a complete token or none, never one without its PIN.
 * @throws TokenError `module_not_loadable`, `token_exists`
 */
export const createToken = (target: TokenTarget & { kind: 'softhsm' }): Promise<TokenFacts> =>
  keepingEnvironment(async () => {
    if (existsSync(target.directory) && readdirSync(target.directory).length > 0)
      throw new TokenError('token_exists', `${target.directory} is not empty`, {
        hint: 'use the token that is there, or name an empty directory',
      })
    const scratchDirectory = `${target.directory}.new`
    rmSync(scratchDirectory, { recursive: true, force: true })
    try {
      makeDirectory(dirname(target.directory))
      const { label, modulePath } = target
      initSoftHsmToken({ directory: scratchDirectory, label, ...(modulePath === undefined ? {} : { modulePath }) })
      renameSync(scratchDirectory, target.directory)
      followMove(target.directory)
    } catch (error) {
      rmSync(scratchDirectory, { recursive: true, force: true })
      throw error
    }
    return tokenFacts(target)
  })

/** softhsm2.conf names its directory by its absolute path, and a root's token is meant to be carried away and back. */
const followMove = (directory: string): void => {
  const { confPath, tokenDirectory } = softHsmPaths(directory)
  const text = readFileSync(confPath, 'utf8')
  const moved = text.replace(/^directories\.tokendir = .*$/m, () => `directories.tokendir = ${tokenDirectory}`)
  if (moved !== text) writeFileSync(confPath, moved)
}

/** Opens, works, closes: never two at once. @throws TokenError, and whatever `work` throws */
export const withToken = <T>(target: TokenTarget, work: (token: CeremonyToken) => Promise<T>): Promise<T> =>
  keepingEnvironment(async () => {
    if (isMissing(target))
      throw new TokenError('token_not_found', `${target.directory} holds no token`, {
        hint: 'name the directory where the token is, or its URI',
      })
    if (target.kind === 'softhsm') followMove(target.directory)
    const { uri, confPath } = tokenFacts(target)
    const latchDirectory = target.kind === 'uri' ? target.latchDirectory : undefined
    await using token = await openCeremonyToken(uri, {
      ...(confPath === null ? {} : { softhsmConf: confPath }),
      ...(latchDirectory === undefined ? {} : { latchDirectory }),
    })
    return await work(token)
  })
