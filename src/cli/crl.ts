// `agentca crl …`
import { createHash } from 'node:crypto'
import { Command, Option } from 'commander'
import { toHex } from '../base/bytes.ts'
import { messageOf } from '../base/errors.ts'
import { type Certificate, parseCertificate } from '../pki/certificate.ts'
import { type Crl, parseCrl } from '../pki/crl.ts'
import { equalNames, nameToString, parseName } from '../pki/names.ts'
import { encodePem, parseOnePem } from '../pki/pem.ts'
import { checkSignature } from '../pki/signature.ts'
import type { CrlAnswer } from '../schema/admin-answers.ts'
import { createAdminClient } from './admin-client.ts'
import { readCertificates } from './certificate-files.ts'
import { withDryRun } from './confirmation.ts'
import { type ConnectionOptions, openConnection } from './connection.ts'
import { CliError } from './errors.ts'
import { fetchOk } from './fetch-url.ts'
import { writeOutput } from './files.ts'
import type { CommandIo } from './io.ts'
import { online, withConnection } from './online.ts'
import { members, type OutputOptions, type View, withOutput, writeOne, writeRows } from './output.ts'
import { spanText } from './span.ts'

/** Age and remaining life are what an operator looks for; times are in the JSON. */
export const crlView = (now: number): View<CrlAnswer> => ({
  columns: [
    ...members<CrlAnswer>('issuer', 'shard', 'number', 'entries', 'thisUpdate', 'nextUpdate'),
    { name: 'age', value: row => spanText(now - Date.parse(row.thisUpdate)) },
    { name: 'left', value: row => spanText(Date.parse(row.nextUpdate) - now) },
    ...members<CrlAnswer>('bytes', 'url'),
  ],
  name: row => (row.shard === null ? row.issuer : `${row.issuer}/${row.shard}`),
})

const statusCommand = (io: CommandIo): Command =>
  online(io, new Command('status').description('the latest CRL of every CA'), async ({ client, format }) => {
    const { items } = await client.call('crlStatus')
    writeRows(io, format, items, crlView(Date.now()))
    const late = items.filter(each => Date.parse(each.nextUpdate) <= Date.now())
    if (late.length === 0) return
    io.setExitCode(10)
    io.err(`past its nextUpdate: ${late.map(crlView(0).name).join(', ')}\n  hint: agentca crl publish\n`)
  })

const publishCommand = (io: CommandIo): Command =>
  online<{ readonly dryRun?: true }>(
    io,
    withDryRun(new Command('publish').description('sign and publish new CRLs now')),
    async ({ client, options: { dryRun }, format }) => {
      const { items } = dryRun ? await client.call('crlStatus') : await client.call('crlPublish', { body: {} })
      writeRows(io, format, items, crlView(Date.now()))
      if (dryRun) io.err('dry run, nothing was signed: these are followed by new ones\n')
    },
  )

interface FetchedCrl {
  readonly url: string
  readonly issuer: string
  readonly number: string | null
  readonly thisUpdate: string
  readonly nextUpdate: string | null
  readonly entries: number
  readonly sha256: string
  readonly bytes: number
  /** Whose key the signature was checked with. */
  readonly signature: 'checked' | 'not checked'
  readonly pem: string
}

const fetchedView: View<Omit<FetchedCrl, 'pem'> & { readonly pem?: string }> = {
  columns: members('url', 'issuer', 'number', 'thisUpdate', 'nextUpdate', 'entries', 'sha256', 'bytes', 'signature'),
  name: row => row.sha256,
  pem: row => row.pem ?? '',
}

/** @throws CliError verification_failed */
const checkCrl = (crl: Crl, issuers: readonly Certificate[], url: string): 'checked' | 'not checked' => {
  if (issuers.length === 0) return 'not checked'
  const issuer = issuers.find(each => equalNames(each.subjectDer, crl.issuerName))
  if (issuer === undefined)
    throw new CliError('verification_failed', `${url} is a CRL of ${nameToString(parseName(crl.issuerName))}`, {
      hint: 'name the CA certificate that issued it',
    })
  try {
    checkSignature(issuer.spki, crl.signatureAlgorithm, crl.tbs, crl.signature)
  } catch (error) {
    throw new CliError('verification_failed', `${url}: ${messageOf(error)}`, { cause: error })
  }
  return 'checked'
}

const fetchCrl = async (url: string, issuers: readonly Certificate[]): Promise<FetchedCrl> => {
  const der = await fetchOk(url)
  const crl = parseCrl(der)
  return {
    url,
    issuer: nameToString(parseName(crl.issuerName)),
    number: crl.crlNumber === null ? null : String(crl.crlNumber),
    thisUpdate: new Date(crl.thisUpdate).toISOString(),
    nextUpdate: crl.nextUpdate === null ? null : new Date(crl.nextUpdate).toISOString(),
    entries: crl.size,
    sha256: toHex(createHash('sha256').update(der).digest()),
    bytes: der.length,
    signature: checkCrl(crl, issuers, url),
    pem: encodePem('X509 CRL', der),
  }
}

interface FetchOptions extends ConnectionOptions, OutputOptions {
  readonly from?: string
  readonly caFile?: string
  readonly file?: string
}

/** Which list, and whose key it has to be signed with. */
const sourceOf = async (
  io: CommandIo,
  name: string | undefined,
  options: FetchOptions,
): Promise<{ readonly url: string; readonly issuers: readonly Certificate[] }> => {
  const given = options.caFile === undefined ? [] : readCertificates(io, options.caFile)
  if (options.from !== undefined) return { url: options.from, issuers: given }
  if (name === undefined) throw new CliError('usage', 'expected the name of an issuing CA, or --from URL')
  const client = createAdminClient(openConnection(io, options))
  const found = (await client.call('crlStatus')).items.find(each => each.issuer === name)
  if (found?.url == null)
    throw new CliError('usage', `no published CRL of a CA named ${name}`, { hint: 'agentca crl status' })
  const { certificate } = await client.call('issuersShow', { params: { name } })
  return { url: found.url, issuers: [...given, parseCertificate(parseOnePem(certificate, 'CERTIFICATE'))] }
}

const fetchCommand = (io: CommandIo): Command => {
  const command = withConnection(withOutput(new Command('fetch'), ['table', 'json', 'pem']))
    .description('fetch a published CRL as a relying party would, and check its signature')
    .argument('[name]', 'name of the CA, asked of the server')
    .addOption(new Option('--from <url>', 'fetch from there instead; needs no server'))
    .option('--ca-file <file>', 'certificate of its issuer, for --from')
    .option('--file <file>', 'write the PEM there')
  return command.action(async (name: string | undefined) => {
    const options = command.opts<FetchOptions>()
    const { url, issuers } = await sourceOf(io, name, options)
    const { pem, ...facts } = await fetchCrl(url, issuers)
    if (options.file !== undefined) writeOutput(io, options.file, pem)
    writeOne(io, options.output, options.output === 'pem' ? { ...facts, pem } : facts, fetchedView)
    if (facts.signature === 'not checked') io.err('the signature was not checked: name its issuer with --ca-file\n')
  })
}

export const crlCommand = (io: CommandIo): Command =>
  new Command('crl')
    .description('certificate revocation lists')
    .addCommand(statusCommand(io))
    .addCommand(publishCommand(io))
    .addCommand(fetchCommand(io))
