// What doctor finds on the machine itself, with or without a server: runtime, configuration, disk, files and their permissions, the CA
// certificates and CRLs as they lie in the home. Reads only, and never a secret.
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statfsSync,
  statSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { isAgentCaError, messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { parseCrl } from '../pki/crl.ts'
import { parseOnePem } from '../pki/pem.ts'
import type { HomePaths } from '../server/home.ts'
import { parsePkcs11Uri } from '../signer/pkcs11-uri.ts'
import { defaultSofthsmModule, softHsmPaths } from '../signer/softhsm-token.ts'
import { loadConfig } from './config-file.ts'
import { type Check, checkCrlAge, checkLifetime, failed, ok, skipped, warn } from './doctor-check.ts'
import { isCheckout } from './home.ts'
import type { CommandIo } from './io.ts'
import { isOpen, lookAsOwner, presenceOf } from './presence.ts'

const checkNode = (): Check => {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const fits = major > 24 || (major === 24 && minor >= 17)
  const what = `Node ${process.versions.node}`
  return fits
    ? ok('node', what)
    : failed('node', `${what}, expected 24.17 or later`, 'install a newer Node, or use bin/agentca')
}

const checkConfig = (io: CommandIo, flag: string | undefined): Check => {
  try {
    const { file } = loadConfig(io, flag)
    return ok('configuration', file ?? 'no file: defaults and environment')
  } catch (error) {
    return failed('configuration', messageOf(error), 'correct the file; ca-config/agentca.yaml shows every key')
  }
}

const checkClock = (issuers: readonly Certificate[], now: number): Check => {
  const early = issuers.find(each => each.notBefore > now)
  if (early === undefined) return ok('clock', new Date(now).toISOString())
  return failed(
    'clock',
    `${new Date(now).toISOString()} is before the CA certificate ${early.serialHex} begins`,
    'set the clock; systems keep it right with chrony or systemd-timesyncd',
  )
}

const gibibyte = 2 ** 30

const checkDisk = (paths: HomePaths): Check => {
  const { bavail, bsize, blocks } = statfsSync(paths.home)
  const free = bavail * bsize
  const what = `${(free / gibibyte).toFixed(1)} GiB free (${Math.round((bavail / blocks) * 100)} %) under ${paths.home}`
  const cure = 'make room: without it nothing is recorded, and what is not recorded is not issued'
  if (free < gibibyte / 8) return failed('disk', what, cure)
  return free < gibibyte ? warn('disk', what, cure) : ok('disk', what)
}

/** The header says it without opening the ledger, which belongs to one process: the read version is 2 in WAL mode. */
const checkDatabase = (paths: HomePaths): Check => {
  if (presenceOf(paths.database) === 'not permitted')
    return failed('database', `not permitted to look at ${paths.database}`, lookAsOwner(paths.database))
  if (!existsSync(paths.database))
    return failed(
      'database',
      `${paths.database} is not there`,
      isCheckout ? 'npm start, or agentca init' : 'agentca init',
    )
  const header = Buffer.alloc(100)
  const file = openSync(paths.database, 'r')
  try {
    readSync(file, header, 0, header.length, 0)
  } finally {
    closeSync(file)
  }
  if (header.toString('latin1', 0, 15) !== 'SQLite format 3')
    return failed('database', `${paths.database} is no SQLite database`, 'restore it from a backup')
  if (header[19] !== 2)
    return failed(
      'database',
      `${paths.database} is not in WAL mode`,
      'agentca serve sets it; nothing else may write it',
    )
  return ok('database', `${paths.database}, ${(statSync(paths.database).size / 2 ** 20).toFixed(1)} MiB, WAL`)
}

const groupAndOthers = 0o077

const checkMode = (path: string, mode: '700' | '600'): readonly Check[] => {
  if (!existsSync(path)) return []
  const stat = statSync(path)
  const found = (stat.mode & 0o777).toString(8)
  if ((stat.mode & groupAndOthers) === 0) return [ok('permissions', `${path} ${found}`)]
  return [failed('permissions', `${path} is ${found}, expected ${mode}`, `chmod ${mode} ${path}`)]
}

/** PINs, tokens and the API's own keys: whoever reads them needs no HSM. */
const secretName = /\.(?:pin|token)$|^(?:credential-bundle|next-key)\.pem$/

const secretFiles = (directory: string): readonly string[] => {
  if (!existsSync(directory)) return []
  try {
    return readdirSync(directory)
      .filter(name => secretName.test(name))
      .map(name => join(directory, name))
  } catch {
    // Another user's directory: its files are as closed to others as this one is to us.
    return []
  }
}

const checkPermissions = (paths: HomePaths): readonly Check[] => {
  const directories = [paths.home, paths.run, paths.tokens, paths.signer, paths.api, paths.rootCeremony]
  return [
    ...directories.flatMap(path => checkMode(path, '700')),
    ...[paths.adminSocket, paths.signerSocket, paths.frontSocket].flatMap(path => checkMode(path, '600')),
    ...directories.flatMap(secretFiles).flatMap(path => checkMode(path, '600')),
  ]
}

const isReadable = (path: string): boolean => {
  try {
    accessSync(path, constants.R_OK)
    return true
  } catch {
    return false
  }
}

const checkRootCeremony = (paths: HomePaths): Check => {
  const path = paths.rootCeremony
  if (presenceOf(path) === 'absent') return ok('root key', 'the root’s token is not on this machine')
  if (!isReadable(path)) return ok('root key', `${path} is closed to this user`)
  return warn(
    'root key',
    `this user can read the root’s token and PIN in ${path}`,
    `move it to media that is kept offline: cp -a ${path} /media/OFFLINE/ && rm -r ${path}`,
  )
}

/** What this user could read of it would be no use to keep apart. */
const checkSeparateSigner = (socket: string, paths: HomePaths): Check => {
  if (existsSync(paths.tokens))
    return failed(
      'hsm',
      `${paths.tokens} is still there, readable by this user`,
      `rm -r ${paths.tokens}, once the signer has its own copy: agentca hsm status`,
    )
  if (!existsSync(socket)) return failed('hsm', `no signer listens on ${socket}`, 'systemctl start agentca-signer')
  return ok('hsm', `a signer under a user of its own, on ${socket}`)
}

const checkToken = (io: CommandIo, flag: string | undefined, paths: HomePaths): Check => {
  try {
    const { config } = loadConfig(io, flag)
    const module = config.hsm.uri === undefined ? defaultSofthsmModule : parsePkcs11Uri(config.hsm.uri).modulePath
    if (!existsSync(module))
      return failed('hsm', `the PKCS#11 module ${module} is not there`, 'install it; npm start does')
    if (config.hsm.uri !== undefined) return ok('hsm', `module ${module}`)
    if (config.signer.socket !== undefined) return checkSeparateSigner(config.signer.socket, paths)
    const { tokenDirectory } = softHsmPaths(paths.tokens)
    if (presenceOf(tokenDirectory) === 'not permitted')
      return failed('hsm', `not permitted to look into ${paths.tokens}`, lookAsOwner(tokenDirectory))
    const tokens = existsSync(tokenDirectory) ? readdirSync(tokenDirectory).length : 0
    if (tokens === 0) return failed('hsm', `no token in ${tokenDirectory}`, 'agentca init')
    return ok('hsm', `module ${module}, a token in ${tokenDirectory}`)
  } catch (error) {
    return isAgentCaError(error)
      ? failed('hsm', messageOf(error), 'correct hsm.uri in the configuration')
      : failed('hsm', messageOf(error), 'run doctor as the user that runs the server')
  }
}

export interface CaFile {
  readonly name: string
  readonly certificate: Certificate
}

/** CA certificates as ceremonies left them in the home. */
export const readCaFiles = (paths: HomePaths): readonly CaFile[] => {
  if (presenceOf(paths.issuers) === 'absent') return []
  return readdirSync(paths.issuers)
    .filter(name => name.endsWith('.pem') && !name.endsWith('.pub.pem'))
    .sort()
    .map(name => ({
      name: basename(name, '.pem'),
      certificate: parseCertificate(parseOnePem(readFileSync(join(paths.issuers, name), 'utf8'), 'CERTIFICATE')),
    }))
}

export const kindOf = (certificate: Certificate): 'root' | 'issuing' =>
  Buffer.compare(certificate.issuerDer, certificate.subjectDer) === 0 ? 'root' : 'issuing'

const checkPublishedCrl = (paths: HomePaths, { name, certificate }: CaFile, now: number): Check => {
  const file = join(paths.status, 'crl', `${name}.crl`)
  const kind = kindOf(certificate)
  if (!existsSync(file))
    return warn('crl age', `no published CRL of ${name}`, kind === 'root' ? 'agentca ceremony crl' : 'agentca serve')
  const { thisUpdate, nextUpdate } = parseCrl(new Uint8Array(readFileSync(file)))
  return checkCrlAge(name, kind, { thisUpdate, nextUpdate: nextUpdate ?? thisUpdate }, now)
}

/** One broken file is one failed check, not the end of the examination. */
const attempt = (check: string, examine: () => Check | readonly Check[]): readonly Check[] => {
  try {
    const found = examine()
    return 'check' in found ? [found] : found
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException
    if ((code === 'EACCES' || code === 'EPERM') && path !== undefined)
      return [failed(check, `not permitted to look at ${path}`, lookAsOwner(path))]
    return [failed(check, messageOf(error), 'run doctor as the user that runs the server')]
  }
}

/**
 * @param serverAnswers then CAs, CRLs and token are asked of the server, which knows better
 */
export const checkMachine = (
  io: CommandIo,
  paths: HomePaths,
  options: { readonly config: string | undefined; readonly serverAnswers: boolean; readonly now: number },
): readonly Check[] => {
  const { config, serverAnswers, now } = options
  const before = [checkNode(), ...attempt('configuration', () => checkConfig(io, config))]
  const home = presenceOf(paths.home)
  if (home === 'not permitted' || (home === 'there' && !isOpen(paths.home)))
    return [
      ...before,
      failed('home', `not permitted to look into ${paths.home}`, lookAsOwner(paths.home)),
      skipped('files', 'what is in the home, and how it is protected, only its owner can see'),
    ]
  if (home === 'absent')
    return [
      ...before,
      failed('home', `${paths.home} is not there`, isCheckout ? 'npm start, or agentca init' : 'agentca init'),
    ]
  const issuers = (): readonly CaFile[] => readCaFiles(paths)
  return [
    ...before,
    ...attempt('disk', () => checkDisk(paths)),
    ...attempt('database', () => checkDatabase(paths)),
    ...attempt('permissions', () => checkPermissions(paths)),
    ...attempt('root key', () => checkRootCeremony(paths)),
    ...(serverAnswers
      ? []
      : [
          ...attempt('clock', () =>
            checkClock(
              issuers().map(each => each.certificate),
              now,
            ),
          ),
          ...attempt('hsm', () => checkToken(io, config, paths)),
          ...attempt('ca lifetime', () =>
            issuers().map(({ name, certificate }) =>
              checkLifetime(name, kindOf(certificate), certificate.notAfter, now),
            ),
          ),
          ...attempt('crl age', () => issuers().map(each => checkPublishedCrl(paths, each, now))),
          skipped('keys', 'only a running server can look into the token'),
        ]),
  ]
}
