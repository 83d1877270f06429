// `agentca cert export`: a certificate in the form that another program takes. From the CA, which has no private keys, as PEM or DER; from
// the files of an identity on this machine as PKCS#12 with its key; trust anchors alone from either. Needs a server only for the first.
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Command, Option } from 'commander'
import { equalBytes } from '../base/bytes.ts'
import { messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { commonNameOf } from '../pki/names.ts'
import { parseOnePem, parsePem } from '../pki/pem.ts'
import { encodeKeyStore, encodeTrustStore, pkcs12Iterations } from '../pki/pkcs12.ts'
import { parseSerialHex } from '../pki/serial.ts'
import { type AdminClient, createAdminClient } from './admin-client.ts'
import { certificateBlocks, certificatePem, readCertificates } from './certificate-files.ts'
import { type ConnectionOptions, openConnection } from './connection.ts'
import { CliError } from './errors.ts'
import { readInputText, readSecret, unreadable, writeOutput } from './files.ts'
import type { CommandIo } from './io.ts'
import { withConnection } from './online.ts'
import { withOutput } from './output.ts'

interface ExportOptions extends ConnectionOptions {
  readonly format: 'pem' | 'der' | 'p12'
  readonly dir?: string
  readonly roots?: true
  readonly chain?: true
  readonly der?: true
  readonly file?: string
  readonly passwordFile?: string
  readonly name?: string
}

/** A password guards a key against whoever copies the file; around roots it is a formality, with keytool's own minimum. */
const minimumOf = (what: 'key' | 'roots'): number => (what === 'key' ? 12 : 6)

export const releasedPem = (certificate: string | null, serial: string): string => {
  if (certificate !== null) return certificate
  throw new CliError('usage', `${serial} was never released: there is no certificate`, {
    hint: `agentca cert show ${serial}`,
  })
}

const usage = (message: string, hint: string): CliError => new CliError('usage', message, { hint })

const isThere = (io: CommandIo, name: string): boolean => existsSync(resolve(io.cwd, name))

const missingIn = (directory: string, names: string): CliError =>
  new CliError('file_unreadable', `${directory} has no ${names}`, {
    hint: 'expected a directory as agentca enroll or agentca-agent makes it',
  })

/** The bundle is opened once, so that a renewal in between never gives a key with another's certificate. */
const textsIn = (io: CommandIo, directory: string): { readonly key: string; readonly certificates: string } => {
  const [bundle, key, certificates] = ['credential-bundle.pem', 'tls.key', 'tls.crt'].map(name => join(directory, name))
  if (isThere(io, bundle!)) {
    const text = readInputText(io, bundle!)
    return { key: text, certificates: text }
  }
  if (!isThere(io, key!) || !isThere(io, certificates!))
    throw missingIn(directory, 'credential-bundle.pem, or tls.key and tls.crt')
  return { key: readInputText(io, key!), certificates: readInputText(io, certificates!) }
}

const keyOf = (text: string, directory: string): KeyObject => {
  try {
    return createPrivateKey(text)
  } catch (error) {
    throw unreadable(directory, new Error(`no private key without a password: ${messageOf(error)}`))
  }
}

interface Identity {
  readonly key: KeyObject
  readonly certificates: readonly [Certificate, ...Certificate[]]
}

/** @throws CliError file_unreadable */
const identityIn = (io: CommandIo, directory: string): Identity => {
  const texts = textsIn(io, directory)
  const [leaf, ...issuers] = certificateBlocks(texts.certificates).map(block =>
    parseCertificate(parseOnePem(block, 'CERTIFICATE')),
  )
  if (leaf === undefined) throw missingIn(directory, 'certificate in its files')
  const key = keyOf(texts.key, directory)
  const spki = new Uint8Array(createPublicKey(key).export({ type: 'spki', format: 'der' }))
  if (equalBytes(spki, leaf.spkiDer)) return { key, certificates: [leaf, ...issuers] }
  throw new CliError('file_unreadable', `${directory}: the key is not that of the certificate`, {
    hint: 'export from a directory that agentca enroll or agentca-agent keeps',
  })
}

/** Aliases that Java can tell apart: it makes no difference between capitals and small letters. */
const distinctNames = (certificates: readonly Certificate[]): readonly string[] => {
  const names = certificates.map(({ subject }) => (commonNameOf(subject) ?? 'root').toLowerCase())
  return names.map((name, at) => (names.indexOf(name) === at ? name : `${name} (${at + 1})`))
}

/** From the file that is named, or asked for twice where somebody sits at a terminal: a typing error would lock the file for good. */
const givenPassword = async (io: CommandIo, { passwordFile }: ExportOptions): Promise<string> => {
  if (passwordFile !== undefined) return readSecret(io, passwordFile)
  if (!io.isTerminal || io.askSecret === undefined)
    throw usage(
      '--format p12 needs --password-file',
      'openssl rand -base64 24 > p12.password, and --password-file p12.password',
    )
  const password = await io.askSecret('password for the file')
  if (password === (await io.askSecret('the same again'))) return password
  throw usage('the two passwords differ', 'try again, or --password-file FILE')
}

const readPassword = async (io: CommandIo, options: ExportOptions, what: 'key' | 'roots'): Promise<string> => {
  const password = await givenPassword(io, options)
  if (password.length >= minimumOf(what) && /^[\x20-\x7e]+$/.test(password)) return password
  throw usage(
    `expected a password of at least ${minimumOf(what)} characters, ASCII only`,
    'openssl rand -base64 24; beyond ASCII programs disagree about the bytes of a password',
  )
}

const protectionOf = (password: string) => ({
  password,
  iterations: pkcs12Iterations,
  random: (length: number) => new Uint8Array(randomBytes(length)),
})

/** Called only where a server has to be asked. */
type Connect = () => AdminClient

const rootsOf = async (io: CommandIo, { dir }: ExportOptions, connect: Connect): Promise<readonly Certificate[]> => {
  if (dir !== undefined) {
    const file = join(dir, 'ca.crt')
    if (!isThere(io, file)) throw missingIn(dir, 'ca.crt')
    return readCertificates(io, file)
  }
  const { items } = await connect().call('issuersList')
  const roots = items.filter(each => each.kind === 'root' && each.state !== 'retired')
  return roots.flatMap(({ certificate }) => parsePem(certificate, 'CERTIFICATE')).map(parseCertificate)
}

/** What the options leave to be written. */
interface Exported {
  readonly certificates: readonly Certificate[]
  /** The CA keeps none. */
  readonly key: KeyObject | null
}

const exportedFrom = async (
  io: CommandIo,
  serial: string | undefined,
  options: ExportOptions,
  connect: Connect,
): Promise<Exported> => {
  if (options.roots === true) return { certificates: await rootsOf(io, options, connect), key: null }
  if (options.dir !== undefined) return identityIn(io, options.dir)
  const { certificate, chain } = await connect().call('certificatesShow', { params: { serial: serial as string } })
  const pem = releasedPem(certificate, serial as string) + chain
  return { certificates: parsePem(pem, 'CERTIFICATE').map(parseCertificate), key: null }
}

const checkOptions = (serial: string | undefined, { dir, roots, file, der }: ExportOptions, format: string): void => {
  const example = 'agentca cert export --dir DIR --format p12 --password-file FILE --file identity.p12'
  if (serial === undefined && dir === undefined && roots === undefined)
    throw usage('expected a serial, --dir or --roots', example)
  if (serial !== undefined && (dir !== undefined || roots === true))
    throw usage('a serial goes without --dir and --roots', example)
  if (serial !== undefined && format === 'p12')
    throw usage('the CA has no private keys: p12 is made where the identity is', example)
  if (format !== 'pem' && file === undefined)
    throw usage(
      `${der === true ? '--der' : `--format ${format}`} needs --file: standard output is text`,
      '--file FILE, which must not exist yet',
    )
}

const contentOf = async (
  io: CommandIo,
  { certificates, key }: Exported,
  options: ExportOptions,
  format: ExportOptions['format'],
): Promise<string | Uint8Array> => {
  const [leaf] = certificates as readonly [Certificate, ...Certificate[]]
  const whole = options.roots === true || options.chain === true
  if (format === 'pem') return (whole ? certificates : [leaf]).map(certificatePem).join('')
  if (format === 'der') {
    if (options.roots !== true || certificates.length === 1) return leaf.der
    throw usage(`DER holds one certificate, and there are ${certificates.length} roots`, '--format pem, or p12')
  }
  const protection = protectionOf(await readPassword(io, options, key === null ? 'roots' : 'key'))
  if (key === null) {
    const names = distinctNames(certificates)
    return encodeTrustStore(
      certificates.map(({ der }, at) => ({ certificate: der, name: names[at] as string })),
      protection,
    )
  }
  return encodeKeyStore(
    {
      privateKey: new Uint8Array(key.export({ type: 'pkcs8', format: 'der' })),
      certificates: certificates.map(({ der }) => der),
      name: options.name ?? commonNameOf(leaf.subject) ?? leaf.serialHex,
    },
    protection,
  )
}

export const exportCommand = (io: CommandIo): Command => {
  const command = withConnection(withOutput(new Command('export'), ['pem']))
    .description('a certificate for another program: one that was issued, the identity in a directory, or the roots')
    .argument('[serial]', 'from the CA', parseSerialHex)
    .addOption(new Option('--format <format>', 'p12 has the key too').choices(['pem', 'der', 'p12']).default('pem'))
    .option('--dir <dir>', 'the identity in this directory of agentca enroll or agentca-agent; needs no server')
    .option('--roots', 'the trust anchors instead: of --dir, or of the CA')
    .option('--chain', 'PEM with the certificates of its issuers')
    .addOption(new Option('--der', 'the same as --format der').conflicts('chain'))
    .option('--file <file>', 'write there; a file that exists is not overwritten')
    .option(
      '--password-file <file>',
      'of a p12: file with its password, or - for standard input; default: asks at the terminal',
    )
    .option('--name <name>', 'of the entry in a p12, its alias in Java; default: the common name')
  return command.action(async (serial: string | undefined) => {
    const options = command.opts<ExportOptions>()
    const format = options.der === true ? 'der' : options.format
    checkOptions(serial, options, format)
    const connect: Connect = () => createAdminClient(openConnection(io, options))
    const exported = await exportedFrom(io, serial, options, connect)
    const content = await contentOf(io, exported, options, format)
    if (options.file === undefined) io.out(content as string)
    else writeOutput(io, options.file, content, exported.key === null || format !== 'p12' ? undefined : 0o600)
  })
}
